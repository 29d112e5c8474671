"""Reads the next part of a topic's log straight from the object store: the cold path, with no broker in between.

Invariants owned here: a slice is contiguous per partition from the offset asked for (a gap is said, never
jumped); its bytes are bounded; ranges of one object that lie close together cost one GET.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.objects.port import ObjectStore
from catalog.extents import ExtentStore, PlacedExtent, ShardQuery
from lakehouse.decode import StoredRun

GAP_BYTES_MAX = 64 * 1024
"""Bytes of others between two ranges of one object that are read along rather than with a second GET."""


class LogGap(Exception):
    """The log doesn't go on at the offset that is next, although it should."""


class RecordsDeleted(Exception):
    """The log of these partitions begins behind the offset that is next: retention or somebody deleted what lay between.

    `starts`: partition -> log start.
    """

    def __init__(self, starts: Mapping[int, int]) -> None:
        super().__init__(f"records were deleted in front of {dict(starts)}")
        self.starts = dict(starts)


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Adjacent extents of a topic with their bytes."""

    runs: Mapping[int, tuple[StoredRun, ...]]
    """Partition -> runs in offset order, contiguous."""
    bytes: int
    """Bytes of the runs."""

    def offset_next(self, partition: int, position: int) -> int:
        """Where the partition's runs end; `position` where it has none."""
        runs = self.runs.get(partition, ())
        return runs[-1].offset_next if runs else position


@dataclass(frozen=True, slots=True)
class SliceLimits:
    """Bounds of one slice."""

    bytes_max: int
    extents_max: int = 4096
    reads_max: int = 4


class LogReader:
    """Slices of topics' logs."""

    def __init__(self, extents: ExtentStore, store: ObjectStore, limits: SliceLimits) -> None:
        self._extents = extents
        self._store = store
        self._limits = limits

    async def find(self, topic: int, positions: Mapping[int, int]) -> list[PlacedExtent]:
        """Extents from these positions on, oldest objects first, up to the byte bound; at least one where there is any.

        `positions` names only partitions that have records behind their position. Raises RecordsDeleted, LogGap.
        """
        if not positions:
            return []
        share = max(1, self._limits.bytes_max // len(positions))
        rows = max(1, self._limits.extents_max // len(positions))
        queries = [ShardQuery(topic, shard, positions[shard], share) for shard in sorted(positions)]
        waiting: list[list[PlacedExtent]] = []
        starts: dict[int, int] = {}
        for query, found in zip(queries, await self._extents.find_extents(queries, rows), strict=True):
            if found is None:
                continue
            if found.log_start > query.offset:
                starts[query.shard] = found.log_start
            elif not found.extents and found.high_watermark > query.offset:
                raise LogGap(f"partition {query.shard}: no extent holds the record at offset {query.offset}")
            elif found.extents:
                waiting.append(list(found.extents))
        if starts:
            raise RecordsDeleted(starts)
        return _oldest_first(waiting, self._limits.bytes_max)

    async def read(self, placed: Sequence[PlacedExtent]) -> LogSlice:
        """The bytes of these extents. Raises ObjectStoreError."""
        bodies = await self._bodies(placed)
        runs: dict[int, list[StoredRun]] = {}
        for one, body in zip(placed, bodies, strict=True):
            extent = one.extent
            run = StoredRun(extent.shard, extent.offset_first, extent.offset_next, body, extent.append_ms)
            runs.setdefault(extent.shard, []).append(run)
        return LogSlice(
            {shard: tuple(found) for shard, found in sorted(runs.items())},
            sum(one.extent.byte_length for one in placed),
        )

    async def _bodies(self, placed: Sequence[PlacedExtent]) -> list[memoryview]:
        bodies: list[memoryview] = [memoryview(b"")] * len(placed)
        free = asyncio.Semaphore(self._limits.reads_max)

        async def fetch(name: str, members: Sequence[int]) -> None:
            first = placed[members[0]].extent.byte_first
            last = max(placed[index].extent.byte_first + placed[index].extent.byte_length for index in members)
            async with free:
                body = memoryview(await self._store.get(name, first, last - first))
            for index in members:
                extent = placed[index].extent
                bodies[index] = body[extent.byte_first - first : extent.byte_first - first + extent.byte_length]

        async with asyncio.TaskGroup() as group:
            for name, members in group_reads(placed):
                group.create_task(fetch(name, members))
        return bodies


def group_reads(placed: Sequence[PlacedExtent]) -> list[tuple[str, list[int]]]:
    """(object name, indices of extents read with one GET), by object and byte."""
    order = sorted(range(len(placed)), key=lambda index: (placed[index].object_name, placed[index].extent.byte_first))
    groups: list[tuple[str, list[int]]] = []
    end = 0
    for index in order:
        name, extent = placed[index].object_name, placed[index].extent
        if groups and groups[-1][0] == name and extent.byte_first - end <= GAP_BYTES_MAX:
            groups[-1][1].append(index)
        else:
            groups.append((name, [index]))
        end = extent.byte_first + extent.byte_length
    return groups


def _oldest_first(waiting: list[list[PlacedExtent]], bytes_max: int) -> list[PlacedExtent]:
    """Heads of the partitions' queues by object id until the bound; each partition's part stays a prefix of its queue."""
    taken: list[PlacedExtent] = []
    size = 0
    heads = [(queue[0].extent.object_id, index, 0) for index, queue in enumerate(waiting)]
    heads.sort(reverse=True)
    while heads and size < bytes_max:
        _, index, at = heads.pop()
        one = waiting[index][at]
        taken.append(one)
        size += one.extent.byte_length
        if at + 1 < len(waiting[index]):
            _insert(heads, (waiting[index][at + 1].extent.object_id, index, at + 1))
    return taken


def _insert(heads: list[tuple[int, int, int]], head: tuple[int, int, int]) -> None:
    """Keep `heads` in descending order; nearly always the new head belongs to the end."""
    at = len(heads)
    while at > 0 and heads[at - 1] < head:
        at -= 1
    heads.insert(at, head)
