"""The commit transaction and the reads of extents, on every implementation of the database port."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import pytest

from catalog.commits import CommitStore, Committed, ObjectOutcome, Refused
from catalog.database import Database
from catalog.deletions import DeletionStore, StoredObject
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore, ShardQuery, Watermarks
from catalog.outcomes import unpack_producer_batches
from catalog.sequence import BatchFacts, BatchOutcome, ObjectFacts, ProducerState
from catalog.topics import TopicRow, TopicStore
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000
SHORT_MS = 40


@dataclass
class Agent:
    """One process's view of the cluster under test."""

    db: Database
    commits: CommitStore
    epoch: int
    numbers: int = 0

    def obj(self, *batches: BatchFacts) -> ObjectFacts:
        """A fresh object under this agent's epoch."""
        self.numbers += 1
        object_id = self.epoch << 32 | self.numbers
        return ObjectFacts(object_id, f"c/segments/{self.epoch}/{self.numbers}", 1000, batches)


async def make_agent(db: Database, lease_ms: int = LONG_MS, epoch_age_max_ms: int = LONG_MS) -> Agent:
    lease = await EpochStore(db).issue("agent", lease_ms)
    return Agent(db, CommitStore(db, epoch_age_max_ms=epoch_age_max_ms), lease.epoch)


@dataclass
class World:
    opened: OpenDatabase
    topic: TopicRow
    agent: Agent

    async def another(self) -> Agent:
        return await make_agent(await self.opened.another())

    def batch(
        self, count: int, at: int = 0, shard: int = 0, producer: tuple[int, int, int] = (-1, -1, -1)
    ) -> BatchFacts:
        return BatchFacts(self.topic.topic, shard, at, 10, count, 5, False, *producer)

    async def watermarks(self) -> dict[int, int]:
        keys = [(self.topic.topic, shard) for shard in range(self.topic.shards)]
        found = await ExtentStore(self.opened.db).watermarks(keys)
        return {shard: found[self.topic.topic, shard].high_watermark for shard in range(self.topic.shards)}


@pytest.fixture
async def world(migrated: OpenDatabase) -> World:
    topic = await TopicStore(migrated.db).create("t", UUID(int=1), 4, {})
    return World(migrated, topic, await make_agent(migrated.db))


def offsets(outcome: ObjectOutcome | None) -> list[int]:
    assert isinstance(outcome, Committed), outcome
    assert not any(one.error for one in outcome.outcomes)
    return [one.offset for one in outcome.outcomes]


async def test_a_group_is_committed_in_its_order(world: World) -> None:
    agent = world.agent
    first = agent.obj(world.batch(10), world.batch(5, 10), world.batch(3, 20, shard=2))
    second = agent.obj(world.batch(1), world.batch(2, 10, shard=9))
    done = await agent.commits.commit([first, second])
    assert offsets(done[0]) == [0, 10, 0]
    assert isinstance(done[0], Committed)
    assert done[0].high_watermarks() == {(world.topic.topic, 0): 15, (world.topic.topic, 2): 3}
    assert isinstance(done[1], Committed)
    assert done[1].outcomes == (BatchOutcome(0, 15, -1, 0), BatchOutcome(3, -1, -1, -1))
    assert await world.watermarks() == {0: 16, 1: 0, 2: 3, 3: 0}
    assert await agent.commits.commit([]) == []


async def test_the_same_object_again_gets_the_same_answer(world: World) -> None:
    agent = world.agent
    facts = agent.obj(
        world.batch(10), world.batch(5, 15), world.batch(2, 30, producer=(7, 0, 5)), world.batch(1, 40, 9)
    )
    [first] = await agent.commits.commit([facts])
    await agent.commits.commit([agent.obj(world.batch(3))])
    [again] = await agent.commits.commit([facts])
    assert isinstance(first, Committed)
    assert isinstance(again, Committed)
    assert (again.outcomes, again.extents, again.replayed) == (first.outcomes, first.extents, True)
    assert (await world.watermarks())[0] == 20
    # also beside new ones, and under an epoch that is lost by now
    await EpochStore(agent.db).retire(agent.epoch)
    new = agent.obj(world.batch(1))
    replayed, refused = await agent.commits.commit([facts, new])
    assert replayed == again
    assert refused == Refused("epoch-lost")


async def test_unknown_commits_are_resolved_by_object_id(world: World) -> None:
    agent = world.agent
    landed, never = agent.obj(world.batch(10)), agent.obj(world.batch(1))
    [told] = await agent.commits.commit([landed])
    found = await agent.commits.resolve([landed, never])
    assert isinstance(told, Committed)
    assert found[never.object_id] is None
    assert offsets(found[landed.object_id]) == offsets(told)


async def test_a_lost_epoch_commits_nothing(world: World) -> None:
    short = await make_agent(world.opened.db, lease_ms=SHORT_MS)
    retired = await make_agent(world.opened.db)
    await EpochStore(world.opened.db).retire(retired.epoch)
    await asyncio.sleep(2 * SHORT_MS / 1000)
    for agent in (short, retired):
        assert await agent.commits.commit([agent.obj(world.batch(1))]) == [Refused("epoch-lost")]
    unissued = Agent(world.opened.db, world.agent.commits, 999)
    assert await unissued.commits.commit([unissued.obj(world.batch(1))]) == [Refused("epoch-lost")]
    assert await world.watermarks() == dict.fromkeys(range(4), 0)


async def test_an_epoch_over_age_commits_nothing(world: World) -> None:
    aged = await make_agent(world.opened.db, epoch_age_max_ms=SHORT_MS)
    facts = aged.obj(world.batch(1))
    await asyncio.sleep(2 * SHORT_MS / 1000)
    assert await aged.commits.commit([facts]) == [Refused("too-old")]


async def test_condemned_objects_are_refused_and_what_follows_waits(world: World) -> None:
    agent = world.agent
    committed, condemned, following = (agent.obj(world.batch(1)) for _ in range(3))
    await agent.commits.commit([committed])
    deletions = DeletionStore(agent.db)
    one, other = (StoredObject(facts.object_id, facts.name, facts.bytes) for facts in (committed, condemned))
    assert await deletions.condemn([one, other]) == [other]
    assert await deletions.condemn([other]) == [], "once is enough"
    before = agent.obj(world.batch(5))
    done = await agent.commits.commit([before, condemned, following, committed])
    assert offsets(done[0]) == [1]
    assert done[1:3] == [Refused("condemned"), Refused("predecessor")]
    assert offsets(done[3]) == [0]
    assert (await world.watermarks())[0] == 6
    assert offsets((await agent.commits.commit([following]))[0]) == [6]


async def test_two_agents_on_the_same_shards_leave_no_gap(world: World) -> None:
    agents = [world.agent, await world.another(), await world.another()]

    async def work(agent: Agent, way: int) -> list[tuple[int, int, int]]:
        ranges = []
        for number in range(12):
            shards = [0, 1, 2, 3][:: way if way else 1]
            group = [
                agent.obj(*(world.batch(1 + (number + shard) % 3, 10 * i, shard) for i, shard in enumerate(shards)))
                for _ in range(2)
            ]
            for facts, outcome in zip(group, await agent.commits.commit(group), strict=True):
                for batch, offset in zip(facts.batches, offsets(outcome), strict=True):
                    ranges.append((batch.shard, offset, offset + batch.offset_count))
        return ranges

    told = [
        one
        for part in await asyncio.gather(*(work(a, w) for a, w in zip(agents, (1, -1, 1), strict=True)))
        for one in part
    ]
    for shard, watermark in (await world.watermarks()).items():
        mine = sorted((first, following) for at, first, following in told if at == shard)
        assert [first for first, _ in mine] == [0, *(following for _, following in mine[:-1])]
        assert mine[-1][1] == watermark
        [found] = await ExtentStore(agents[1].db).find_extents([ShardQuery(world.topic.topic, shard, 0)], 10_000)
        assert found is not None
        assert found.extents[-1].extent.offset_next == watermark


async def test_a_retry_at_another_agent_is_a_duplicate(world: World) -> None:
    other = await world.another()
    first, second = world.batch(5, producer=(7, 0, 0)), world.batch(5, 10, producer=(7, 0, 5))
    [told] = await world.agent.commits.commit([world.agent.obj(first, second)])
    [retried] = await other.commits.commit([other.obj(first, second, world.batch(1, 20, producer=(7, 0, 10)))])
    assert isinstance(retried, Committed)
    assert offsets(retried) == [*offsets(told), 10]
    assert [one.duplicate for one in retried.outcomes] == [True, True, False]
    stale = await other.commits.commit(
        [other.obj(world.batch(1, producer=(7, 1, 0))), other.obj(world.batch(1, producer=(7, 0, 11)))]
    )
    assert [one.outcomes[0].error for one in stale if isinstance(one, Committed)] == [0, 47]
    assert (await world.watermarks())[0] == 12


async def test_what_a_process_remembers_of_its_last_commit_yields_to_every_other_write(world: World) -> None:
    """Each writer between two commits of one process is heeded: other processes, and other stores of the process itself."""
    agent, other = world.agent, await world.another()

    async def commit(committer: Agent, count: int, producer: tuple[int, int, int]) -> BatchOutcome:
        [done] = await committer.commits.commit([committer.obj(world.batch(count, producer=producer))])
        assert isinstance(done, Committed)
        return done.outcomes[0]

    assert [(await commit(agent, 2, (7, 0, sequence))).offset for sequence in (0, 2, 4)] == [0, 2, 4]
    assert (await commit(other, 3, (7, 0, 6))).offset == 6
    assert (await commit(agent, 1, (7, 0, 9))).offset == 9
    assert (await commit(agent, 1, (7, 0, 6))).error == 45
    await other.commits.prune_producers(-LONG_MS)
    assert (await commit(agent, 1, (7, 0, 500))).offset == 10
    await agent.commits.prune_producers(-LONG_MS)
    assert (await commit(agent, 1, (7, 0, 900))).offset == 11
    await EpochStore(other.db).retire(agent.epoch)
    assert await agent.commits.commit([agent.obj(world.batch(1))]) == [Refused("epoch-lost")]
    assert (await commit(other, 1, (7, 0, 901))).offset == 12
    await TopicStore(other.db).delete(world.topic.topic)
    assert (await commit(other, 1, (7, 0, 902))).error == 3


async def test_a_commit_that_was_rolled_back_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = world.agent
    assert offsets((await agent.commits.commit([agent.obj(world.batch(5))]))[0]) == [0]
    transact = agent.db.transact

    async def failing(body, **how):  # type: ignore[no-untyped-def]
        async def fail(tx):  # type: ignore[no-untyped-def]
            await body(tx)
            raise RuntimeError("rolled back")

        return await transact(fail, **how)

    with monkeypatch.context() as patch:
        patch.setattr(agent.db, "transact", failing)
        with pytest.raises(RuntimeError):
            await agent.commits.commit([agent.obj(world.batch(100))])
    assert offsets((await agent.commits.commit([agent.obj(world.batch(1))]))[0]) == [5]


async def test_append_time_is_the_databases(world: World) -> None:
    stamped = world.batch(1)._replace(append_time=True)
    [done] = await world.agent.commits.commit([world.agent.obj(stamped)])
    assert isinstance(done, Committed)
    assert done.outcomes[0].append_ms > 1_600_000_000_000
    [found] = await ExtentStore(world.agent.db).find_extents([ShardQuery(world.topic.topic, 0, 0)], 1)
    assert found is not None
    assert found.extents[0].extent.append_ms == found.extents[0].extent.timestamp_max == done.outcomes[0].append_ms


async def test_a_deleted_topic_takes_no_records(world: World) -> None:
    await world.agent.commits.commit([world.agent.obj(world.batch(1))])
    await TopicStore(world.agent.db).delete(world.topic.topic)
    [done] = await world.agent.commits.commit([world.agent.obj(world.batch(1))])
    assert isinstance(done, Committed)
    assert (done.outcomes[0].error, done.extents) == (3, ())
    extents = ExtentStore(world.agent.db)
    assert await extents.find_extents([ShardQuery(world.topic.topic, 0, 0)], 5) == [None]
    assert await extents.watermarks([(world.topic.topic, 0)]) == {}
    assert await extents.first_from_time(world.topic.topic, 0, 0) is None


async def test_outcomes_and_producers_are_forgotten_in_time(world: World) -> None:
    agent = world.agent
    facts = agent.obj(world.batch(5, producer=(7, 0, 0)))
    await agent.commits.commit([facts])
    assert await agent.commits.prune_outcomes(LONG_MS) == 0
    assert await agent.commits.prune_producers(LONG_MS) == 0
    await asyncio.sleep(0.02)
    assert await agent.commits.prune_outcomes(1) == 1
    assert await agent.commits.prune_outcomes(1) == 0
    assert await agent.commits.prune_producers(1) == 1
    assert await agent.commits.commit([facts]) == [Refused("too-old")]
    assert (await world.watermarks())[0] == 5  # it stays committed, once


async def test_producer_state_survives_in_the_database(world: World) -> None:
    for number in range(7):
        await world.agent.commits.commit([world.agent.obj(world.batch(2, producer=(7, 3, 2 * number)))])
    rows = await world.agent.db.snapshot(lambda tx: tx.fetch("SELECT producer_epoch, batches FROM producers"))
    [state] = [ProducerState(row[0], unpack_producer_batches(row[1])) for row in rows]
    assert state.epoch == 3
    assert [batch.first_sequence for batch in state.batches] == [4, 6, 8, 10, 12]


async def test_extents_from_an_offset_within_rows_and_bytes(world: World) -> None:
    agent, topic = world.agent, world.topic.topic
    for _ in range(10):
        await agent.commits.commit([agent.obj(world.batch(3), world.batch(2, 20, shard=1))])
    extents = ExtentStore(agent.db)

    async def ranges(shard: int, offset: int, rows: int = 100, bytes_max: int = 2**40) -> list[tuple[int, int]]:
        [found] = await extents.find_extents([ShardQuery(topic, shard, offset, bytes_max)], rows)
        assert found is not None
        assert (found.high_watermark, found.log_start) == ({0: 30, 1: 20}[shard], 0)
        return [(placed.extent.offset_first, placed.extent.offset_next) for placed in found.extents]

    assert await ranges(0, 0) == [(n, n + 3) for n in range(0, 30, 3)]
    assert await ranges(0, 4, rows=2) == [(3, 6), (6, 9)]
    assert await ranges(0, 4, bytes_max=20) == [(3, 6), (6, 9)]
    assert await ranges(0, 4, bytes_max=1) == [(3, 6)]
    assert await ranges(0, 29) == [(27, 30)]
    assert await ranges(0, 30) == []
    assert await ranges(0, 31) == []
    assert await ranges(0, -1) == []
    both = await extents.find_extents([ShardQuery(topic, 1, 19), ShardQuery(topic, 77, 0), ShardQuery(topic, 0, 1)], 1)
    assert both[1] is None
    assert [one.extents[0].extent.offset_first for one in both if one is not None] == [18, 0]
    assert both[0] is not None
    assert both[0].extents[0].object_name == f"c/segments/{agent.epoch}/10"
    same = await extents.find_extents([ShardQuery(topic, 0, 0), ShardQuery(topic, 0, 9)], 1)
    assert [one.extents[0].extent.offset_first for one in same if one is not None] == [0, 9]
    assert await extents.watermarks([(topic, 1), (topic, 0), (99, 0)]) == {
        (topic, 0): Watermarks(30, 0),
        (topic, 1): Watermarks(20, 0),
    }


async def test_extents_by_time(world: World) -> None:
    agent, topic = world.agent, world.topic.topic
    for timestamp in (10, 30, 20, 30, 5):
        await agent.commits.commit([agent.obj(world.batch(2)._replace(timestamp_max=timestamp))])
    extents = ExtentStore(agent.db)
    starts = []
    for timestamp in (0, 10, 11, 30, 31):
        found = await extents.first_from_time(topic, 0, timestamp)
        starts.append(found.extent.offset_first if found else None)
    assert starts == [0, 0, 2, 2, None]
    largest = await extents.of_max_time(topic, 0)
    assert largest is not None
    assert largest.extent.offset_first == 2
    assert await extents.of_max_time(topic, 1) is None


async def test_the_number_of_statements_is_constant(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    async def count(objects: int) -> None:
        statements = 0
        transact = world.agent.db.transact

        async def counting(body, **how):  # type: ignore[no-untyped-def]
            async def wrapped(tx):  # type: ignore[no-untyped-def]
                class Counting:
                    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
                        nonlocal statements
                        statements += 1
                        return getattr(tx, name)

                return await body(Counting())

            return await transact(wrapped, **how)

        with monkeypatch.context() as patch:
            patch.setattr(world.agent.db, "transact", counting)
            group = [
                world.agent.obj(*(world.batch(1, 10 * s, s, (100 + s, 0, n)) for s in range(4))) for n in range(objects)
            ]
            for outcome in await world.agent.commits.commit(group):
                offsets(outcome)
        counts.append(statements)

    await count(1)
    await world.agent.commits.prune_producers(-LONG_MS)
    await count(20)
    assert counts[0] == counts[1] <= 11
