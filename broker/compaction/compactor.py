"""Small-object compaction: many small extents of settled records into few, in one new object, a bounded piece at a time.

Owns: a piece is one object, and one swap that checks every input (`catalog.compaction`); whatever fails or is dropped leaves
at most an object that nothing refers to, which the sweeper of orphans finds when the agent epoch is dead. An unknown
outcome is asked for under the same object id until it is known. Runs over injected clock, randomness, store and database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import structlog

from broker.compaction.counts import CompactionCounts
from broker.compaction.layout import Merge, MergedObject, lay_out
from broker.compaction.plan import Group, MergeLimits, plan_merges
from broker.compaction.reads import InputReader
from broker.compaction.walk import Kind, ShardWalk, Share
from broker.ingest.flight import Ticket
from broker.ingest.upload import Tickets
from broker.objects.port import ObjectStore
from broker.services import Clock, Workers
from catalog.compaction import CompactionStore, Dropped, SettledExtent, SettledShard, SwapFacts, SwapOutcome
from catalog.database import Database, DatabaseError
from catalog.leases import Lease, LeaseLost
from catalog.sequence import Extent
from catalog.topics import TopicStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

EXTENTS_CROWD = 64
LOOKS_MAX = 20
"""Queries for something to merge in one piece of work."""
SWAP_ATTEMPTS = 5
RETRY_S = 0.2
ALL_SHARDS = Share(0, 1)
FORGET_S = 6 * 3600.0


class Done(NamedTuple):
    """What a piece of work came to. `more` where there is something left to do at once."""

    more: bool
    extents_replaced: int = 0
    extents_written: int = 0
    bytes: int = 0


class Picked:
    """Groups of neighbours for one object."""

    def __init__(self, bytes_max: int, extents_max: int) -> None:
        self._bytes_max, self._extents_max = bytes_max, extents_max
        self._bytes = self._extents = 0
        self.groups: list[tuple[SettledExtent, ...]] = []

    def add(self, group: tuple[SettledExtent, ...]) -> bool:
        """False where it doesn't fit any more."""
        size = self._bytes + sum(one.extent.byte_length for one in group)
        count = self._extents + len(group)
        if self.groups and (size > self._bytes_max or count > self._extents_max):
            return False
        self._bytes, self._extents = size, count
        self.groups.append(group)
        return True


class Compactor:
    """See the module. One per process; whoever calls `compact_once` holds the job's lease, if there is one."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        tickets: Tickets,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        workers: Workers,
        *,
        cluster_id: str,
        broker_values: Callable[[], Mapping[str, str]],
        share: Share = ALL_SHARDS,
        counts: CompactionCounts | None = None,
    ) -> None:
        self.counts = counts or CompactionCounts()
        self._swaps = CompactionStore(database, epoch_age_max_ms=settings.epoch_age_max_ms)
        self._store = store
        self._tickets = tickets
        self._clock = clock
        self._rng = rng
        self._settings = settings
        self._workers = workers
        self._cluster_id = cluster_id
        self._limits = MergeLimits(
            settings.compaction_extent_bytes,
            settings.compaction_extents_min,
            max(EXTENTS_CROWD, settings.compaction_extents_min),
            settings.compaction_extents_max,
            settings.compaction_span_ms,
        )
        self._reader = InputReader(store, workers, reads_max=settings.cold_reads_max)
        self._walk = ShardWalk(TopicStore(database), broker_values, self._limits, FORGET_S, share)
        self._left: dict[tuple[int, int], None] = {}
        """(object id, first byte) of extents that could not be read: left alone by this process."""

    def begin_anew(self) -> None:
        """Somebody else has held the job meanwhile: what was remembered is void."""
        self._walk.begin_anew()

    async def compact_once(self, lease: Lease | None = None) -> Done:
        """One object at most. Raises DatabaseError (LeaseLost too) and ObjectStoreError; the next call begins anew then."""
        try:
            return await self._once(lease)
        except BaseException:
            self._walk.begin_anew()
            raise

    async def _once(self, lease: Lease | None) -> Done:
        if self._walk.ended:
            await self._walk.begin(self._clock.monotonic())
        picked = Picked(self._settings.compaction_object_bytes, self._settings.compaction_extents_max)
        await self._pick(picked)
        if not picked.groups:
            return Done(self._walk.unfinished or not self._walk.ended)
        merges = await self._read(picked.groups)
        return await self._write(merges, lease) if merges else Done(True)

    # what to merge

    async def _pick(self, picked: Picked) -> None:
        """Fill an object, with a bounded number of looks."""
        kind: Kind | None = None
        for _look in range(LOOKS_MAX):
            kind, positions = self._walk.next(self._settings.compaction_shards_max, kind if picked.groups else None)
            if not positions:
                return
            rows_max = max(2 * EXTENTS_CROWD, self._settings.compaction_rows_max // len(positions))
            now_ms, shards = await self._swaps.settled(positions, self._settings.compaction_settle_ms, rows_max)
            for at, shard in enumerate(shards):
                if not self._take(kind, shard, now_ms, picked):
                    self._walk.put_back(kind, [(one.topic, one.shard) for one in shards[at:]])
                    return

    def _take(self, kind: Kind | None, shard: SettledShard, now_ms: int, picked: Picked) -> bool:
        """Add what a shard has to merge; False where the object is full."""
        groups = self._groups(shard.extents, now_ms)
        if not groups:
            self._walk.found_nothing(kind, shard)
            return True
        self._walk.unfinished = True
        return all(picked.add(shard.extents[first:end]) for first, end in groups)

    def _groups(self, extents: Sequence[SettledExtent], now_ms: int) -> list[Group]:
        """What to merge, on either side of extents that are left alone."""
        apart = [at for at, one in enumerate(extents) if _place(one.extent) in self._left]
        groups: list[Group] = []
        for before, behind in pairwise((-1, *apart, len(extents))):
            for first, end in plan_merges(extents[before + 1 : behind], now_ms, self._limits):
                groups.append(Group(before + 1 + first, before + 1 + end))
        return groups

    # bytes

    async def _read(self, picked: Sequence[tuple[SettledExtent, ...]]) -> list[Merge]:
        """The groups with their bytes; a group of which anything is missing or corrupt is left alone from now on."""
        found = await self._reader.read([one for group in picked for one in group])
        merges: list[Merge] = []
        for group in picked:
            inputs = tuple(one.extent for one in group)
            missing = [extent for extent in inputs if extent not in found]
            self._left.update(dict.fromkeys(_place(extent) for extent in missing))
            self.counts.inputs_left += len(missing)
            if not missing:
                topic_id = self._walk.topic_id(inputs[0].topic)
                merges.append(Merge(topic_id, inputs, tuple(found[extent] for extent in inputs)))
        return sorted(merges, key=lambda one: one.inputs[0][:3])

    async def _write(self, merges: Sequence[Merge], lease: Lease | None) -> Done:
        ticket = await self._tickets.acquire()
        try:
            merged = await self._workers.run(partial(lay_out, self._cluster_id, *ticket, merges))
            facts = await self._put(ticket, merged)
            outcome = await self._swap(facts, lease)
        finally:
            self._tickets.release(ticket)
        if isinstance(outcome, Dropped):
            self.counts.swaps_dropped += 1
            log.info("compaction was overtaken, its object is dropped", object=facts.name, reason=outcome.reason)
            if outcome.reason in ("epoch-lost", "too-old"):
                await self._tickets.abandon(ticket.epoch)
            return Done(True)
        replaced = sum(len(one.inputs) for one in outcome.applied)
        self.counts.objects_written += 1
        self.counts.bytes_written += facts.bytes
        self.counts.extents_replaced += replaced
        self.counts.extents_written += len(outcome.applied)
        return Done(True, replaced, len(outcome.applied), facts.bytes)

    async def _put(self, ticket: Ticket, merged: MergedObject) -> SwapFacts:
        name = f"{self._cluster_id}/segments/{ticket.epoch}/{ticket.sequence}-{self._rng.getrandbits(64):016x}"
        await self._store.put(name, merged.built.parts)
        return SwapFacts(ticket.epoch << 32 | ticket.sequence, name, merged.built.bytes, merged.replacements)

    async def _swap(self, facts: SwapFacts, lease: Lease | None) -> SwapOutcome:
        """One definite answer. The same swap again waits for a lost one to end, and then says what became of it."""
        for attempt in range(1, SWAP_ATTEMPTS + 1):
            try:
                return await self._swaps.swap(facts, lease)
            except LeaseLost:
                raise
            except DatabaseError as error:
                if attempt == SWAP_ATTEMPTS:
                    raise
                log.warning("compaction's swap failed, trying again", error=str(error))
                await asyncio.sleep(RETRY_S)
        raise AssertionError("unreachable")


def _place(extent: Extent) -> tuple[int, int]:
    return extent.object_id, extent.byte_first
