"""What a workload does, as values, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

ROUND_RECORDS = 100_000
"""A round ends early at this many records: what is remembered of single messages stays below."""


@dataclass(frozen=True)
class WorkloadPlan:
    """One workload. Times are seconds, rates records a second over all writers."""

    bootstrap: str
    seconds: float
    seed: int
    topic: str
    partitions: int = 4
    writers: int = 4
    readers: int = 2
    members: int = 3
    """Of one consumer group, which has a topic and a writer of its own; none without."""
    rate: float = 1_000.0
    value_bytes_max: int = 100
    round_s: float = 15.0
    settle_s: float = 60.0
    """Everything acknowledged must have been read this long after the writers paused."""
    delivery_s: float = 60.0
    spike: float = 1.0
    """The load is so many times as high from `spike_at_s` on, for `spike_for_s`."""
    spike_at_s: float = 0.0
    spike_for_s: float = 30.0
    audit: bool = True
    """Read the whole log once more at the end."""
    keep_topics: bool = False


@dataclass
class Outcome:
    """What came of a workload so far. `findings` are (rule, what is wrong); none means that every promise was kept."""

    seed: int
    topic: str
    seconds: float = 0.0
    rounds: int = 0
    sent: int = 0
    acked: int = 0
    read: int = 0
    consumed: int = 0
    """By members of the group."""
    given_up: int = 0
    audited: int = 0
    """Records read once more at the end."""
    agents_seen: int = 0
    judged: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)

    def found(self, rule: str, text: str) -> None:
        """One broken promise."""
        self.findings.append((rule, text))
