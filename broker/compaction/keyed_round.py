"""A round of key compaction on one shard: index what isn't compacted yet, then rewrite everything below, step by step.

Owns: what a step removes is superseded by records that stay, so a round may end anywhere - by a crash, a lost lease, a policy
that was changed - and what it did so far is right; the next one begins anew from the database. Steps are done in offset
order, so whatever a tombstone covers is gone before the tombstone can be. Nothing is removed once the topic isn't
compacted any more: the swap's own transaction looks. Memory: the index, and a few times one step's bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from broker.compaction.keyed_filter import BatchFilter, CleanCounts, ProducerLast
from broker.compaction.keyed_index import KeyIndex
from broker.compaction.keyed_index_pass import IndexPass
from broker.compaction.keyed_markers import TransactionPass
from broker.compaction.keyed_object import Rewrite, lay_out
from broker.compaction.keyed_plan import KeyPolicy, key_policy_of
from broker.compaction.keyed_rewrite import StoredExtent, rewrite
from broker.compaction.reads import InputReader
from broker.ingest.upload import Tickets
from broker.objects.port import ObjectStore
from broker.services import Workers
from catalog.compaction import CompactionStore, Dropped, Replacement, SettledExtent, SwapFacts, SwapOutcome
from catalog.database import CommitUnknown, Transaction
from catalog.key_cleaning import Dirt, KeyCleaningStore
from catalog.leases import Lease
from catalog.sequence import ShardKey
from catalog.topics import TopicRow
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class RoundEnded(Exception):
    """The round can't go on; nothing is wrong with what it did. The message says why."""


class LogUnreadable(Exception):
    """Extents of the log are missing or corrupt: nothing is compacted over them. `neve fsck` says more."""


@dataclass(frozen=True, slots=True)
class KeyedWorld:
    """What rounds work with."""

    states: KeyCleaningStore
    compaction: CompactionStore
    store: ObjectStore
    reader: InputReader
    workers: Workers
    tickets: Tickets
    rng: random.Random
    settings: Settings
    cluster_id: str
    broker_values: Callable[[], Mapping[str, str]]


@dataclass(slots=True)
class RoundCounts:
    """What a round did."""

    bytes_read: int = 0
    bytes_before: int = 0
    """Of extents that were replaced."""
    bytes_after: int = 0
    objects_written: int = 0
    swaps_dropped: int = 0
    extents_replaced: int = 0


class CleaningRound:
    """`await step(lease)` until it is False."""

    def __init__(self, world: KeyedWorld, topic: TopicRow, shard: int, dirt: Dirt, policy: KeyPolicy) -> None:
        self.key: ShardKey = (topic.topic, shard)
        self.counts = RoundCounts()
        self.cleaned = CleanCounts()
        self._world = world
        self._topic = topic
        self._dirt = dirt
        self._policy = policy
        self._index = KeyIndex(dirt.dirty_first, world.settings.key_compaction_keys_max)
        bytes_max = world.settings.max_decompressed_message_bytes
        self._indexing: IndexPass | None = IndexPass(self._index, TransactionPass(), bytes_max)
        self._transactions = TransactionPass()
        self._producers: dict[int, ProducerLast] | None = None
        self._at = dirt.dirty_first
        self._attempts = 0

    @property
    def is_full(self) -> bool:
        """The index was full: there is more to compact right away."""
        return self._index.full

    async def step(self, lease: Lease) -> bool:
        """One bounded piece of work; False when the round is done.

        Raises RoundEnded, LogUnreadable, LeaseLost, DatabaseError, ObjectStoreError: the round is over then.
        """
        if self._indexing is not None:
            if await self._index_step(self._indexing):
                self._indexing = None
                await self._begin(lease)
            return True
        if self._at < self._index.offset_next:
            await self._rewrite_step(lease)
            return True
        await self._world.states.finish(self.key, self._index.offset_next, lease)
        return False

    async def _index_step(self, indexing: IndexPass) -> bool:
        """True where the index is made: it is full, or reaches as far as it may."""
        extents = await self._next(self._dirt.cleanable_next)
        stored = await self._read(extents)

        def work() -> bool:
            return all(indexing.take(one) for one in stored)

        went_on = await self._world.workers.run(work)
        if extents:
            self._at = extents[-1].extent.offset_next
        return not extents or not went_on or self._at >= self._dirt.cleanable_next

    async def _begin(self, lease: Lease) -> None:
        """The range is known: from now on records may go."""
        if self._index.offset_next <= self._dirt.dirty_first:
            raise RoundEnded("what was to be compacted isn't there any more")
        found = await self._world.states.producers(self.key)
        self._producers = {one.producer_id: ProducerLast(one.offset, one.epoch) for one in found}
        await self._world.states.begin(self.key, self._index.offset_next, lease)
        self._at = self._dirt.log_start

    async def _rewrite_step(self, lease: Lease) -> None:
        extents = await self._next(None)
        if not extents:
            self._at = self._index.offset_next  # deleted meanwhile
            return
        stored = await self._read(extents)
        rules = self._rules()
        rewrites = await self._world.workers.run(partial(_rewrite_groups, stored, rules, self._extent_bytes()))
        if rewrites and not await self._swap(rewrites, lease):
            self._attempts += 1
            if self._attempts >= self._world.settings.key_compaction_attempts:
                raise RoundEnded("its extents are changed again and again by others")
            return  # the same part again, as it is now
        self._attempts = 0
        self._transactions = rules.transactions
        self._take_counts(rules.counts)
        self._at = extents[-1].extent.offset_next

    async def _swap(self, rewrites: Sequence[Rewrite], lease: Lease) -> bool:
        """Write the object and put it in place; False where some of what it replaces had changed."""
        world = self._world
        ticket = await world.tickets.acquire()
        try:
            made = lay_out(
                world.cluster_id,
                ticket.epoch,
                ticket.sequence,
                world.rng.getrandbits(64),
                self._topic.topic_id,
                rewrites,
            )
            await world.store.put(made.facts.name, made.built.parts)
            self.counts.objects_written += 1
            outcome = await self._settle(made.facts, lease)
        finally:
            world.tickets.release(ticket)
        if isinstance(outcome, Dropped):
            self.counts.swaps_dropped += 1
            if outcome.reason != "changed":
                await world.tickets.abandon(ticket.epoch)
            return False
        for one in outcome.applied:
            self.counts.extents_replaced += len(one.inputs)
            self.counts.bytes_before += sum(extent.byte_length for extent in one.inputs)
            self.counts.bytes_after += one.output.byte_length
        return len(outcome.applied) == len(rewrites)

    async def _settle(self, facts: SwapFacts, lease: Lease) -> SwapOutcome:
        try:
            return await self._world.compaction.swap(facts, lease, self._still_compacted)
        except CommitUnknown:  # the same swap again finds out
            return await self._world.compaction.swap(facts, lease, self._still_compacted)

    async def _still_compacted(self, tx: Transaction, _: tuple[Replacement, ...]) -> None:
        rows = await tx.fetch("SELECT config FROM topics WHERE topic = $1 AND deleted_ms IS NULL", self.key[0])
        if not rows or key_policy_of(json.loads(rows[0][0]), self._world.broker_values()) is None:
            raise RoundEnded("the topic isn't compacted any more")

    async def _next(self, before: int | None) -> list[SettledExtent]:
        """The extents of the next step, in order: with `before`, those that end there or in front of it."""
        rows_max = self._world.settings.compaction_rows_max
        _, shards = await self._world.compaction.settled([(*self.key, self._at)], 0, rows_max)
        limit = self._index.offset_next if before is None else before
        taken: list[SettledExtent] = []
        size = 0
        for one in shards[0].extents if shards else ():
            beyond = one.extent.offset_first >= limit if before is None else one.extent.offset_next > limit
            if beyond or (taken and size + one.extent.byte_length > self._world.settings.key_compaction_chunk_bytes):
                break
            taken.append(one)
            size += one.extent.byte_length
        return taken

    async def _read(self, extents: Sequence[SettledExtent]) -> list[StoredExtent]:
        found = await self._world.reader.read(extents)
        missing = [one.extent for one in extents if one.extent not in found]
        if missing:
            first = missing[0]
            raise LogUnreadable(
                f"topic {self._topic.name} partition {first.shard}: the extent at offset {first.offset_first} is missing or "
                "corrupt; nothing is compacted over it (see `neve fsck`)"
            )
        self.counts.bytes_read += sum(one.extent.byte_length for one in extents)
        return [StoredExtent(one.extent, found[one.extent]) for one in extents]

    def _rules(self) -> BatchFilter:
        assert self._producers is not None, "the rewriting begins when the index is made"
        return BatchFilter(
            self._index,
            self._dirt.now_ms,
            self._policy.delete_retention_ms,
            self._world.settings.max_decompressed_message_bytes,
            self._producers,
            self._transactions.copy(),
        )

    def _extent_bytes(self) -> int:
        return self._world.settings.compaction_extent_bytes

    def _take_counts(self, step: CleanCounts) -> None:
        mine = self.cleaned
        self.cleaned = replace(
            mine,
            batches_read=mine.batches_read + step.batches_read,
            records_read=mine.records_read + step.records_read,
            records_kept=mine.records_kept + step.records_kept,
            tombstones_dropped=mine.tombstones_dropped + step.tombstones_dropped,
            batches_unreadable=mine.batches_unreadable + step.batches_unreadable,
        )


def _rewrite_groups(stored: Sequence[StoredExtent], rules: BatchFilter, extent_bytes: int) -> list[Rewrite]:
    """Neighbours up to `extent_bytes` become one extent each, where anything in them changes."""
    rewrites: list[Rewrite] = []
    first = 0
    while first < len(stored):
        end, size = first + 1, stored[first].extent.byte_length
        while end < len(stored) and size + stored[end].extent.byte_length <= extent_bytes:
            size += stored[end].extent.byte_length
            end += 1
        group = stored[first:end]
        output = rewrite(group, rules)
        if output is not None:
            inputs = tuple(one.extent for one in group[output.first : output.end])
            rewrites.append(Rewrite(inputs, output))
        first = end
    return rewrites
