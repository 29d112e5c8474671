"""Object bytes in memory: bounded, block-aligned, one GET per block however many wait, checked when first read.

Owns: bytes held never exceed `bytes_max` by more than the entry just added; entries own their bytes (no connection's
receive buffer is kept alive); nothing read from the store is served before its CRC-32C has been checked, and the
object's own header must name the object that the metadata asked for. Checksums of the runs that a block holds whole are
computed in a worker; of others those of the batches, when their extent is first asked for. The agent's own segments go in
when they are committed, so tail readers never GET.

Two instances live in an agent: one for recent data, one, smaller and with its own bound on concurrent reads, for old
data, so that a backfill neither starves nor flushes out the tail.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeGuard

from crc32c import crc32c

from broker.fetch.spans import BadExtent, Span, make_span
from broker.objects.port import Buffer, Corrupt, ObjectStore
from broker.services import Workers
from catalog.sequence import Extent
from schemas.segment import PREFIX_BYTES, RunEntry, SegmentError, head_bytes, parse_segment

BlockKey = tuple[int, int]
"""(object id, block number); own segments are one entry with block number -1."""

WHOLE = -1
HEADS_MAX = 64
"""Objects whose runs are remembered, so that their later blocks can be checked by them, too."""
Ranges = Sequence[tuple[int, int]]
"""Sorted, half-open ranges of an object's bytes."""
EVERYTHING: Ranges = ((0, 2**63),)


class StoredObject(NamedTuple):
    """Where an object is: its key in the store, and its size where it is known here."""

    name: str
    bytes: int | None = None


class Block:
    """Bytes `[first, first + len(data))` of an object, where they are known to be right, and the extents in it that are
    ready to serve."""

    __slots__ = ("bytes", "checked", "data", "first", "spans")

    def __init__(self, data: bytearray | memoryview, first: int, checked: Ranges = ()) -> None:
        self.data = memoryview(data)
        self.bytes = len(data)
        self.first = first
        self.checked = checked
        self.spans: dict[int, Span] = {}

    def is_right(self, extent: Extent) -> bool:
        """True where the checksum over an extent's bytes has been computed already."""
        at = bisect_right(self.checked, (extent.byte_first, 2**63)) - 1
        return at >= 0 and extent.byte_first + extent.byte_length <= self.checked[at][1]


class BlockCache:
    """See the module. Not thread-safe: it belongs to the loop."""

    def __init__(
        self, store: ObjectStore, workers: Workers, *, bytes_max: int, block_bytes: int, reads_max: int
    ) -> None:
        self._store = store
        self._workers = workers
        self._bytes_max = bytes_max
        self._block_bytes = block_bytes
        self.reads_max = reads_max
        self._reads = asyncio.Semaphore(reads_max)
        self._blocks: OrderedDict[BlockKey, Block] = OrderedDict()
        self._loading: dict[BlockKey, asyncio.Task[Block]] = {}
        self._runs: OrderedDict[int, tuple[RunEntry, ...]] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.gets = 0

    def insert_own(self, object_id: int, data: bytearray, first: int) -> None:
        """Keep a segment this agent has just committed. `data` is its body, which begins at `first` in the object.

        The cache takes ownership: headers are patched in place when they are first read, so `data` must not be uploaded
        again afterwards.
        """
        self._add((object_id, WHOLE), Block(data, first, EVERYTHING))

    def span(self, extent: Extent) -> Span | None:
        """The extent, ready to serve, if its bytes are in memory. Raises BadExtent where they are not what they should be."""
        object_id = extent.object_id
        key = (object_id, WHOLE)
        block = self._blocks.get(key)
        if block is None:
            key = (object_id, extent.byte_first // self._block_bytes)
            block = self._blocks.get(key)
            if block is None:
                self.misses += 1
                return None
        span = block.spans.get(extent.byte_first)
        if span is None:
            span = self._make(key, extent, self._blocks)
            if span is None:
                self.misses += 1
                return None
        self._blocks.move_to_end(key)
        self.hits += 1
        return span

    def has(self, extent: Extent) -> bool:
        """True where all bytes of the extent are in memory."""
        if (extent.object_id, WHOLE) in self._blocks:
            return True
        first, last = self._numbers(extent)
        return all((extent.object_id, number) in self._blocks for number in range(first, last + 1))

    def missing(self, extent: Extent) -> list[BlockKey]:
        """The blocks of an extent that are not in memory."""
        if (extent.object_id, WHOLE) in self._blocks:
            return []
        first, last = self._numbers(extent)
        keys = [(extent.object_id, number) for number in range(first, last + 1)]
        return [key for key in keys if key not in self._blocks]

    async def load(self, extent: Extent, stored: StoredObject) -> Span:
        """Read what is missing of an extent and return it ready to serve. Raises the store's errors, Corrupt or BadExtent.

        The blocks are held here until the extent is made: others may push them out of a small cache meanwhile.
        """
        key = (extent.object_id, WHOLE)
        held = {key: self._blocks[key]} if key in self._blocks else {}
        if not held:
            first, last = self._numbers(extent)
            key = (extent.object_id, first)
            present = {(extent.object_id, n): self._blocks.get((extent.object_id, n)) for n in range(first, last + 1)}
            tasks = self.start(extent, stored)
            for wanted, block in present.items():
                held[wanted] = block if block is not None else await asyncio.shield(tasks[wanted])
        span = held[key].spans.get(extent.byte_first) or self._make(key, extent, held)
        assert span is not None, "every block of the extent is held"
        return span

    def start(self, extent: Extent, stored: StoredObject) -> dict[BlockKey, asyncio.Task[Block]]:
        """Begin reading what is missing of an extent; one task per block, shared by all who wait for it."""
        tasks: dict[BlockKey, asyncio.Task[Block]] = {}
        for key in self.missing(extent):
            task = self._loading.get(key)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._load(key, stored))
                self._loading[key] = task
                task.add_done_callback(self._loaded(key))
            tasks[key] = task
        return tasks

    @property
    def loading(self) -> int:
        """Reads running or queued."""
        return len(self._loading)

    def forget(self, extent: Extent) -> None:
        """Drop the blocks of an extent that turned out bad, so that the next read asks the store again."""
        first, last = self._numbers(extent)
        for number in (WHOLE, *range(first, last + 1)):
            block = self._blocks.pop((extent.object_id, number), None)
            if block is not None:
                self.bytes -= block.bytes

    async def close(self) -> None:
        """End running reads."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _numbers(self, extent: Extent) -> tuple[int, int]:
        size = self._block_bytes
        return extent.byte_first // size, (extent.byte_first + extent.byte_length - 1) // size

    def _loaded(self, key: BlockKey) -> Callable[[asyncio.Task[Block]], None]:
        def done(task: asyncio.Task[Block]) -> None:
            self._loading.pop(key, None)
            if not task.cancelled():
                task.exception()  # whoever waits gets it; a readahead that failed is asked again by the reader

        return done

    async def _load(self, key: BlockKey, stored: StoredObject) -> Block:
        object_id, number = key
        first = number * self._block_bytes
        async with self._reads:
            self.gets += 1
            data = await self._store.get(stored.name, first, self._block_bytes)
        end = first + len(data) if len(data) < self._block_bytes else None  # a short block is the object's last
        if stored.bytes is not None and end is not None and end != stored.bytes:
            raise Corrupt(f"{stored.name} ends at byte {end}, it should have {stored.bytes}")
        if first == 0:
            self._learn(object_id, _check_head(object_id, stored.name, data, stored.bytes or end))
        block = Block(data if _writable(data) else bytearray(data), first)
        runs = await self._runs_of(object_id)
        if runs:
            block.checked = await self._workers.run(partial(_right_runs, runs, block.data, first))
        self._add(key, block)
        return block

    def _learn(self, object_id: int, runs: tuple[RunEntry, ...]) -> None:
        self._runs[object_id] = runs
        while len(self._runs) > HEADS_MAX:
            self._runs.popitem(last=False)

    async def _runs_of(self, object_id: int) -> tuple[RunEntry, ...]:
        """The runs of an object, where its first block was read, or is being read."""
        head = self._loading.get((object_id, 0))
        if object_id not in self._runs and head is not None and head is not asyncio.current_task():
            await asyncio.wait([head])
        return self._runs.get(object_id, ())

    def _add(self, key: BlockKey, block: Block) -> None:
        before = self._blocks.pop(key, None)
        if before is not None:
            self.bytes -= before.bytes
        self._blocks[key] = block
        self.bytes += block.bytes
        while self.bytes > self._bytes_max and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self.bytes -= oldest.bytes

    def _make(self, key: BlockKey, extent: Extent, blocks: Mapping[BlockKey, Block]) -> Span | None:
        """Patch an extent in its block; one that reaches into the next of `blocks` gets bytes of its own."""
        object_id, block = key[0], blocks[key]
        at = extent.byte_first - block.first
        if at < 0:
            raise BadExtent(f"the extent begins at byte {extent.byte_first}, before the segment's body")
        data = block.data[at : at + extent.byte_length]
        if len(data) < extent.byte_length:
            if key[1] == WHOLE:
                raise BadExtent(f"the extent ends {extent.byte_length - len(data)} bytes behind the segment's body")
            pieces = [data]
            first, last = self._numbers(extent)
            missing = extent.byte_length - len(data)
            for number in range(first + 1, last + 1):
                after = blocks.get((object_id, number))
                if after is None:
                    return None
                pieces.append(after.data[:missing])
                missing -= len(pieces[-1])
            own = bytearray().join(pieces)
            data = memoryview(own)
            if self._blocks.get(key) is block:
                self.bytes += len(own)
                block.bytes += len(own)
        span = make_span(data, extent, verify=not block.is_right(extent))
        block.spans[extent.byte_first] = span
        return span


def _writable(data: Buffer) -> TypeGuard[bytearray | memoryview]:
    return isinstance(data, bytearray) or (isinstance(data, memoryview) and not data.readonly)


def _check_head(object_id: int, name: str, data: Buffer, object_bytes: int | None) -> tuple[RunEntry, ...]:
    """The object's own header, where the first block holds it all, must be whole and name the object asked for. Returns its
    runs, or none where the block is too small for it."""
    try:
        if len(data) < head_bytes(data[:PREFIX_BYTES], object_bytes):
            return ()
        segment = parse_segment(data, object_bytes)
    except SegmentError as error:
        raise Corrupt(f"{name}: {error}") from error
    if segment.agent_epoch << 32 | segment.sequence != object_id:
        raise Corrupt(f"{name} says it is object {segment.agent_epoch}/{segment.sequence}, not {object_id}")
    return segment.runs


def _right_runs(runs: Sequence[RunEntry], data: memoryview, first: int) -> Ranges:
    """Where runs have the bytes they were written with, among those wholly in a block that begins at `first`. Runs in a
    worker; of others, each extent is looked at by itself."""
    right = []
    for run in runs:
        at, stop = run.byte_first - first, run.byte_first - first + run.byte_length
        if at >= 0 and stop <= len(data) and crc32c(data[at:stop]) == run.crc:
            right.append((run.byte_first, run.byte_first + run.byte_length))
    return sorted(right)
