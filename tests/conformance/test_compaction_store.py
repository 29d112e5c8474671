"""Compaction's reads and its swap, on every implementation of the database port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

import pytest

from catalog.commits import CommitStore, Committed, Refused
from catalog.compaction import CompactionStore, Dropped, Replacement, SwapFacts, Swapped
from catalog.database import Transaction
from catalog.deletions import DeletionStore, StoredObject
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.leases import Lease, LeaseLost, LeaseStore
from catalog.log_starts import LogStartStore
from catalog.retained import RetainedStore
from catalog.sequence import BatchFacts, Extent, ObjectFacts
from catalog.topics import TopicStore
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000


@dataclass
class World:
    """A topic of three shards, an agent epoch, and a lease."""

    opened: OpenDatabase
    topic: int
    epoch: int
    lease: Lease
    numbers: int = 0
    objects: list[ObjectFacts] = field(default_factory=list)

    def __post_init__(self) -> None:
        db = self.opened.db
        self.commits = CommitStore(db, epoch_age_max_ms=LONG_MS)
        self.store = CompactionStore(db, epoch_age_max_ms=LONG_MS)
        self.starts, self.retained, self.extents = LogStartStore(db), RetainedStore(db), ExtentStore(db)

    def next_id(self, epoch: int | None = None) -> int:
        self.numbers += 1
        return (epoch or self.epoch) << 32 | self.numbers

    async def commit(self, *shards: int, times: int = 1) -> None:
        """Objects with one batch of 10 offsets and 100 bytes for each of these shards."""
        for _ in range(times):
            object_id = self.next_id()
            batches = tuple(
                BatchFacts(self.topic, shard, 100 * at, 100, 10, 5 + self.numbers, False)
                for at, shard in enumerate(shards)
            )
            facts = ObjectFacts(object_id, f"c/segments/{self.epoch}/{self.numbers}-x", 1000, batches)
            [outcome] = await self.commits.commit([facts])
            assert isinstance(outcome, Committed)

    async def rows(self, shard: int) -> list[Extent]:
        """The shard's extents, contiguous."""
        [found] = await self.extents.find_extents([ShardQuery(self.topic, shard, await self.start(shard))], 1000)
        assert found is not None
        return [placed.extent for placed in found.extents]

    async def start(self, shard: int) -> int:
        return (await self.extents.watermarks([(self.topic, shard)]))[self.topic, shard].log_start

    def merge(self, *groups: list[Extent], epoch: int | None = None) -> SwapFacts:
        """The object that merges each of these."""
        object_id = self.next_id(epoch)
        replacements = []
        for at, group in enumerate(groups):
            output = Extent(
                group[0].topic, group[0].shard, group[0].offset_first, group[-1].offset_next, object_id, 10_000 * at,
                sum(one.byte_length for one in group), sum(one.batches for one in group),
                max(one.timestamp_max for one in group), -1,
            )  # fmt: skip
            replacements.append(Replacement(tuple(group), output))
        return SwapFacts(object_id, f"c/segments/{object_id >> 32}/{self.numbers}-m", 90_000, tuple(replacements))

    async def live(self) -> dict[int, int]:
        """Object number -> extents that refer to it, as its row says; held against the extents themselves."""
        counted = await self.opened.db.snapshot(
            lambda tx: tx.fetch(
                "SELECT o.object_id, o.extents_live, (SELECT COUNT(*) FROM extents AS e WHERE e.object_id = o.object_id) "
                "FROM objects AS o ORDER BY o.object_id"
            )
        )
        assert all(live == there for _, live, there in counted), counted
        return {object_id & 0xFFFFFFFF: live for object_id, live, _ in counted}


@pytest.fixture
async def world(migrated: OpenDatabase) -> World:
    db = migrated.db
    topic = await TopicStore(db).create("t", UUID(int=1), 3, {})
    epoch = (await EpochStore(db).issue("agent", LONG_MS)).epoch
    lease = await LeaseStore(db).acquire("compaction", "me", LONG_MS)
    assert lease is not None
    return World(migrated, topic.topic, epoch, lease)


async def test_a_swap_puts_one_extent_in_place_of_many(world: World) -> None:
    await world.commit(0, 1, times=5)
    await world.commit(1)
    zero, one = await world.rows(0), await world.rows(1)
    facts = world.merge(zero[1:4], one[:3])
    assert await world.store.swap(facts, world.lease) == Swapped(facts.replacements)
    merged, other = (replacement.output for replacement in facts.replacements)
    assert await world.rows(0) == [zero[0], merged, zero[4]]
    assert await world.rows(1) == [other, *one[3:]]
    assert (merged.offset_first, merged.offset_next, merged.byte_length) == (10, 40, 300)
    assert await world.live() == {1: 1, 2: 0, 3: 0, 4: 1, 5: 2, 6: 1, 7: 2}
    unused = await DeletionStore(world.opened.db).condemn_unused(10, world.lease)
    assert [found.object_id & 0xFF for found in unused] == [2, 3], "what was replaced is deletable, nothing else"
    [placed] = (await world.extents.find_extents([ShardQuery(world.topic, 0, 15, 1)], 10))[0].extents  # type: ignore[union-attr]
    assert placed.object_name == facts.name


async def test_the_same_swap_again_changes_nothing(world: World) -> None:
    await world.commit(0, times=3)
    facts = world.merge((await world.rows(0))[:2])
    assert await world.store.resolve(facts) is None
    await world.store.swap(facts)
    live = await world.live()
    assert (
        await world.store.swap(facts) == await world.store.resolve(facts) == Swapped(facts.replacements, replayed=True)
    )
    assert await world.live() == live
    await world.store.swap(world.merge(await world.rows(0)))
    assert await world.store.swap(facts) == Swapped((), replayed=True), "and neither when its output is gone again"


async def test_of_two_compactors_on_one_range_one_wins(world: World) -> None:
    await world.commit(0, 1, times=4)
    zero, one = await world.rows(0), await world.rows(1)
    first, second = world.merge(zero[:3]), world.merge(zero[1:], one)
    assert isinstance(await world.store.swap(first), Swapped)
    assert await world.store.swap(second) == Swapped(second.replacements[1:]), "each replacement by itself"
    assert await world.rows(0) == [first.replacements[0].output, zero[3]]
    assert await world.store.swap(world.merge(zero[:2])) == Dropped("changed")
    again = world.merge([first.replacements[0].output, zero[3]])
    assert isinstance(await world.store.swap(again), Swapped)
    assert await world.store.swap(world.merge([first.replacements[0].output, zero[3]])) == Dropped("changed")
    assert sum((await world.live()).values()) == 2


async def test_swaps_and_removals_at_once_leave_every_count_right(world: World) -> None:
    """Row locks, on PostgreSQL: whoever comes second sees what the first has left."""
    await world.commit(0, 1, 2, times=24)
    rows = [await world.rows(shard) for shard in range(3)]
    other = await world.opened.another()
    store, retained = CompactionStore(other, epoch_age_max_ms=LONG_MS), RetainedStore(other)
    starts = {(world.topic, shard): 100 + 50 * shard for shard in range(3)}
    await world.starts.delete_records(starts)

    async def trim(shard: int) -> None:
        while (await retained.trim((world.topic, shard), 3, world.lease)).more:
            pass

    work = [
        swap(world.merge(*(rows[shard][at : at + 6] for shard in range(3))))
        for at, swap in zip((0, 2, 3, 6, 9, 12, 12, 15), [world.store.swap, store.swap] * 4, strict=True)
    ]
    await asyncio.gather(*work, *(trim(shard) for shard in range(3)))
    await world.live()
    for shard in range(3):
        found = await world.rows(shard)
        assert found[0].offset_first <= starts[world.topic, shard] < found[0].offset_next
        assert found[-1].offset_next == 240
        assert all(one.offset_next == two.offset_first for one, two in pairwise(found))


async def test_what_was_deleted_is_not_brought_back(world: World) -> None:
    await world.commit(0, 1, times=3)
    zero, one = await world.rows(0), await world.rows(1)
    await world.starts.delete_records({(world.topic, 0): 10, (world.topic, 1): 9})
    facts = world.merge(zero, one)
    assert await world.store.swap(facts) == Swapped(facts.replacements[1:])
    await TopicStore(world.opened.db).delete(world.topic)
    assert await world.store.swap(world.merge(zero[1:])) == Dropped("changed")


async def test_a_swap_needs_what_every_commit_needs(world: World) -> None:
    await world.commit(0, times=3)
    rows = await world.rows(0)
    db = world.opened.db
    epochs = EpochStore(db)
    dead = (await epochs.issue("agent", LONG_MS)).epoch
    await epochs.retire(dead)
    lapsed = (await epochs.issue("agent", 1)).epoch
    await asyncio.sleep(0.01)
    for epoch in (dead, lapsed, 99):
        assert await world.store.swap(world.merge(rows, epoch=epoch)) == Dropped("epoch-lost")
    impatient = CompactionStore(db, epoch_age_max_ms=0)
    await asyncio.sleep(0.01)
    assert await impatient.swap(world.merge(rows)) == Dropped("too-old")
    facts = world.merge(rows)
    await DeletionStore(db).condemn([StoredObject(facts.object_id, facts.name, facts.bytes)])
    assert await world.store.swap(facts) == Dropped("condemned")
    await LeaseStore(db).release(world.lease)
    with pytest.raises(LeaseLost):
        await world.store.swap(world.merge(rows), world.lease)
    assert await world.rows(0) == rows
    swapped = world.merge(rows)
    assert isinstance(await world.store.swap(swapped), Swapped)
    commit = ObjectFacts(swapped.object_id, swapped.name, 1, (BatchFacts(world.topic, 0, 0, 100, 1, 5, False),))
    assert await world.commits.commit([commit]) == [Refused("too-old")], "its id is used"


async def test_more_can_be_written_in_the_same_transaction(world: World) -> None:
    await world.commit(0, times=3)
    rows = await world.rows(0)
    seen: list[tuple[Replacement, ...]] = []

    async def also(tx: Transaction, applied: tuple[Replacement, ...]) -> None:
        await tx.execute("DELETE FROM counters WHERE name = 'ledger'")
        seen.append(applied)

    async def fails(tx: Transaction, applied: tuple[Replacement, ...]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError):
        await world.store.swap(world.merge(rows), None, fails)
    assert await world.rows(0) == rows
    facts = world.merge(rows)
    await world.store.swap(facts, None, also)
    assert seen == [facts.replacements]
    assert not await world.opened.db.snapshot(lambda tx: tx.fetch("SELECT 1 FROM counters WHERE name = 'ledger'"))
    await world.store.swap(world.merge(rows), None, fails)  # nothing takes effect, so nothing is written beside it


async def test_outputs_cover_their_inputs_and_nothing_else(world: World) -> None:
    await world.commit(0, 1, times=3)
    zero, one = await world.rows(0), await world.rows(1)
    output = world.merge(zero).replacements[0].output
    for inputs in ((), (zero[0], zero[2]), (zero[0], zero[1]), (*zero[:2], one[2])):
        with pytest.raises(ValueError, match="cover"):
            Replacement(inputs, output)


async def test_settled_extents_are_read_from_a_position_on(world: World) -> None:
    await world.commit(0, 2, times=4)
    zero, two = await world.rows(0), await world.rows(2)
    await world.starts.delete_records({(world.topic, 2): 15})
    wanted = [(world.topic, shard, 0) for shard in (0, 1, 2)] + [(world.topic, 9, 0)]
    now_ms, shards = await world.store.settled(wanted, 0, 3)
    assert [(one.shard, one.log_start, one.more) for one in shards] == [(0, 0, True), (1, 0, False), (2, 15, True)]
    assert [one.extent for one in shards[0].extents] == zero[:3]
    assert [one.extent for one in shards[2].extents] == two[1:4]
    assert all(now_ms - LONG_MS < one.committed_ms <= now_ms for one in shards[0].extents)
    assert shards[0].extents[0].object_name.startswith("c/segments/")
    _, [shard] = await world.store.settled([(world.topic, 0, 20)], 0, 3)
    assert ([one.extent for one in shard.extents], shard.more) == (zero[2:], False)
    _, [shard] = await world.store.settled([(world.topic, 0, 0)], LONG_MS, 3)
    assert (shard.extents, shard.more) == ((), False), "nothing is settled yet"


async def test_an_output_is_as_old_as_its_newest_input(world: World) -> None:
    await world.commit(0, times=3)
    rows = await world.rows(0)

    async def age(tx: Transaction) -> None:
        for extent, age_ms in zip(rows, (5000, 3000, 4000), strict=True):
            await tx.execute(
                "UPDATE objects SET committed_ms = {now_ms} - $2 WHERE object_id = $1", extent.object_id, age_ms
            )

    await world.opened.db.transact(age)
    await world.store.swap(world.merge(rows))
    now_ms, [shard] = await world.store.settled([(world.topic, 0, 0)], 0, 10)
    assert 3000 <= now_ms - shard.extents[0].committed_ms < 3900
