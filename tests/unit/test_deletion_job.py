"""The deletion job over a whole agent in memory: what goes, when, and what stays; one agent at a time; failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.agent_core import AgentCore
from broker.deletion.job import DELETION, DeletionJob, shard_of
from broker.deletion.retention import BEGINNING
from broker.objects.memory import MemoryStore
from broker.objects.port import NotFound, ObjectInfo, Unavailable
from broker.services import FetchPart, TopicView
from catalog.commits import CommitStore
from catalog.exports import ExportStatus, ExportStore
from catalog.inline import InlineDatabase
from catalog.jobs import JobStore
from catalog.leases import LeaseStore, role_lease
from catalog.migrate import migrate
from tests.data_path import Produced, batch_of, running_core, values_in

NOW_MS = 1_800_000_000_000
DELAY_MS = 10_000
QUIET = {
    "deletion_interval_ms": 3_600_000,
    "object_delete_delay_ms": DELAY_MS,
    "fetch_read_ms": 2_000,
    "orphan_delay_ms": 1_000,
    "epoch_lease_ms": 3_600_000,
    "log_retention_check_interval_ms": 1,
    "prune_interval_ms": 3_600_000,
    "job_lease_ms": 200_000_000,
    "job_hold_ms": 200_000_000,
    "roles": "broker",
}
"""Nothing happens by itself."""


class Store(MemoryStore):
    """Refuses to delete some keys, or to list."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW_MS)
        self.keep: dict[str, None] = {}
        self.listing_fails = False

    async def delete(self, keys: Sequence[str]) -> list[str]:
        return await super().delete([key for key in keys if key not in self.keep])

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        async for page in super().list(prefix):
            yield page
            if self.listing_fails:
                raise Unavailable("the second page is refused")

    async def segments(self) -> list[str]:
        """Keys of segments."""
        return [info.key async for page in MemoryStore.list(self, "") for info in page if "/segments/" in info.key]


@dataclass
class World:
    """An agent, its store, and the database's clock, which a test moves."""

    store: Store = field(default_factory=Store)
    now_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.database = InlineDatabase(lambda: self.now_ms)

    @asynccontextmanager
    async def agent(self, seed: int = 1, **settings: Any) -> AsyncIterator[AgentCore]:
        async with running_core(
            store=self.store, database=self.database.handle(), seed=seed, **{**QUIET, **settings}
        ) as core:
            core.jobs.jobs = {DELETION: self.job(core)}
            yield core

    def job(self, core: AgentCore) -> DeletionJob:
        job = core.jobs.jobs[DELETION]
        assert isinstance(job, DeletionJob)
        return job

    async def round(self, core: AgentCore) -> bool:
        """One turn of the job, due or not; True where there is more to do at once."""
        await JobStore(self.database).hurry([DELETION])
        core.jobs._looked_s = None
        await core.jobs.step()
        assert not core.jobs.unforeseen
        return core.jobs.holds(DELETION)

    async def work(self, core: AgentCore) -> int:
        """Rounds until nothing is left to do at once; returns how many."""
        self.job(core)._judged_s = None  # retention is due, however little time has passed
        for rounds in range(1, 200):
            if not await self.round(core):
                return rounds
        raise AssertionError("it never ends")

    async def start(self, core: AgentCore, topic: TopicView, shard: int = 0) -> int:
        [answer] = await core.reader.list_offsets([(topic.topic, shard, -2)])
        assert not answer.error
        return answer.offset

    async def delete(self, core: AgentCore, topic: TopicView, offset: int, shard: int = 0) -> None:
        answers = await core.log_starts.delete_records({(topic.topic, shard): offset})
        assert not answers[topic.topic, shard].error

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.database._connection.execute(sql).fetchall()]


@pytest.fixture
async def world() -> World:
    world = World()
    await migrate(world.database)
    return world


async def put(core: AgentCore, topic: TopicView, *ages_ms: int, shard: int = 0) -> None:
    """One object for each age, with two records."""
    produced = Produced(core)
    for age in ages_ms:
        outcome = await produced.send(topic, shard, batch_of(b"a", b"b", timestamp=NOW_MS - age - 1))
        assert not outcome.error


async def test_old_records_go_and_their_objects_after_the_delay(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {"retention.ms": "1000"})
        await put(core, topic, 5000, 4000, 500)
        await world.work(core)
        assert await world.start(core, topic) == 4
        assert len(await world.store.segments()) == 3, "readers may still be at them"
        assert world.job(core).counts.waiting_objects == 2
        world.now_ms += DELAY_MS - 1
        await world.round(core)
        assert world.job(core).counts.objects_deleted == 0
        assert await world.start(core, topic) == 6, "the last one is old by now too"
        world.now_ms += 1
        await world.work(core)
        assert len(await world.store.segments()) == 1
        counts = world.job(core).counts
        assert (counts.objects_condemned, counts.objects_deleted, counts.extents_removed) == (3, 2, 3)
        assert counts.bytes_deleted > 0
        await put(core, topic, -DELAY_MS)
        [part] = await core.reader.fetch(
            [FetchPart(topic.topic, 0, 6, 1 << 20)], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20
        )
        assert (part.error, part.log_start, part.high_watermark, values_in(part)[0]) == (0, 6, 8, (6, b"a"))


async def test_logs_are_kept_to_their_size(world: World) -> None:
    size = len(batch_of(b"a", b"b", timestamp=NOW_MS))
    async with world.agent(deletion_rows_max=2) as core:
        topic = await core.topics.create("t", 2, {"retention.ms": "-1", "retention.bytes": str(3 * size)})
        await put(core, topic, *[0] * 7)
        await put(core, topic, *[0] * 3, shard=1)
        await world.work(core)
        assert [await world.start(core, topic, shard) for shard in (0, 1)] == [8, 0]
        await put(core, topic, 0, 0)
        world.now_ms += 5
        await world.work(core)
        assert await world.start(core, topic) == 12
        await world.delete(core, topic, 15)
        await put(core, topic, 0)
        world.now_ms += 5
        await world.work(core)
        assert await world.start(core, topic) == 15, "what was deleted meanwhile doesn't count"
        await put(core, topic, 0, 0)
        world.now_ms += 5
        await world.work(core)
        assert await world.start(core, topic) == 18


@pytest.mark.parametrize("policy", ["compact", ""])
async def test_without_the_delete_policy_only_what_was_deleted_goes(world: World, policy: str) -> None:
    async with world.agent() as core:
        topic = await core.topics.create(
            "t", 1, {"cleanup.policy": policy, "retention.ms": "1", "retention.bytes": "1"}
        )
        await put(core, topic, 5000, 4000)
        await world.work(core)
        assert await world.start(core, topic) == 0
        await world.delete(core, topic, 3)
        await world.work(core)
        assert world.rows("SELECT offset_first FROM extents") == [(2,)]


async def test_a_deleted_topic_leaves_nothing_and_takes_nothing_with_it(world: World) -> None:
    async with world.agent(deletion_rows_max=3, flush_interval_ms=20, flush_interval_min_ms=20) as core:
        topic, other = await core.topics.create("t", 2, {}), await core.topics.create("other", 1, {})
        produced = Produced(core)
        for _ in range(4):
            waiting = [
                produced.send(*to, batch_of(b"x", timestamp=NOW_MS)) for to in ((topic, 0), (topic, 1), (other, 0))
            ]
            for one in waiting:
                await one
        shared = len(await world.store.segments())
        await core.topics.delete(topic)
        await world.work(core)
        world.now_ms += DELAY_MS
        await world.work(core)
        assert world.rows("SELECT topic, shard FROM shards") == [(other.topic, 0)]
        assert world.rows("SELECT COUNT(*) FROM extents") == [(4,)]
        assert len(await world.store.segments()) == shared == 4, "each has a record of the other topic in it"
        await core.topics.delete(other)
        await world.work(core)
        world.now_ms += DELAY_MS
        await world.work(core)
        assert await world.store.segments() == []


async def test_rounds_are_bounded_and_go_on_where_they_stopped(world: World) -> None:
    async with world.agent(deletion_steps_max=2, deletion_rows_max=1, deletion_shards_max=2) as core:
        topic = await core.topics.create("t", 5, {"retention.ms": "1000"})
        for shard in range(5):
            await put(core, topic, 5000, 4000, shard=shard)
        assert await world.round(core)
        assert sum([await world.start(core, topic, shard) for shard in range(5)]) <= 2
        assert await world.work(core) > 5
        assert [await world.start(core, topic, shard) for shard in range(5)] == [4] * 5
        assert world.rows("SELECT COUNT(*) FROM extents") == [(0,)]


async def export_stands_at(core: AgentCore, topic: TopicView, offset: int, kind: Any = "main") -> None:
    status = ExportStatus(topic.topic, kind, f"topics.{kind}", None, "Running", "", {0: offset}, None)
    await ExportStore(core.database).put_status(status)


async def test_retention_waits_for_the_export_up_to_a_bound(world: World) -> None:
    async with world.agent(export_pin_ms=60_000) as core:
        topic = await core.topics.create("t", 1, {"retention.ms": "1000"})
        await put(core, topic, 5000, 4000, 3000)
        await export_stands_at(core, topic, 6)
        await export_stands_at(core, topic, 3, "history")
        await world.work(core)
        assert await world.start(core, topic) == 2, "the table that is furthest behind counts"
        await export_stands_at(core, topic, 4, "history")
        world.now_ms += 60_000
        await world.work(core)
        assert await world.start(core, topic) == 4
        world.now_ms += 2
        await world.work(core)
        assert await world.start(core, topic) == 6, "it has waited long enough"


async def test_retention_waits_for_no_more_than_so_many_bytes(world: World) -> None:
    size = len(batch_of(b"a", b"b", timestamp=NOW_MS))
    async with world.agent(export_pin_bytes=2 * size) as core:
        topic = await core.topics.create("t", 1, {"retention.ms": "1000"})
        await export_stands_at(core, topic, 0)
        await put(core, topic, 5000, 4000, 3000)
        await world.work(core)
        assert await world.start(core, topic) == 2


@pytest.mark.parametrize(
    ("name", "config", "roles", "start"),
    [
        ("t", {}, "broker", 2),
        ("t", {}, "broker,export", 0),
        ("t", {"iceberg.mode": "disabled"}, "broker,export", 2),
        ("x-changelog", {}, "broker,export", 2),
    ],
)
async def test_nobody_waits_for_an_export_that_there_is_not(
    world: World, name: str, config: dict[str, str], roles: str, start: int
) -> None:
    async with world.agent(roles=roles) as core:
        topic = await core.topics.create(name, 1, {"retention.ms": "1000", **config})
        await put(core, topic, 5000)
        await world.work(core)
        assert await world.start(core, topic) == start


async def test_rows_go_only_for_what_the_store_confirmed(world: World) -> None:
    async with world.agent(object_delete_max=1) as core:
        topic = await core.topics.create("t", 1, {})
        await put(core, topic, 0, 0, 0)
        await world.delete(core, topic, -1)
        await world.work(core)
        stubborn = sorted(await world.store.segments())[0]
        world.store.keep[stubborn] = None
        world.now_ms += DELAY_MS
        await world.round(core)
        assert world.job(core).counts.objects_deleted == 0, "the oldest is asked for first"
        world.store.keep.clear()
        await world.work(core)
        assert await world.store.segments() == []
        assert world.job(core).counts.objects_deleted == 3
        assert world.rows("SELECT COUNT(*) FROM objects") == [(3,)], "their outcomes may still be asked for"
        await CommitStore(world.database, epoch_age_max_ms=1).prune_outcomes(-1)
        await world.work(core)
        assert world.rows("SELECT COUNT(*) FROM objects") == [(0,)]


async def orphan(world: World, core: AgentCore, epoch: int, count: int) -> list[str]:
    cluster = core.cluster.cluster_id
    names = [f"{cluster}/segments/{epoch}/{at}-{'0' * 16}" for at in range(1000, 1000 + count)]
    for name in names:
        await world.store.put(name, [b"lost"])
    return names


async def test_orphans_of_dead_epochs_are_deleted_and_those_of_live_ones_are_not(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await put(core, topic, 0)
        epoch = core.epochs.epoch
        assert epoch is not None
        [name] = await orphan(world, core, epoch, 1)
        world.now_ms += 5_000
        await world.work(core)
        assert world.job(core).counts.orphans_condemned == 0
        await core.epochs.abandon(epoch)
        await world.work(core)
        assert world.job(core).counts.orphans_condemned == 0, "not at once"
        world.now_ms += 1_000
        await world.work(core)
        assert world.job(core).counts.orphans_condemned == 1
        world.now_ms += DELAY_MS
        await world.work(core)
        with pytest.raises(NotFound):
            await world.store.head(name)
        assert len(await world.store.segments()) == 1, "what was committed stays"
        await orphan(world, core, epoch, 1)
        world.now_ms += 100_000
        await world.work(core)
        world.now_ms += DELAY_MS
        await world.work(core)
        assert len(await world.store.segments()) == 1, "it landed once more, late"
        world.now_ms += 100_000_000
        await world.work(core)
        assert (epoch,) not in world.rows("SELECT epoch FROM epochs"), "watched for long enough"


@pytest.mark.parametrize(("count", "most", "deleted"), [(101, 10_000, False), (100, 10_000, True), (9, 8, False)])
async def test_too_many_orphans_are_left_alone(world: World, count: int, most: int, deleted: bool) -> None:
    async with world.agent(orphans_max=most) as core:
        epoch = core.epochs.epoch
        assert epoch is not None
        await orphan(world, core, epoch, count)
        await core.epochs.abandon(epoch)
        world.now_ms += 1_000
        await world.work(core)
        assert world.job(core).counts.orphans_condemned == (count if deleted else 0)
        assert world.job(core).counts.epochs_refused == (0 if deleted else 1)


async def test_a_listing_that_breaks_off_condemns_nothing(world: World) -> None:
    async with world.agent() as core:
        epoch = core.epochs.epoch
        assert epoch is not None
        await orphan(world, core, epoch, 3)
        await core.epochs.abandon(epoch)
        world.now_ms += 1_000
        world.store.listing_fails = True
        assert not await world.round(core)
        assert world.job(core).counts.orphans_condemned == 0
        assert core.jobs.counts[DELETION].failures == 1
        world.store.listing_fails = False
        await world.work(core)
        assert world.job(core).counts.orphans_condemned == 3


async def test_an_agent_that_stood_still_past_its_lease_writes_nothing_and_another_goes_on(world: World) -> None:
    few = {"deletion_steps_max": 1, "deletion_rows_max": 1, "job_lease_ms": 60_000}
    async with world.agent(2, **few) as other, world.agent(1, **few) as core:
        topic = await core.topics.create("t", 1, {"retention.ms": "1000"})
        await put(core, topic, *[5000] * 5)
        assert await world.round(core), "there is more to do"
        start = await world.start(core, topic)
        assert not await world.round(other)
        world.now_ms += 60_000
        assert await world.round(other)
        assert await world.start(core, topic) >= start
        await put(core, topic, 5000)
        start = await world.start(core, topic)
        await core.jobs.step()
        assert core.jobs.counts[DELETION].losses == 1
        assert await world.start(core, topic) == start, "it wrote nothing"
        await world.work(other)
        assert await world.start(core, topic) == 12


async def test_the_walk_goes_on_where_another_stopped(world: World) -> None:
    few = {"deletion_steps_max": 1, "deletion_shards_max": 2}
    async with world.agent(1, **few) as core:
        topic = await core.topics.create("t", 6, {"retention.ms": "1000"})
        for shard in range(6):
            await put(core, topic, 5000, shard=shard)
        assert await world.round(core)
        [(progress,)] = world.rows("SELECT progress FROM jobs WHERE lease = 'deletion'")
        assert shard_of(progress)[0] == topic.topic
        at = shard_of(progress)[1]
        await core.jobs.close()
        async with world.agent(2, **few) as other:
            await world.round(other)
            [(then,)] = world.rows("SELECT progress FROM jobs WHERE lease = 'deletion'")
            assert shard_of(then)[1] > at
            await world.work(other)
            assert [await world.start(other, topic, shard) for shard in range(6)] == [2] * 6
            assert world.rows("SELECT progress FROM jobs WHERE lease = 'deletion'") == [("",)]


@pytest.mark.parametrize("text", ["", "x", "1", "1/", "/2", "1/-2", "1/2/3", "\u0661/\u00b2"])
def test_a_progress_that_names_no_shard_begins_anew(text: str) -> None:
    assert shard_of(text) == BEGINNING
    assert shard_of("7/12") == (7, 12)


async def test_an_exporter_without_kafka_clients_is_waited_for(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {"retention.ms": "1000"})
        lease = await LeaseStore(world.database).acquire(role_lease("export", "x"), "x", 100)
        assert lease is not None
        await put(core, topic, 5000)
        await world.work(core)
        assert await world.start(core, topic) == 0
        await LeaseStore(world.database).release(lease)
        await world.work(core)
        assert await world.start(core, topic) == 2


async def test_other_agents_follow_log_starts(world: World) -> None:
    async with world.agent(1) as one, world.agent(2, topic_poll_interval_ms=1_000) as two:
        topic = await one.topics.create("t", 1, {})
        await put(one, topic, 0, 0)
        part = FetchPart(topic.topic, 0, 0, 1 << 20)
        [before] = await two.reader.fetch([part], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20)
        assert (before.error, before.log_start) == (0, 0)
        await world.delete(one, topic, 3)
        assert one.reader.fetch_now([part], 0, 1 << 20) is None, "not from memory any more"
        assert two.reader.fetch_now([part], 0, 1 << 20) is not None
        assert await two.log_starts.follow() == 1
        assert two.reader.fetch_now([part], 0, 1 << 20) is None
        for core in (one, two):
            [answer] = await core.reader.fetch([part], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20)
            assert answer.error == 1
            [rest] = await core.reader.fetch(
                [FetchPart(topic.topic, 0, 3, 1 << 20)], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20
            )
            assert (rest.error, rest.log_start) == (0, 3)
            assert values_in(rest) == [(2, b"a"), (3, b"b")], "the batch that holds the log start comes whole"


async def test_an_agent_that_stood_still_says_out_of_range_and_not_a_fault(world: World) -> None:
    async with world.agent(1) as one, world.agent(2) as two:
        topic = await one.topics.create("t", 1, {})
        await put(one, topic, 0, 0)
        part = FetchPart(topic.topic, 0, 0, 1 << 20)
        await two.reader.fetch([part], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20)
        for cache in (two.hot, two.cold):
            cache._blocks.clear()
        await world.delete(one, topic, 2)
        await world.store.delete(await world.store.segments())
        [answer] = await two.reader.fetch([part], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20)
        assert answer.error == 1
        [missing] = await two.reader.fetch(
            [FetchPart(topic.topic, 0, 2, 1 << 20)], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20
        )
        assert missing.error == 56, "above the log start it is a fault"


async def test_offsets_for_times_begin_at_the_log_start(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await Produced(core).send(topic, 0, batch_of(b"0", b"1", b"2", b"3", timestamp=1000))
        await world.delete(core, topic, 2)
        asked = [(topic.topic, 0, at) for at in (0, 1001, 1002, 1003, 1004, -2, -4)]
        answers = await core.reader.list_offsets(asked)
        assert [answer.offset for answer in answers] == [2, 2, 2, 3, -1, 2, 2]
        stamped = await core.topics.create("stamped", 1, {"message.timestamp.type": "LogAppendTime"})
        await Produced(core).send(stamped, 0, batch_of(b"0", b"1", b"2"))
        await world.delete(core, stamped, 1)
        [answer] = await core.reader.list_offsets([(stamped.topic, 0, 1)])
        assert answer.offset == 1
