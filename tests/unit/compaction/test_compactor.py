"""Small-object compaction over whole agents in memory: nothing readable changes, whatever happens besides."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.agent_core import AgentCore
from broker.compaction.job import CompactionJob
from broker.deletion.job import DELETION
from broker.objects.memory import MemoryStore
from broker.objects.port import Buffer, Unavailable
from broker.services import FetchPart, InlineWorkers, TopicView
from catalog.database import CommitUnknown, Transaction
from catalog.extents import ExtentStore, ShardQuery
from catalog.inline import InlineDatabase
from catalog.leases import Lease, LeaseStore
from catalog.migrate import migrate
from catalog.sequence import Extent
from schemas.segment import summarize
from tests.data_path import Produced, batch_of, running_core, values_in

NOW_MS = 1_800_000_000_000
DELAY_MS = 10_000
SETTINGS: dict[str, Any] = {
    "compaction_settle_ms": 1_000,
    "compaction_extent_bytes": 2_000,
    "compaction_object_bytes": 5_000,
    "compaction_extents_min": 3,
    "compaction_extents_max": 12,
    "compaction_span_ms": 3_600_000,
    "compaction_rows_max": 40,
    "compaction_shards_max": 2,
    "object_delete_delay_ms": DELAY_MS,
    "fetch_read_ms": 2_000,
    "epoch_lease_ms": 3_600_000,
    "epoch_rotate_ms": 3_600_000,
    "epoch_age_max_ms": 3_600_000,
    "cache_bytes": 1,
    "cold_cache_bytes": 1,
    "poll_interval_ms": 2,
    "roles": "broker",
}
"""Small, and nothing happens by itself."""

Record = tuple[int, bytes | None]


class Store(MemoryStore):
    """Can be told what to do before a request."""

    def __init__(self) -> None:
        super().__init__(lambda: NOW_MS)
        self.before_get: Callable[[str], None] = lambda _key: None
        self.refuse_puts = False

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.before_get(key)
        return await super().get(key, start, length)

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        if self.refuse_puts:
            raise Unavailable("no")
        await super().put(key, parts, if_absent=if_absent)

    def damage(self, key: str, change: Callable[[bytearray], None]) -> None:
        body = bytearray(self._objects[key][0])
        change(body)
        self._objects[key] = (bytes(body), NOW_MS)


@dataclass
class Turn:
    """A turn that is never over."""

    lease: Lease
    progress: str = ""
    over: bool = False

    async def breathe(self) -> None:
        await asyncio.sleep(0)

    async def save(self, progress: str) -> None:
        self.progress = progress


@dataclass
class World:
    """Agents on one store and one database whose clock a test moves."""

    store: Store = field(default_factory=Store)
    now_ms: int = NOW_MS
    agents: int = 0
    leases: dict[str, Lease] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = InlineDatabase(lambda: self.now_ms)

    @asynccontextmanager
    async def agent(self, **more: Any) -> AsyncIterator[AgentCore]:
        self.agents += 1
        async with running_core(
            store=self.store, database=self.database.handle(), seed=self.agents, **{**SETTINGS, **more}
        ) as core:
            yield core

    def job(self, core: AgentCore, database: InlineDatabase | None = None, seed: int = 1) -> CompactionJob:
        return CompactionJob(
            database or self.database.handle(), self.store, core.services.clock, random.Random(seed),
            core.services.settings, InlineWorkers(), cluster_id=core.cluster.cluster_id, instance=f"job {seed}",
            broker_values=dict,
        )  # fmt: skip

    async def turn(self, name: str = "compaction") -> Turn:
        if name not in self.leases:
            lease = await LeaseStore(self.database).acquire(name, "me", 1 << 40)
            assert lease is not None
            self.leases[name] = lease
        return Turn(self.leases[name])

    async def compact(self, job: CompactionJob) -> None:
        """Turns until nothing is left to do."""
        turn = await self.turn()
        for _ in range(200):
            if not await job.run_once(turn):
                return
        raise AssertionError("it never ends")

    async def clean_up(self, core: AgentCore) -> None:
        """The deletion job, before and after the delay."""
        job: Any = core.jobs.jobs[DELETION]
        for _ in range(2):
            job._judged_s = None
            turn = await self.turn("deletion")
            while await job.run_once(turn):
                pass
            self.now_ms += DELAY_MS

    async def extents(self, topic: TopicView, shard: int = 0) -> list[Extent]:
        """From the log start on; contiguous up to the high watermark."""
        store = ExtentStore(self.database)
        bounds = (await store.watermarks([(topic.topic, shard)]))[topic.topic, shard]
        [found] = await store.find_extents([ShardQuery(topic.topic, shard, bounds.log_start)], 10_000)
        assert found is not None
        extents = [placed.extent for placed in found.extents]
        assert all(one.offset_next == other.offset_first for one, other in pairwise(extents))
        assert not extents or extents[-1].offset_next == bounds.high_watermark
        return extents

    async def segments(self) -> list[str]:
        return [info.key async for page in self.store.list("") for info in page if "/segments/" in info.key]

    async def check_counts(self) -> None:
        """Every object's count is right, and what extents name is there."""

        async def body(tx: Transaction) -> None:
            assert not await tx.fetch(
                "SELECT o.object_id FROM objects AS o WHERE o.extents_live <> "
                "(SELECT COUNT(*) FROM extents AS e WHERE e.object_id = o.object_id)"
            )

        await self.database.snapshot(body)


@pytest.fixture
async def world() -> World:
    return await new_world()


async def new_world() -> World:
    world = World()
    await migrate(world.database)
    return world


async def send(core: AgentCore, topic: TopicView, *values: bytes, shard: int = 0) -> None:
    """One object per value, with one record."""
    produced = Produced(core)
    for value in values:
        outcome = await produced.send(topic, shard, batch_of(value, timestamp=NOW_MS))
        assert not outcome.error


async def part_of(
    core: AgentCore, topic: TopicView, offset: int, shard: int = 0, limit: int = 1 << 20, wait_ms: int = 0
) -> Any:
    [part] = await core.reader.fetch(
        [FetchPart(topic.topic, shard, offset, limit)], max_wait_ms=wait_ms, min_bytes=1, max_bytes=1 << 24
    )
    return part


async def read(core: AgentCore, topic: TopicView, offset: int = 0, shard: int = 0) -> tuple[list[Record], bytes]:
    """Everything from an offset on, by as many fetches as it takes: records and the bytes that were served."""
    records: list[Record] = []
    served = b""
    while True:
        part = await part_of(core, topic, offset, shard)
        assert part.error == 0, part
        if not part.bytes:
            assert offset == part.high_watermark
            return records, served
        records += [record for record in values_in(part) if record[0] >= offset]
        served += b"".join(bytes(piece) for piece in part.records)
        offset = records[-1][0] + 1


def values(*numbers: int) -> list[bytes]:
    return [b"%d" % number for number in numbers]


async def test_small_objects_become_one_and_are_deleted(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 2, {})
        await send(core, topic, *values(*range(10)))
        await send(core, topic, *values(*range(10)), shard=1)
        before = [await read(core, topic, shard=shard) for shard in range(2)]
        job = world.job(core)
        await world.compact(job)
        assert job.counts.extents_replaced == 0, "nothing has settled yet"
        world.now_ms += 1_001
        await world.compact(job)
        assert (job.counts.extents_replaced, job.counts.extents_written, job.counts.objects_written) == (20, 2, 2)
        assert [len(await world.extents(topic, shard)) for shard in range(2)] == [1, 1]
        assert [await read(core, topic, shard=shard) for shard in range(2)] == before
        await world.check_counts()
        await world.clean_up(core)
        assert len(await world.segments()) == 2
        assert [await read(core, topic, shard=shard) for shard in range(2)] == before


async def test_an_object_holds_a_run_per_shard_in_order(world: World) -> None:
    async with world.agent(compaction_extents_max=1000) as core:
        topics = [await core.topics.create(name, 2, {}) for name in ("b", "a")]
        for shard in (1, 0):
            for topic in reversed(topics):
                await send(core, topic, *values(1, 2, 3, 4), shard=shard)
        world.now_ms += 1_001
        job = world.job(core)
        await world.compact(job)
        assert job.counts.objects_written == 1
        [row] = await world.database.snapshot(lambda tx: tx.fetch("SELECT name FROM objects WHERE extents_live = 4"))
        segment = summarize(await world.store.get(row[0]))
        shards = [(run["topic"], run["shard"], run["batches"]) for run in segment["runs"]]
        assert shards == sorted((topic.topic, shard, 4) for topic in topics for shard in range(2))


async def test_topics_that_keep_their_records_for_different_times_share_no_object(world: World) -> None:
    async with world.agent(compaction_extents_max=1000) as core:
        topics = [
            await core.topics.create(f"t{at}", 1, {"retention.ms": str(retention)})
            for at, retention in enumerate((1000, -1, 1000))
        ]
        for topic in topics:
            await send(core, topic, *values(1, 2, 3))
        world.now_ms += 1_001
        await world.compact(world.job(core))
        objects = [(await world.extents(topic))[0].object_id for topic in topics]
        assert objects[0] == objects[2] != objects[1]


async def test_append_times_are_kept_when_extents_of_different_times_are_merged(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {"message.timestamp.type": "LogAppendTime"})
        for value in values(*range(6)):
            await send(core, topic, value)
            world.now_ms += 500
        before = await read(core, topic)
        times = [(await core.reader.list_offsets([(topic.topic, 0, NOW_MS + at)]))[0] for at in range(0, 3000, 250)]
        world.now_ms += 1_001
        await world.compact(world.job(core))
        [extent] = await world.extents(topic)
        assert (extent.append_ms, extent.timestamp_max) == (-1, NOW_MS + 2500)
        assert await read(core, topic) == before, "the same bytes, checksums too"
        again = [(await core.reader.list_offsets([(topic.topic, 0, NOW_MS + at)]))[0] for at in range(0, 3000, 250)]
        assert again == times


async def test_a_reader_that_planned_before_the_swap_plans_again_once(world: World) -> None:
    """The object is deleted between plan and read: on the agent's own stale tail, and on another agent's."""
    async with world.agent() as one, world.agent() as two:
        topic = await one.topics.create("t", 1, {})
        await send(one, topic, *values(*range(8)))
        before = await read(one, topic)
        assert await read(two, topic) == before
        assert two.index.tail((topic.topic, 0)) is not None
        world.now_ms += 1_001
        await world.compact(world.job(one))
        await world.clean_up(one)
        assert len(await world.segments()) == 1
        for core in (one, two):
            core.hot.forget(Extent(topic.topic, 0, 0, 1, 0, 0, 1, 1, 0, -1))
            for offset in (0, 5):
                assert (await read(core, topic, offset))[0] == before[0][offset:]
        reads = two.reads.reads
        assert await read(two, topic) == before
        assert two.reads.reads == reads, "the new extents are in the tail index now"


async def test_an_object_that_is_gone_for_no_reason_is_an_error_after_one_more_look(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await send(core, topic, *values(1, 2))
        await world.store.delete([(await world.segments())[0]])
        core.hot.forget((await world.extents(topic))[0])
        reads = core.reads.reads
        assert (await part_of(core, topic, 0)).error == 56
        assert core.reads.reads <= reads + 2


async def test_a_deleted_range_is_out_of_range_for_an_agent_that_stood_still(world: World) -> None:
    async with world.agent() as one, world.agent() as two:
        topic = await one.topics.create("t", 1, {})
        await send(one, topic, *values(*range(4)))
        await read(two, topic)
        await one.log_starts.delete_records({(topic.topic, 0): 3})
        await world.clean_up(one)
        assert (await part_of(two, topic, 1)).error == 1
        assert (await read(two, topic, 3))[0] == [(3, b"3")]


async def test_what_can_not_be_read_is_left_alone_and_nothing_else(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await send(core, topic, *values(*range(11)))
        rows = await world.extents(topic)
        found = await world.database.snapshot(lambda tx: tx.fetch("SELECT name FROM objects ORDER BY object_id"))
        names = [str(row[0]) for row in found]
        world.store.damage(names[3], lambda body: body.__setitem__(-1, body[-1] ^ 1))
        await world.store.delete([names[7]])
        world.now_ms += 1_001
        job = world.job(core)
        await world.compact(job)
        after = await world.extents(topic)
        assert [(one.offset_first, one.offset_next) for one in after] == [(0, 3), (3, 4), (4, 7), (7, 8), (8, 11)]
        assert (after[1], after[3]) == (rows[3], rows[7])
        assert job.counts.inputs_left == 2


async def test_two_compactors_on_one_range(world: World) -> None:
    """Both have read the same extents; the second one's object comes to nothing, and is an orphan."""
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await send(core, topic, *values(*range(6)))
        before = await read(core, topic)
        world.now_ms += 1_001
        one, two = world.job(core, seed=1), world.job(core, seed=2)
        turn = await world.turn()
        await asyncio.gather(one.run_once(turn), two.run_once(turn))
        assert sorted((one.counts.objects_written, two.counts.objects_written)) == [0, 1]
        assert one.counts.swaps_dropped + two.counts.swaps_dropped == 1
        assert await read(core, topic) == before
        await world.check_counts()


async def test_an_unknown_outcome_is_asked_for_by_the_objects_id(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await send(core, topic, *values(*range(6)))
        before = await read(core, topic)
        world.now_ms += 1_001
        database = world.database.handle()
        transact, lost = database.transact, 0

        async def flaky(body: Any, *, small: bool = False) -> Any:
            nonlocal lost
            result = await transact(body, small=small)
            if "swap" in body.__qualname__ and lost < 2:
                lost += 1
                raise CommitUnknown("the reply is lost")
            return result

        database.transact = flaky  # type: ignore[method-assign]
        job = world.job(core, database)
        await world.compact(job)
        assert (lost, job.counts.objects_written, job.counts.extents_replaced) == (2, 1, 6)
        assert await read(core, topic) == before
        await world.check_counts()


async def test_a_store_that_refuses_ends_the_turn_and_the_next_one_does_it(world: World) -> None:
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, {})
        await send(core, topic, *values(*range(6)))
        world.now_ms += 1_001
        job = world.job(core)
        world.store.refuse_puts = True
        with pytest.raises(Unavailable):
            await world.compact(job)
        world.store.refuse_puts = False
        await world.compact(job)
        assert len(await world.extents(topic)) == 1


async def test_retention_by_size_counts_right_beside_compaction(world: World) -> None:
    """What was counted and what wasn't end up in one extent: nothing is counted twice, so nothing goes too early."""
    async with world.agent() as core:
        size = len(batch_of(b"x"))
        topic = await core.topics.create("t", 1, {"retention.ms": "-1", "retention.bytes": str(20 * size)})
        job = world.job(core)
        for _round in range(6):
            await send(core, topic, b"x", b"x")
            await world.clean_up(core)  # counts to the end
            await send(core, topic, b"x")
            world.now_ms += 1_001
            await world.compact(job)
        assert (await world.extents(topic))[0].offset_first == 0, "18 batches are within its bytes"
        await send(core, topic, *[b"x"] * 30)
        await world.compact(job)
        await world.clean_up(core)
        kept = sum(one.byte_length for one in await world.extents(topic))
        assert 20 * size <= kept < 20 * size + SETTINGS["compaction_extent_bytes"]


Step = tuple[str, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("append"), st.integers(0, 3), st.integers(1, 6)),
        st.tuples(st.just("compact"), st.just(0), st.just(0)),
        st.tuples(st.just("piece"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("wait"), st.just(0), st.integers(1, 5000)),
        st.tuples(st.just("delete"), st.integers(0, 3), st.integers(0, 100)),
        st.tuples(st.just("clean"), st.just(0), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, 100)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_any_history_reads_as_a_naive_log(history: list[Step]) -> None:
    asyncio.run(play(history))


async def play(history: list[Step]) -> None:
    """Four shards of two topics; whatever is done, every offset that is kept reads with the bytes it was first served with."""
    world = await new_world()
    async with world.agent() as one, world.agent(cache_block_bytes=256) as two:
        topics = [
            await one.topics.create("plain", 2, {"retention.ms": "-1"}),
            await one.topics.create("stamped", 2, {"message.timestamp.type": "LogAppendTime", "retention.ms": "8000"}),
        ]
        await two.topics.follow()
        jobs = [world.job(core, seed=at) for at, core in enumerate((one, two))]
        logs: list[list[bytes]] = [[] for _ in range(4)]
        served: list[dict[int, bytes]] = [{} for _ in range(4)]
        for at, (what, shard, amount) in enumerate([*history, ("wait", 0, 2000), ("compact", 0, 0), ("clean", 0, 0)]):
            topic = topics[shard // 2]
            if what == "append":
                new = [b"%d/%d" % (at, number) * amount for number in range(amount)]
                await send((one, two)[at % 2], topic, *new, shard=shard % 2)
                logs[shard] += new
            elif what == "compact":
                await world.compact(jobs[0])
            elif what == "piece":
                turn = await world.turn()
                turn.over = True
                await jobs[shard].run_once(turn)
            elif what == "wait":
                world.now_ms += amount
            elif what == "delete":
                offset = len(logs[shard]) * amount // 100
                await one.log_starts.delete_records({(topic.topic, shard % 2): offset})
            elif what == "clean":
                await world.clean_up(one)
            else:
                await compare((one, two)[at % 2], topic, shard, logs[shard], served[shard])
            await world.check_counts()
        for core in (one, two):
            for shard in range(4):
                await compare(core, topics[shard // 2], shard, logs[shard], served[shard])
        for shard in range(4):
            extents = await world.extents(topics[shard // 2], shard % 2)
            size = sum(one.byte_length for one in extents)
            assert len(extents) <= 2 * size // SETTINGS["compaction_extent_bytes"] + 12


async def compare(core: AgentCore, topic: TopicView, shard: int, log: list[bytes], served: dict[int, bytes]) -> None:
    """All that is kept, from the log start on."""
    [bound] = await core.reader.list_offsets([(topic.topic, shard % 2, -2)])
    offset = bound.offset
    while offset < len(log):
        part = await part_of(core, topic, offset, shard % 2, 1, 5_000)  # one batch
        assert part.error == 0
        [record] = values_in(part)
        assert record == (offset, log[offset])
        body = b"".join(bytes(piece) for piece in part.records)
        assert served.setdefault(offset, body) == body
        offset += 1
