"""What key compaction has done in this process, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(slots=True)
class KeyedCounts:
    """Totals since the start, but for the last three."""

    rounds: int = 0
    rounds_ended: int = 0
    """Without reaching their end: others changed the extents, or the topic's policy."""
    records_read: int = 0
    records_removed: int = 0
    tombstones_removed: int = 0
    batches_unreadable: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    swaps_dropped: int = 0
    due: int = 0
    """Shards that waited for a round when they were last looked at."""
    ratio_max: float = 0.0
    """The largest share of bytes to compact, as of then."""
    last_success_s: float | None = None
    """Monotonic time when there was last nothing left to do."""

    def metrics(self) -> Iterator[Metric]:
        """As Prometheus' families."""
        for name, text, value in (
            ("rounds", "Rounds of key compaction that were finished.", self.rounds),
            ("rounds_ended", "Rounds that others' changes ended early.", self.rounds_ended),
            ("records_read", "Records that rounds looked at.", self.records_read),
            (
                "records_removed",
                "Records that newer ones of their keys replaced, and tombstones.",
                self.records_removed,
            ),
            ("tombstones_removed", "Tombstones past delete.retention.ms that were removed.", self.tombstones_removed),
            (
                "batches_unreadable",
                "Batches left as they are, because their records can't be read.",
                self.batches_unreadable,
            ),
            ("replaced_bytes", "Bytes of extents that were replaced.", self.bytes_before),
            ("written_bytes", "Bytes of what took their place.", self.bytes_after),
            ("swaps_dropped", "Objects written in vain: others had changed their inputs.", self.swaps_dropped),
        ):
            yield CounterMetricFamily(f"neve_key_compaction_{name}", text, value=value)
        yield GaugeMetricFamily(
            "neve_key_compaction_due",
            "Partitions that waited for a round when they were last looked at.",
            value=self.due,
        )
        yield GaugeMetricFamily(
            "neve_key_compaction_dirty_ratio_max",
            "The largest share of bytes to compact, as of then.",
            value=self.ratio_max,
        )
