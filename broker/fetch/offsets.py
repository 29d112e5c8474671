"""ListOffsets: positions and offsets by timestamp.

Owns: latest and earliest come from a database read begun after the request arrived. By timestamp: the database names
the first extent whose largest timestamp is late enough, its batch headers narrow it to one batch, and that batch's
records are looked at in a bounded worker. Source: Kafka's `LogSegment.findOffsetByTimestamp`, KIP-79, KIP-734.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from broker.fetch.block_cache import StoredObject
from broker.fetch.shard_reads import Answer, Question, ShardReads
from broker.fetch.spans import BadExtent, Span
from broker.objects.port import Corrupt, ObjectStoreError
from broker.services import OffsetAnswer, Workers
from catalog.database import DatabaseError
from catalog.extents import PlacedExtent
from catalog.sequence import Extent
from schemas.kafka.batch import BatchHeader, read_header

log = structlog.get_logger(__name__)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
KAFKA_STORAGE_ERROR = 56

NOT_FOUND = OffsetAnswer(0, -1, -1)


class TimeReads(Protocol):
    """The extent that a timestamp query needs (catalog.extents). Each answer is from a snapshot of its own."""

    async def first_from_time(self, topic: int, shard: int, timestamp: int, above: int = 0) -> PlacedExtent | None:
        """The first extent that ends above the log start and `above`, with timestamp_max >= timestamp."""
        ...

    async def of_max_time(self, topic: int, shard: int) -> PlacedExtent | None:
        """The first extent with the largest timestamp_max."""
        ...


FirstAtLeast = Callable[[memoryview, int, int], tuple[int, int] | None]
"""(batch with its real base offset, timestamp, log start) -> (offset, timestamp) of its first record at or after both."""


class OffsetFinder:
    """See the module. `read` brings an extent into memory (the reader's)."""

    def __init__(self, reads: ShardReads, times: TimeReads, first_at_least: FirstAtLeast, workers: Workers) -> None:
        self._reads = reads
        self._times = times
        self._first_at_least = first_at_least
        self._workers = workers
        self.read: Callable[[Extent, StoredObject | None], Awaitable[Span]] | None = None

    async def find(self, queries: Sequence[tuple[int, int, int]]) -> list[OffsetAnswer]:
        """One answer per (topic, shard, timestamp); failures are per answer."""
        try:
            bounds = await self._reads.ask([Question(topic, shard, -1, 0) for topic, shard, _ in queries])
        except DatabaseError as error:
            log.warning("offsets could not be read", error=str(error))
            return [OffsetAnswer(KAFKA_STORAGE_ERROR, -1, -1) for _ in queries]
        return [await self._answer(query, answer) for query, answer in zip(queries, bounds, strict=True)]

    async def _answer(self, query: tuple[int, int, int], bounds: Answer | None) -> OffsetAnswer:
        topic, shard, timestamp = query
        if bounds is None:
            return OffsetAnswer(UNKNOWN_TOPIC_OR_PARTITION, -1, -1)
        if timestamp == LATEST:
            return OffsetAnswer(0, bounds.high_watermark, -1)
        if timestamp in (EARLIEST, EARLIEST_LOCAL):
            return OffsetAnswer(0, bounds.log_start, -1)
        if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
            return NOT_FOUND
        try:
            if timestamp != MAX_TIMESTAMP:
                return await self._first_from(query, bounds.log_start)
            placed = await self._times.of_max_time(topic, shard)
            found = placed and await self._by_time(placed.extent.timestamp_max, placed, bounds.log_start)
            return found or NOT_FOUND
        except (ObjectStoreError, DatabaseError, BadExtent, ValueError) as error:
            log.error("offset by timestamp failed", error=str(error), error_type=type(error).__name__)
            corrupt = isinstance(error, Corrupt | ValueError)
            return OffsetAnswer(CORRUPT_MESSAGE if corrupt else KAFKA_STORAGE_ERROR, -1, -1)

    async def _first_from(self, query: tuple[int, int, int], start: int) -> OffsetAnswer:
        """Extent by extent: what is new enough in one may lie below the log start, or be gone by compaction."""
        topic, shard, timestamp = query
        above = start
        while (placed := await self._times.first_from_time(topic, shard, timestamp, above)) is not None:
            found = await self._by_time(timestamp, placed, start)
            if found is not None:
                return found
            above = placed.extent.offset_next
        return NOT_FOUND

    async def _by_time(self, target: int, placed: PlacedExtent, start: int) -> OffsetAnswer | None:
        assert self.read is not None, "the agent wires the reader in"
        span = await self.read(placed.extent, StoredObject(placed.object_name))
        for position in range(len(span.ends)):
            batch = span.batch_at(position)
            header = read_header(batch)
            if header.max_timestamp < target or span.nexts[position] <= start or header.record_count == 0:
                continue
            found = await self._in_batch(batch, header, target, start)
            if found is not None:
                return OffsetAnswer(0, *found)
        return None

    async def _in_batch(
        self, batch: memoryview, header: BatchHeader, target: int, start: int
    ) -> tuple[int, int] | None:
        whole = header.record_count == header.last_offset_delta + 1
        if header.append_time and whole:  # all records of the batch carry the append time
            return max(header.base_offset, start), header.max_timestamp
        return await self._workers.run(lambda: self._first_at_least(batch, target, start))
