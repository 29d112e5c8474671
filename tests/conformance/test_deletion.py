"""Log starts, removal of extents, condemned objects and dead epochs, on every implementation of the database port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from catalog.commits import CommitStore, Committed, Refused
from catalog.dead_epochs import DeadEpochStore
from catalog.deletions import DeletionStore, StoredObject
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.leases import Lease, LeaseLost, LeaseStore
from catalog.log_starts import LogStart, LogStartStore, Raised
from catalog.retained import OldExtent, RetainedStore
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.topics import TopicRow, TopicStore
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000
SOON_MS = 30


@dataclass
class World:
    """A topic of three shards, an agent epoch, and the job's lease."""

    opened: OpenDatabase
    topic: TopicRow
    epoch: int
    lease: Lease
    numbers: int = 0
    objects: list[ObjectFacts] = field(default_factory=list)

    def __post_init__(self) -> None:
        db = self.opened.db
        self.commits = CommitStore(db, epoch_age_max_ms=LONG_MS)
        self.starts, self.retained = LogStartStore(db), RetainedStore(db)
        self.deletions, self.extents = DeletionStore(db), ExtentStore(db)

    def object(self, *shards: int, count: int = 10, timestamp: int = 5) -> ObjectFacts:
        """An object with one batch for each of these shards, 100 bytes each."""
        self.numbers += 1
        object_id = self.epoch << 32 | self.numbers
        batches = tuple(
            BatchFacts(self.topic.topic, shard, 100 * at, 100, count, timestamp, False)
            for at, shard in enumerate(shards)
        )
        return ObjectFacts(object_id, f"c/segments/{self.epoch}/{self.numbers}-x", 1000, batches)

    async def commit(self, *shards: int, count: int = 10, timestamp: int = 5) -> ObjectFacts:
        """The same, committed."""
        facts = self.object(*shards, count=count, timestamp=timestamp)
        [outcome] = await self.commits.commit([facts])
        assert isinstance(outcome, Committed)
        return facts

    def key(self, shard: int) -> tuple[int, int]:
        return self.topic.topic, shard

    async def raise_start(self, shard: int, offset: int) -> Raised:
        return (await self.starts.delete_records({self.key(shard): offset}))[self.key(shard)]

    async def start(self, shard: int) -> int:
        return (await self.extents.watermarks([self.key(shard)]))[self.key(shard)].log_start

    async def live(self) -> dict[int, int]:
        """Object number -> extents that refer to it, as its row says; held against the extents themselves."""
        counted = await self.opened.db.snapshot(
            lambda tx: tx.fetch(
                "SELECT o.object_id, o.extents_live, (SELECT COUNT(*) FROM extents AS e WHERE e.object_id = o.object_id) "
                "FROM objects AS o ORDER BY o.object_id"
            )
        )
        assert all(live == there for _, live, there in counted)
        return {object_id & 0xFFFFFFFF: live for object_id, live, _ in counted}


def stored(facts: ObjectFacts) -> StoredObject:
    return StoredObject(facts.object_id, facts.name, facts.bytes)


@pytest.fixture
async def world(migrated: OpenDatabase) -> World:
    db = migrated.db
    topic = await TopicStore(db).create("t", UUID(int=1), 3, {})
    epoch = (await EpochStore(db).issue("agent", LONG_MS)).epoch
    lease = await LeaseStore(db).acquire("deletion", "me", LONG_MS)
    assert lease is not None
    return World(migrated, topic, epoch, lease)


async def test_records_are_deleted_up_to_an_offset_and_never_back(world: World) -> None:
    await world.commit(0)
    await world.commit(0)
    assert await world.raise_start(0, 7) == Raised(0, 7)
    assert await world.raise_start(0, 3) == Raised(0, 7), "a lower offset changes nothing"
    assert await world.raise_start(0, 21) == Raised(1, -1), "beyond the high watermark"
    assert await world.raise_start(0, -2) == Raised(1, -1)
    assert await world.raise_start(9, 0) == Raised(3, -1)
    assert await world.start(0) == 7
    assert await world.raise_start(0, -1) == Raised(0, 20)
    assert await world.starts.advance({world.key(0): 5, world.key(1): 4}, world.lease) == 0
    assert [await world.start(shard) for shard in range(3)] == [20, 0, 0]
    await world.commit(0)
    [snapshot] = await world.extents.find_extents([ShardQuery(*world.key(0), 20)], 10)
    assert snapshot is not None
    assert (snapshot.log_start, snapshot.high_watermark, len(snapshot.extents)) == (20, 30, 1)
    await TopicStore(world.opened.db).delete(world.topic.topic)
    assert await world.raise_start(0, 25) == Raised(3, -1)


async def test_a_commit_tells_the_log_start_of_now(world: World) -> None:
    await world.commit(0)
    await world.raise_start(0, -1)
    [outcome] = await world.commits.commit([world.object(0)])
    assert isinstance(outcome, Committed)
    assert [(one.offset, one.log_start) for one in outcome.outcomes] == [(10, 10)]


async def test_changes_of_log_starts_are_followed_in_their_order(world: World) -> None:
    await world.commit(0, 1, 2)
    seen = await world.starts.newest_change()
    assert await world.starts.changed_since(seen, 10) == []
    await world.starts.delete_records({world.key(2): 4, world.key(0): 3})
    await world.starts.advance({world.key(1): 99}, world.lease)
    changes = await world.starts.changed_since(seen, 10)
    topic = world.topic.topic
    assert changes == [
        LogStart(topic, 0, 3, seen + 1),
        LogStart(topic, 2, 4, seen + 2),
        LogStart(topic, 1, 10, seen + 3),
    ]
    assert await world.starts.changed_since(seen, 2) == changes[:2]
    await world.raise_start(0, 5)
    assert await world.starts.changed_since(changes[-1].changed, 10) == [LogStart(topic, 0, 5, seen + 4)]
    assert await world.starts.newest_change() == seen + 4


async def test_what_lies_below_the_log_start_is_removed_in_steps(world: World) -> None:
    for _ in range(5):
        await world.commit(0, 1)
    await world.raise_start(0, 35)
    assert await world.live() == {1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
    assert await world.retained.trim(world.key(0), 2, world.lease) == (2, 200, 20, True)
    assert await world.live() == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
    assert await world.retained.trim(world.key(0), 2, world.lease) == (1, 100, 30, False)
    assert await world.retained.trim(world.key(0), 2, world.lease) == (0, 0, 0, False)
    assert await world.live() == {1: 1, 2: 1, 3: 1, 4: 2, 5: 2}
    [snapshot] = await world.extents.find_extents([ShardQuery(*world.key(0), 35)], 10)
    assert snapshot is not None
    assert [placed.extent.offset_first for placed in snapshot.extents] == [30, 40], "the one that holds it stays whole"
    [below] = await world.extents.find_extents([ShardQuery(*world.key(0), 30)], 10)
    assert below is not None
    assert below.extents == ()


async def test_old_extents_and_sizes(world: World) -> None:
    before_ms = await world.opened.db.snapshot(lambda tx: tx.now_ms())
    for timestamp in (50, -1, 70):
        await world.commit(1, timestamp=timestamp)
    now_ms, heads = await world.retained.heads((-1, -1), 2)
    assert now_ms >= before_ms
    assert [(head.shard, head.oldest_next, head.oldest_ms) for head in heads] == [(0, None, 0), (1, 10, 50)]
    _, rest = await world.retained.heads(heads[-1][:2], 2)
    assert [(head.shard, head.high_watermark) for head in rest] == [(2, 0)]
    old = await world.retained.oldest(world.key(1), 0, 10)
    assert [(one.offset_next, one.bytes) for one in old] == [(10, 100), (20, 100), (30, 100)]
    assert (old[0].timestamp_ms, old[2].timestamp_ms) == (50, 70)
    assert old[1].timestamp_ms == old[1].committed_ms >= before_ms, "without a time, when it was written"
    assert isinstance(old[0], OldExtent)
    assert await world.retained.oldest(world.key(1), 15, 1) == [old[1]]
    assert await world.retained.size(world.key(1), 0, 2) == (200, 0, 20, True)
    assert await world.retained.size(world.key(1), 20, 2) == (100, 20, 30, False)
    assert await world.retained.size(world.key(1), 30, 2) == (0, 30, 30, False)


async def test_an_object_is_condemned_when_nothing_lies_in_it(world: World) -> None:
    shared, own = await world.commit(0, 1), await world.commit(0)
    await world.raise_start(0, -1)
    await world.retained.trim(world.key(0), 10, world.lease)
    assert await world.deletions.condemn_unused(10, world.lease) == [stored(own)]
    assert await world.deletions.condemn_unused(10, world.lease) == []
    await world.raise_start(1, -1)
    await world.retained.trim(world.key(1), 10, world.lease)
    assert await world.deletions.condemn_unused(10, world.lease) == [stored(shared)]
    assert await world.deletions.waiting() == (2, 2000)


async def test_what_is_condemned_is_deleted_after_the_delay_and_forgotten_when_no_commit_can_come(world: World) -> None:
    facts = await world.commit(0)
    await world.raise_start(0, -1)
    await world.retained.trim(world.key(0), 10, world.lease)
    await world.deletions.condemn_unused(10, world.lease)
    assert await world.deletions.due(LONG_MS, 10) == []
    await asyncio.sleep(SOON_MS / 1000)
    assert await world.deletions.due(SOON_MS // 2, 10) == [stored(facts)]
    await world.deletions.confirm([facts.object_id], world.lease)
    assert await world.deletions.due(0, 10) == []
    assert await world.deletions.waiting() == (0, 0)
    assert await world.deletions.forget(10, world.lease) == 0, "a retry still finds the outcome"
    [again] = await world.commits.commit([facts])
    assert isinstance(again, Committed)
    assert again.replayed
    await asyncio.sleep(0.002)
    await world.commits.prune_outcomes(0)
    assert await world.deletions.forget(10, world.lease) == 1
    assert await world.live() == {}
    assert await world.commits.commit([facts]) == [Refused("condemned")], "its epoch lives: a retry may still come"
    await EpochStore(world.opened.db).retire(world.epoch)
    assert await world.deletions.forget(10, world.lease) == 1
    assert await world.commits.commit([facts]) == [Refused("epoch-lost")]


async def test_orphans_are_condemned_and_members_are_not(world: World) -> None:
    member, orphan = await world.commit(0), world.object(0)
    found = [stored(member), stored(orphan)]
    assert await world.deletions.orphans_in(found) == [stored(orphan)]
    assert await world.deletions.condemn(found, world.lease) == [stored(orphan)]
    assert await world.deletions.condemn(found, world.lease) == []
    assert await world.commits.commit([orphan]) == [Refused("condemned")]
    await world.deletions.confirm([orphan.object_id], world.lease)
    assert await world.deletions.orphans_in(found) == [stored(orphan)], "listed although confirmed gone: it landed late"
    assert await world.deletions.condemn(found, world.lease) == [stored(orphan)]
    assert await world.deletions.due(0, 10) == [stored(orphan)]


async def test_deleted_topics_leave_nothing_but_their_row(world: World) -> None:
    for _ in range(3):
        await world.commit(0, 1, 2)
    topics = TopicStore(world.opened.db)
    assert not await world.retained.drop_shard(world.key(0), world.lease), "a live topic's shard stays"
    await topics.delete(world.topic.topic)
    assert not await world.retained.drop_shard(world.key(0), world.lease), "there are extents"
    for shard in range(3):
        assert (await world.retained.trim(world.key(shard), 10, world.lease)).extents == 3
        assert await world.retained.drop_shard(world.key(shard), world.lease)
    assert await world.live() == {1: 0, 2: 0, 3: 0}
    assert (await world.retained.heads((-1, -1), 10))[1] == []
    [outcome] = await world.commits.commit([world.object(0)])
    assert isinstance(outcome, Committed)
    assert [one.error for one in outcome.outcomes] == [3]


async def test_the_extents_of_a_replayed_commit_are_counted_once(world: World) -> None:
    facts = await world.commit(0, 1, 2)
    await world.commits.commit([facts])
    await world.commits.commit([facts, world.object(1, 7)])
    assert await world.live() == {1: 3, 2: 1}


async def test_a_lost_lease_writes_nothing(world: World) -> None:
    facts = await world.commit(0)
    await world.raise_start(0, 5)
    leases = LeaseStore(world.opened.db)
    await leases.release(world.lease)
    other = await leases.acquire("deletion", "other", LONG_MS)
    assert other is not None
    dead = DeadEpochStore(world.opened.db)
    await EpochStore(world.opened.db).retire(world.epoch)
    [epoch] = await dead.due(0, LONG_MS, 10)
    for write in (
        world.starts.advance({world.key(0): 9}, world.lease),
        world.retained.trim(world.key(0), 10, world.lease),
        world.retained.drop_shard(world.key(0), world.lease),
        world.deletions.condemn_unused(10, world.lease),
        world.deletions.condemn([stored(world.object(0))], world.lease),
        world.deletions.confirm([facts.object_id], world.lease),
        world.deletions.forget(10, world.lease),
        dead.swept(epoch, world.lease),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await world.start(0) == 5
    assert await world.live() == {1: 1}
    assert await world.deletions.waiting() == (0, 0)


async def test_dead_epochs_are_listed_at_growing_intervals_and_then_dropped(world: World) -> None:
    db = world.opened.db
    epochs, dead = EpochStore(db), DeadEpochStore(db)
    assert await dead.due(0, LONG_MS, 10) == []
    lapsed = (await epochs.issue("other", 1)).epoch
    await asyncio.sleep(0.01)
    assert await epochs.retire_lapsed() == [lapsed]
    assert await dead.due(LONG_MS, LONG_MS, 10) == []
    [found] = await dead.due(0, LONG_MS, 10)
    assert (found.epoch, found.last) == (lapsed, False)
    await asyncio.sleep(0.1)
    await dead.swept(found, world.lease)
    assert await dead.due(0, LONG_MS, 10) == [], "not before twice the time has passed"
    await asyncio.sleep(0.15)
    [again] = await dead.due(0, 100, 10)
    assert (again.epoch, again.retired_ms, again.last) == (lapsed, found.retired_ms, True)
    await dead.swept(again, world.lease)
    assert await dead.due(0, 0, 10) == []
    assert await epochs.renew(lapsed, LONG_MS) is None
    assert await world.commits.commit([ObjectFacts(lapsed << 32, "late", 1, ())]) == [Refused("epoch-lost")]
