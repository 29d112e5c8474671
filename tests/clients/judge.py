"""Turns what drivers tell into a history and hands it to the checker of the simulation.

The checker knows a record by its index: drivers have compared key, value, headers and partition themselves. What clients
don't tell (watermarks, single batches) is filled in with what is harmless, so the rules about those judge nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from neve.simulation.checker import Verdict, check
from neve.simulation.history import Ack, History, Message, Poll, Read
from tests.clients.records import RecordSet, Run, expand

BATCH = 1000


@dataclass
class Runs:
    """What one client told of one topic, in the order told."""

    client: str
    runs: list[Run]

    @classmethod
    def of(cls, client: str, told: Iterable[Sequence[int]]) -> Runs:
        """From an answer's "runs"."""
        return cls(client, [Run(*each) for each in told])


@dataclass
class Case:
    """One topic: who sent which indexes, who was acknowledged what, who read what."""

    topic: str
    records: RecordSet
    idempotent: bool = True
    sent: dict[str, Iterable[int]] = field(default_factory=dict)
    """client -> indexes in the order sent."""
    acknowledged: list[Runs] = field(default_factory=list)
    read: list[Runs] = field(default_factory=list)

    def history(self) -> History:
        """As the checker wants it."""
        history = History({(self.topic, partition): False for partition in range(self.records.partitions)})
        for client, indexes in self.sent.items():
            for index in indexes:
                key = (self.topic, index % self.records.partitions)
                time_ms = self.records.time_ms + index
                history.sent(Message(key, b"%d" % index, client, index, time_ms, self.idempotent, True))
        for told in self.acknowledged:
            for run in told.runs:
                values = [b"%d" % index for _, index in expand(run, self.records.partitions)]
                for at in range(0, run.length, BATCH):  # the checker has a rule of its own for batches at offset 0
                    batch, key = tuple(values[at : at + BATCH]), (self.topic, run.partition)
                    history.acked(Ack(0.0, told.client, key, batch, run.offset + at, -1, 0))
        for told in self.read:
            for run in told.runs:
                process = f"{told.client} stint {run.stint}"
                got = tuple(
                    Read(offset, b"%d" % index, self.records.time_ms + index)
                    for offset, index in expand(run, self.records.partitions)
                )
                end = run.offset + run.length
                key = (self.topic, run.partition)
                history.polled(Poll(0.0, process, process, key, run.offset, 0, end, 0, got, 0))
        return history

    def verdict(self) -> Verdict:
        """What the checker says."""
        return check(self.history())

    def hold(self) -> None:
        """Fail on any finding, and where there was nothing to judge."""
        verdict = self.verdict()
        assert not verdict.findings, "\n".join(f"{finding.rule}: {finding.text}" for finding in verdict.findings)
        for rule in ("unseen", "duplicate", "reordered", "ack_offset", "never_written", "poll_skip"):
            assert verdict.judged[rule] or (rule == "duplicate" and not self.idempotent), f"{rule} judged nothing"


def log_of(told: Iterable[Sequence[int]], partitions: int) -> list[Run]:
    """Runs without stints, sorted and joined where they go on: equal for any two clients that saw the same log."""
    joined: list[Run] = []
    for each in sorted(Run(*each)._replace(stint=0) for each in told):
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.partition == each.partition
            and each.offset == last.offset + last.length
            and each.first == last.first + last.length * partitions
        ):
            joined[-1] = last._replace(length=last.length + each.length)
        else:
            joined.append(each)
    return joined
