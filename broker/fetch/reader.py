"""The read path of an agent (services.Reader): from memory at once where possible, else database, store, and waiting.

Owns: OFFSET_OUT_OF_RANGE and "unknown partition" are answered only from a database read begun after the request arrived;
a missing or corrupt extent fails its partition alone; nothing is skipped: once a partition's answer is cut short inside
an extent, it ends there. An extent whose object is gone was perhaps put elsewhere by compaction, or its records deleted:
its partition is planned once more, from a database read begun then.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from broker.fetch.block_cache import BlockCache, BlockKey, StoredObject
from broker.fetch.object_names import ObjectNames
from broker.fetch.offsets import OffsetFinder
from broker.fetch.planner import PlannedPart, ShardView, freeze, plan_fetch, replan
from broker.fetch.shard_reads import Answer, Question, ShardReads
from broker.fetch.spans import BadExtent, Span
from broker.fetch.tail_index import TailIndex
from broker.fetch.waiters import Waiters
from broker.objects.port import Corrupt, NotFound, ObjectStoreError
from broker.services import Clock, FetchedPart, FetchPart, OffsetAnswer
from catalog.database import DatabaseError
from catalog.sequence import Extent
from schemas.settings import Settings

log = structlog.get_logger(__name__)

OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
KAFKA_STORAGE_ERROR = 56
BLOCK_BYTES_SHARE = 2
"""Blocks read for one answer, as a multiple of the bytes it may have: it keeps every block it has a piece of in memory."""
LOOKS_MAX = 3
"""Looks in a row without waiting, for a database that answers less than was heard of."""


class FetchReader:
    """See the module. Everything shared with the write path and the poller comes in."""

    def __init__(
        self,
        index: TailIndex,
        hot: BlockCache,
        cold: BlockCache,
        names: ObjectNames,
        reads: ShardReads,
        waiters: Waiters,
        offsets: OffsetFinder,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._index = index
        self._hot = hot
        self._cold = cold
        self.names = names
        self._reads = reads
        self._waiters = waiters
        self._offsets = offsets
        self._clock = clock
        self._fetch_max_bytes = settings.fetch_max_bytes
        self._readahead_bytes = settings.readahead_bytes
        self._blocks_max = max(1, BLOCK_BYTES_SHARE * settings.fetch_max_bytes // settings.cache_block_bytes)
        self._read_s = settings.fetch_read_ms / 1000
        self.closing = False
        offsets.read = self.read_extent

    # services.Reader

    def fetch_now(self, parts: Sequence[FetchPart], min_bytes: int, max_bytes: int) -> list[FetchedPart] | None:
        """The answer if tail index and cache hold all of it and it has `min_bytes`."""
        views: list[ShardView] = []
        for part in parts:
            view = self._known(part)
            if view is None:
                return None
            views.append(view)
        planned, total = plan_fetch(parts, views, min(max_bytes, self._fetch_max_bytes))
        if total < min_bytes:
            return None
        answer: list[FetchedPart] = []
        length = 0
        for part, plan in zip(parts, planned, strict=True):
            served = self._serve_now(part, plan)
            if served is None:
                return None
            length += served.bytes
            answer.append(served)
        return answer if length >= min_bytes else None

    async def fetch(
        self, parts: Sequence[FetchPart], *, max_wait_ms: int, min_bytes: int, max_bytes: int
    ) -> list[FetchedPart]:
        """Answers in the order of `parts`, when there are `min_bytes`, an error, or the time is over."""
        if not parts:
            return []
        max_bytes = min(max_bytes, self._fetch_max_bytes)
        deadline_s = self._clock.monotonic() + max_wait_ms / 1000
        looks = 0
        while True:
            looks += 1
            views, readahead = await self._views(parts)
            planned, total = plan_fetch(parts, views, max_bytes)
            left_s = deadline_s - self._clock.monotonic()
            if total >= min_bytes or left_s <= 0 or self.closing or any(view.error for view in views):
                return await self._serve(parts, planned, readahead)
            if looks < LOOKS_MAX and self._moved(parts, views):
                continue  # committed while the database was read: nobody was waiting yet when its waiters were woken
            looks = 0
            await self._waiters.wait([(part.topic, part.shard) for part in parts], left_s)

    async def list_offsets(self, queries: Sequence[tuple[int, int, int]]) -> list[OffsetAnswer]:
        """See broker.fetch.offsets."""
        return await self._offsets.find(queries)

    # what is known of the shards

    def _known(self, part: FetchPart) -> ShardView | None:
        """The shard from the tail index, if the index covers the offset."""
        tail = self._index.tail((part.topic, part.shard))
        if tail is None or not tail.covers(part.offset):
            return None
        return ShardView(tail.seen, tail.log_start, tail.extents, tail.find(part.offset), len(tail.extents))

    def _moved(self, parts: Sequence[FetchPart], views: Sequence[ShardView]) -> bool:
        """True where the index has heard of more than one of these views shows."""
        for part, view in zip(parts, views, strict=True):
            tail = self._index.tail((part.topic, part.shard))
            if tail is not None and tail.seen > view.high_watermark:
                return True
        return False

    async def _views(self, parts: Sequence[FetchPart]) -> tuple[list[ShardView], list[Extent]]:
        """Each shard from the index where that covers the offset, all others from one read of the database.

        Also returns extents behind the asked ones that a sequential reader will want next.
        """
        known = [self._known(part) for part in parts]
        ask = [at for at, view in enumerate(known) if view is None]
        if not ask:
            return [view for view in known if view is not None], []
        # the index moves on while the database is read: keep what these answers are made of
        views = [
            freeze(view, part.max_bytes) if view else _failed(KAFKA_STORAGE_ERROR)
            for view, part in zip(known, parts, strict=True)
        ]
        readahead: list[Extent] = []
        questions = [  # at least one byte: a question for none is answered without extents
            Question(part.topic, part.shard, part.offset, max(part.max_bytes, 1) + self._readahead_bytes)
            for part in (parts[at] for at in ask)
        ]
        try:
            answers = await self._reads.ask(questions)
        except DatabaseError as error:
            log.warning("shards could not be read", error=str(error))
            return views, []
        for at, answer in zip(ask, answers, strict=True):
            views[at] = self._from_database(parts[at], answer, readahead)
        return views, readahead

    def _from_database(self, part: FetchPart, answer: Answer | None, readahead: list[Extent]) -> ShardView:
        """Judge an offset by a snapshot begun after the request: the only place that says "out of range"."""
        if answer is None:
            return _failed(UNKNOWN_TOPIC_OR_PARTITION)
        if not answer.log_start <= part.offset <= answer.high_watermark:
            return _failed(OFFSET_OUT_OF_RANGE)
        extents = answer.extents
        self.names.learn(answer.objects)
        self._index.seed((part.topic, part.shard), answer.high_watermark, answer.log_start, extents)
        if part.offset < answer.high_watermark and not (extents and extents[0].offset_first <= part.offset):
            log.error("no extent holds a committed offset", topic=part.topic, shard=part.shard, offset=part.offset)
            return _failed(KAFKA_STORAGE_ERROR)
        readahead.extend(extents)
        return ShardView(answer.high_watermark, answer.log_start, extents, 0, len(extents))

    # bytes

    def _span(self, extent: Extent) -> Span | None:
        """The extent from either cache. Raises BadExtent."""
        return self._hot.span(extent) or self._cold.span(extent)

    def _serve_now(self, part: FetchPart, plan: PlannedPart) -> FetchedPart | None:
        """One partition from memory alone; None where bytes are missing or bad."""
        records: list[memoryview] = []
        limit, whole_first, length = plan.limit, plan.whole_first, 0
        try:
            for extent in plan.extents:
                span = self._span(extent)
                if span is None:
                    return None
                piece, whole = span.cut(part.offset, limit - length, whole_first)
                if piece:
                    records.append(piece)
                    length += len(piece)
                    whole_first = False
                if not whole:
                    break
        except BadExtent:
            return None
        return FetchedPart(0, plan.high_watermark, plan.high_watermark, plan.log_start, records, length)

    async def _serve(
        self, parts: Sequence[FetchPart], planned: Sequence[PlannedPart], readahead: Sequence[Extent]
    ) -> list[FetchedPart]:
        """All partitions: reads of all of them run at once; each fails by itself."""
        planned = self._affordable(planned)
        for plan in planned:
            for extent in plan.extents:
                self._start(extent)
        for extent in readahead:
            if self._cold.loading >= self._cold.reads_max * 2:
                break
            self._start(extent)
        until_s = self._clock.monotonic() + self._read_s
        answer: list[FetchedPart] = []
        got = False
        for part, plan in zip(parts, planned, strict=True):
            served = await self._serve_part(part, plan, until_s, got)
            answer.append(served)
            got = got or served.bytes > 0
        return answer

    def _affordable(self, planned: Sequence[PlannedPart]) -> Sequence[PlannedPart]:
        """Cut an answer that would have to read too many blocks: many partitions with a little in each of many objects.
        The first extent is always left; the rest comes with the next Fetch, for which clients put others first."""
        wanted: dict[BlockKey, None] = {}
        affordable: list[PlannedPart] = []
        first = True
        for plan in planned:
            taken = 0
            for extent in plan.extents:
                missing = () if self._hot.has(extent) else self._cold.missing(extent)
                more = [key for key in missing if key not in wanted]
                if more and len(wanted) + len(more) > self._blocks_max and not first:
                    break
                wanted.update(dict.fromkeys(more))
                first = False
                taken += 1
            affordable.append(plan if taken == len(plan.extents) else plan._replace(extents=plan.extents[:taken]))
        return affordable

    async def _serve_part(
        self, part: FetchPart, plan: PlannedPart, until_s: float, got: bool, *, planned_again: bool = False
    ) -> FetchedPart:
        """One partition. Once anything was `got` for this answer, no further extent is waited for after `until_s`:
        slow reads of many extents must not outlast the client, again and again, without progress."""
        if plan.error:
            return _error_part(plan.error)
        served = self._serve_now(part, plan)
        if served is not None:
            return served
        records: list[memoryview] = []
        limit, whole_first, length = plan.limit, plan.whole_first, 0
        for extent in plan.extents:
            if (got or records) and self._clock.monotonic() >= until_s:
                break
            try:
                span = await self._read(extent)
            except (NotFound, Corrupt, BadExtent, ObjectStoreError, DatabaseError) as error:
                if records:
                    break  # what came before is good; the next fetch begins at the bad extent and says so
                again = None if planned_again or not isinstance(error, NotFound) else await self._plan_again(part, plan)
                if again is not None:
                    return await self._serve_part(part, again, until_s, got, planned_again=True)
                log.error(
                    "extent could not be read", topic=part.topic, shard=part.shard, offset=extent.offset_first,
                    object_id=extent.object_id, error=str(error), error_type=type(error).__name__,
                )  # fmt: skip
                return _error_part(CORRUPT_MESSAGE if isinstance(error, Corrupt | BadExtent) else KAFKA_STORAGE_ERROR)
            piece, whole = span.cut(part.offset, limit - length, whole_first)
            if piece:
                records.append(piece)
                length += len(piece)
                whole_first = False
            if not whole:
                break
        return FetchedPart(0, plan.high_watermark, plan.high_watermark, plan.log_start, records, length)

    async def _plan_again(self, part: FetchPart, plan: PlannedPart) -> PlannedPart | None:
        """An object is not there, rightly perhaps: compaction has put its records elsewhere, the topic was deleted, or its log
        begins behind the offset by now (this agent stood still for long). None where the database can't be asked."""
        key = (part.topic, part.shard)
        self._index.drop(key)
        try:
            [answer] = await self._reads.ask([Question(*key, part.offset, max(plan.limit, 1))])
        except DatabaseError:
            return None
        if answer is not None:
            self._index.raise_log_start(key, answer.log_start)
        return replan(plan, self._from_database(part, answer, []))

    async def read_extent(self, extent: Extent, stored: StoredObject | None) -> Span:
        """One extent, ready to serve. Raises the store's errors, BadExtent, DatabaseError."""
        if stored is not None:
            self.names.learn({extent.object_id: stored})
        return await self._read(extent)

    def _cache_for(self, extent: Extent) -> BlockCache:
        return self._hot if self.names.recent(extent.object_id) else self._cold

    def _start(self, extent: Extent) -> None:
        """Begin reading an extent's blocks if its object's name is known."""
        stored = self.names.get(extent.object_id)
        if stored is not None and not self._hot.has(extent):
            self._cache_for(extent).start(extent, stored)

    async def _read(self, extent: Extent) -> Span:
        """An extent's bytes, from memory or the store; bad bytes are read once more before they are called corrupt."""
        for attempt in (1, 2):
            try:
                span = self._span(extent)
                if span is None:
                    span = await self._fetch_extent(extent)
                return span
            except (BadExtent, Corrupt):
                self._hot.forget(extent)
                self._cold.forget(extent)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def _fetch_extent(self, extent: Extent) -> Span:
        stored = await self.names.find(extent)
        return await self._cache_for(extent).load(extent, stored)


def _failed(error: int) -> ShardView:
    return ShardView(-1, -1, (), 0, 0, error)


def _error_part(error: int) -> FetchedPart:
    return FetchedPart(error, -1, -1, -1, (), 0)
