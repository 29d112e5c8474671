"""The batches of all connections and partitions that wait for the next flush.

Pure. Owns: arrival order inside a shard; bytes and distinct shards counted exactly. Bounded by the flush policy and the
writer's `unflushed_bytes_max`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.services import Append
from catalog.sequence import ShardKey


class Accumulator:
    """Gathers; `take` hands everything over, runs sorted by (topic, shard)."""

    __slots__ = ("_runs", "bytes", "first_s", "requests")

    def __init__(self) -> None:
        self._runs: dict[ShardKey, list[Append]] = {}
        self.bytes = 0
        self.first_s = 0.0
        self.requests = 0

    @property
    def shards(self) -> int:
        """Distinct shards waiting."""
        return len(self._runs)

    def add(self, items: Sequence[Append], now_s: float) -> int:
        """Take the batches of one request, in order; returns their bytes."""
        if not self._runs:
            self.first_s = now_s
        runs = self._runs
        added = 0
        for item in items:
            key = (item.topic, item.shard)
            run = runs.get(key)
            if run is None:
                runs[key] = [item]
            else:
                run.append(item)
            added += len(item.records)
        self.bytes += added
        self.requests += 1
        return added

    def take(self) -> list[list[Append]]:
        """Everything that waits, one list per shard, sorted by (topic, shard); the accumulator is empty afterwards."""
        runs = [self._runs[key] for key in sorted(self._runs)]
        self._runs = {}
        self.bytes = 0
        self.requests = 0
        return runs

    def remove(self, refused: Callable[[Append], bool]) -> list[Append]:
        """Take out the batches `refused` names (their connection lost an earlier one); returns them in order of shards."""
        out: list[Append] = []
        for key in list(self._runs):
            kept: list[Append] = []
            for item in self._runs[key]:
                (out if refused(item) else kept).append(item)
            if kept:
                self._runs[key] = kept
            else:
                del self._runs[key]
        self.bytes -= sum(len(item.records) for item in out)
        return out
