"""The read path end to end over memory: never over a gap, never out of range too early, one bad extent fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from broker.agent_core import AgentCore
from broker.fetch.shard_reads import Answer, Question
from broker.objects.memory import MemoryStore
from broker.services import FetchedPart, FetchPart, TopicView
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from schemas.kafka.batch import TIMESTAMP_TYPE_BIT, read_header
from tests.data_path import Produced, batch_of, memory_database, running_core, values_in


class Store(MemoryStore):
    """Counts GETs of segments and can damage them."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.gets = 0
        self.delay_s = 0.0

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.gets += "/segments/" in key
        await asyncio.sleep(self.delay_s)
        return await super().get(key, start, length)


@asynccontextmanager
async def two_agents(**settings: int) -> AsyncIterator[tuple[AgentCore, AgentCore, Store, InlineDatabase]]:
    """Two agents of one cluster, without hints between them: polling alone has to do."""
    store, database = Store(), memory_database()
    await migrate(database)
    one_db, two_db = database.handle(), database.handle()

    async def lost(channel: str, payload: str) -> None:
        return None

    one_db.notify = two_db.notify = lost  # type: ignore[method-assign]
    async with (
        running_core(store=store, database=one_db, seed=1, **settings) as one,
        running_core(store=store, database=two_db, seed=2, **settings) as two,
    ):
        yield one, two, store, database


async def fetch(
    core: AgentCore, topic: TopicView, offset: int = 0, *, shard: int = 0, wait_ms: int = 0, min_bytes: int = 1,
    part_bytes: int = 1 << 20, max_bytes: int = 1 << 20,
) -> FetchedPart:  # fmt: skip
    [part] = await core.reader.fetch(
        [FetchPart(topic.topic, shard, offset, part_bytes)],
        max_wait_ms=wait_ms, min_bytes=min_bytes, max_bytes=max_bytes,
    )  # fmt: skip
    return part


async def test_the_own_tail_is_served_from_memory_at_once() -> None:
    store = Store()
    async with running_core(store=store) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        for n in range(5):
            await produced.send(topic, 0, batch_of(b"%d" % n, b"x"))
        answer = core.reader.fetch_now([FetchPart(topic.topic, 0, 3, 1 << 20)], 1, 1 << 20)
        assert answer is not None
        assert values_in(answer[0])[:3] == [(2, b"1"), (3, b"x"), (4, b"2")], "the whole batch that holds the offset"
        assert (answer[0].high_watermark, answer[0].last_stable_offset, answer[0].log_start) == (10, 10, 0)
        assert store.gets == 0
        assert core.reader.fetch_now([FetchPart(topic.topic, 0, 10, 1 << 20)], 1, 1 << 20) is None
        assert core.reader.fetch_now([FetchPart(topic.topic, 0, 11, 1 << 20)], 0, 1 << 20) is None


async def test_nothing_is_served_over_the_commits_of_another_agent() -> None:
    async with two_agents(poll_interval_ms=10_000) as (one, two, _, _):
        topic = await one.topics.create("t", 1, {})
        sent = []
        for n in range(9):
            writer = two if n in (2, 3, 7) else one
            await Produced(writer).send(topic, 0, batch_of(b"%d" % n))
            sent.append((n, b"%d" % n))
        for core in (one, two):
            assert values_in(await fetch(core, topic)) == sent
            for offset in range(9):
                assert values_in(await fetch(core, topic, offset)) == sent[offset:]


async def test_acknowledged_at_one_is_at_once_read_at_the_other() -> None:
    """Also when the reader's agent believes in an older end: out of range comes only from a fresh read."""
    async with two_agents(poll_interval_ms=10_000) as (one, two, _, _):
        topic = await one.topics.create("t", 1, {})
        produced = Produced(one)
        for n in range(50):
            outcome = await produced.send(topic, 0, batch_of(b"%d" % n))
            assert outcome.offset == n
            part = await fetch(two, topic, n + 1)
            assert (part.error, part.bytes) == (0, 0)
            assert (await fetch(two, topic, n)).high_watermark >= n + 1
            [latest] = await two.reader.list_offsets([(topic.topic, 0, -1)])
            assert latest.offset == n + 1
        assert (await fetch(two, topic, 52)).error == 1
        assert (await fetch(two, topic, -1)).error == 1
        assert (await fetch(two, topic, 0, shard=9)).error == 3


async def test_a_long_poll_wakes_on_own_commits_at_once() -> None:
    async with running_core(poll_interval_ms=10_000) as core:
        topic = await core.topics.create("t", 2, {})
        waiting = asyncio.create_task(fetch(core, topic, wait_ms=5_000))
        await asyncio.sleep(0.02)
        await Produced(core).send(topic, 1, batch_of(b"other shard"))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await Produced(core).send(topic, 0, batch_of(b"mine"))
        assert values_in(await asyncio.wait_for(waiting, 1)) == [(0, b"mine")]
        assert core.waiters.count == 0
        assert core.waiters.keys() == []


async def test_a_long_poll_sees_other_agents_commits_without_any_hint() -> None:
    async with two_agents(poll_interval_ms=10) as (one, two, _, _):
        topic = await one.topics.create("t", 1, {})
        for n in range(5):
            waiting = asyncio.create_task(fetch(two, topic, n, wait_ms=5_000))
            await asyncio.sleep(0.02)
            await Produced(one).send(topic, 0, batch_of(b"%d" % n))
            assert values_in(await asyncio.wait_for(waiting, 1)) == [(n, b"%d" % n)]


async def test_too_few_bytes_wait_the_whole_time_and_are_then_given() -> None:
    async with running_core() as core:
        topic = await core.topics.create("t", 1, {})
        await Produced(core).send(topic, 0, batch_of(b"small"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        part = await fetch(core, topic, wait_ms=80, min_bytes=100_000)
        assert loop.time() - began >= 0.079
        assert values_in(part) == [(0, b"small")]


async def test_limits_cut_between_batches_and_the_first_is_whole() -> None:
    async with running_core() as core:
        topic = await core.topics.create("t", 2, {})
        produced = Produced(core)
        one = batch_of(b"x" * 100)
        await asyncio.gather(*(produced.send(topic, shard, one) for shard in (0, 1) for _ in range(4)))
        parts = [FetchPart(topic.topic, shard, 0, 2 * len(one) + 1) for shard in (0, 1)]
        found = await core.reader.fetch(parts, max_wait_ms=0, min_bytes=1, max_bytes=3 * len(one) + 1)
        assert [part.bytes // len(one) for part in found] == [2, 1]
        found = await core.reader.fetch(parts, max_wait_ms=0, min_bytes=1, max_bytes=1)
        assert [part.bytes // len(one) for part in found] == [1, 0]
        assert await fetch_all(core, topic, 1, part_bytes=1) == [(n, b"x" * 100) for n in range(4)]


async def fetch_all(
    core: AgentCore, topic: TopicView, shard: int, *, part_bytes: int
) -> list[tuple[int, bytes | None]]:
    """Read to the end, as a consumer does."""
    found: list[tuple[int, bytes | None]] = []
    while True:
        offset = found[-1][0] + 1 if found else 0
        part = await fetch(core, topic, offset, shard=shard, part_bytes=part_bytes)
        assert part.error == 0
        if not part.bytes:
            return found
        found += [row for row in values_in(part) if row[0] >= offset]


async def test_old_data_is_read_through_the_cold_path() -> None:
    store, database = Store(), memory_database()
    await migrate(database)
    async with running_core(store=store, database=database.handle(), seed=1) as core:
        topic = await core.topics.create("t", 3, {})
        produced = Produced(core)
        for n in range(30):
            await produced.send(topic, n % 3, batch_of(b"%d" % n, b"-"))
    async with running_core(store=store, database=database.handle(), seed=2) as fresh:
        for shard in range(3):
            found = await fetch_all(fresh, topic, shard, part_bytes=300)
            assert [value for _, value in found[::2]] == [b"%d" % n for n in range(shard, 30, 3)]
            assert [offset for offset, _ in found] == list(range(20))
        assert store.gets == 30, "one GET per object"
        assert fresh.hot.bytes == 0, "a backfill doesn't flush out the tail"


@pytest.mark.parametrize(("damage", "error"), [("gone", 56), ("flipped", 2), ("cut", 2)])
async def test_a_bad_extent_fails_its_partition_alone(damage: str, error: int) -> None:
    store, database = Store(), memory_database()
    await migrate(database)
    async with running_core(store=store, database=database.handle(), seed=1) as core:
        topic = await core.topics.create("t", 2, {})
        for shard in (0, 1, 0):
            await Produced(core).send(topic, shard, batch_of(b"shard %d" % shard))
    [(name,)] = await database.snapshot(
        lambda tx: tx.fetch(
            "SELECT o.name FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id WHERE e.shard = 0 ORDER BY e.offset_next LIMIT 1"
        )
    )
    body = bytearray(await store.get(name))
    if damage == "gone":
        await store.delete([name])
    else:
        body[-3] ^= 1
        await store.put(name, [body if damage == "flipped" else body[:-1]], if_absent=False)
    async with running_core(store=store, database=database.handle(), seed=2) as fresh:
        parts = [FetchPart(topic.topic, shard, offset, 1 << 20) for shard, offset in ((0, 0), (1, 0), (0, 1))]
        bad, good, after = await fresh.reader.fetch(parts, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20)
        assert (bad.error, bad.high_watermark, list(bad.records)) == (error, -1, [])
        assert values_in(good) == [(0, b"shard 1")]
        assert values_in(after) == [(1, b"shard 0")]


async def test_append_time_is_patched_in_and_the_checksum_agrees() -> None:
    async with running_core() as core:
        topic = await core.topics.create("t", 1, {"message.timestamp.type": "LogAppendTime"})
        outcome = await Produced(core).send(topic, 0, batch_of(b"a", timestamp=5))
        part = await fetch(core, topic)
        assert values_in(part) == [(0, b"a")]
        header = read_header(part.records[0])
        assert header.max_timestamp == outcome.append_ms > 5
        assert header.attributes & TIMESTAMP_TYPE_BIT
        [found] = await core.reader.list_offsets([(topic.topic, 0, outcome.append_ms)])
        assert (found.offset, found.timestamp) == (0, outcome.append_ms)


async def test_offsets_by_position_and_time() -> None:
    async with running_core() as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        await produced.send(topic, 0, batch_of(b"a", b"b", timestamp=1000))
        await produced.send(topic, 0, batch_of(b"c", b"d", b"e", timestamp=5000, codec=1))
        await produced.send(topic, 0, batch_of(b"f", timestamp=3000))
        asked = [-1, -2, -4, -3, -5, 0, 1001, 1002, 5001, 5003]
        answers = await core.reader.list_offsets([(topic.topic, 0, timestamp) for timestamp in asked])
        assert [(answer.error, answer.offset, answer.timestamp) for answer in answers] == [
            (0, 6, -1), (0, 0, -1), (0, 0, -1), (0, 4, 5002), (0, -1, -1),
            (0, 0, 1000), (0, 1, 1001), (0, 2, 5000), (0, 3, 5001), (0, -1, -1),
        ]  # fmt: skip
        [unknown] = await core.reader.list_offsets([(topic.topic, 5, -1)])
        assert (unknown.error, unknown.offset) == (3, -1)


async def test_a_deleted_topic_is_not_served_from_memory() -> None:
    async with running_core() as core:
        topic = await core.topics.create("t", 1, {})
        await Produced(core).send(topic, 0, batch_of(b"a"))
        waiting = asyncio.create_task(fetch(core, topic, 1, wait_ms=5_000))
        await asyncio.sleep(0.02)
        await core.topics.delete(topic)
        assert (await asyncio.wait_for(waiting, 1)).error == 3
        assert core.topics.by_name("t") is None
        assert (await fetch(core, topic)).error == 3
        again = await core.topics.create("t", 1, {})
        assert again.topic_id != topic.topic_id
        assert (await fetch(core, again)).high_watermark == 0


async def test_many_readers_share_reads_of_the_database() -> None:
    async with two_agents() as (one, two, _, _):
        topic = await one.topics.create("t", 1, {})
        for n in range(5):
            await Produced(one).send(topic, 0, batch_of(b"%d" % n))
        before = two.reads.reads
        parts = await asyncio.gather(*(fetch(two, topic, n % 5) for n in range(100)))
        assert all(part.error == 0 and part.high_watermark == 5 for part in parts)
        assert two.reads.reads - before <= 4


async def test_slow_reads_answer_with_what_there_is_instead_of_outlasting_the_client() -> None:
    async with two_agents(fetch_read_ms=20, cold_reads_max=1, hot_reads_max=1, readahead_bytes=1) as (
        one,
        two,
        store,
        _,
    ):
        topic = await one.topics.create("t", 1, {})
        produced = Produced(one)
        for n in range(12):
            await produced.send(topic, 0, batch_of(b"%d" % n))
        store.delay_s = 0.015
        got: list[tuple[int, bytes | None]] = []
        answers = 0
        while len(got) < 12:
            part = await fetch(two, topic, len(got))
            assert part.bytes > 0, "each answer makes progress"
            got += values_in(part)
            answers += 1
        assert got == [(n, b"%d" % n) for n in range(12)]
        assert answers > 1


@pytest.mark.parametrize("part_bytes", [0, -1, -(4 << 20), -(1 << 31)])
async def test_a_partition_without_budget_still_gets_its_first_batch_from_the_database(part_bytes: int) -> None:
    async with two_agents() as (one, two, _store, _database):
        topic = await one.topics.create("t", 1, {})
        await Produced(one).send(topic, 0, batch_of(b"a"))
        part = await fetch(two, topic, part_bytes=part_bytes)
        assert part.error == 0
        assert values_in(part) == [(0, b"a")]


async def test_a_commit_while_the_database_is_read_wakes_who_is_about_to_wait() -> None:
    async with running_core(poll_interval_ms=60_000) as core:
        topic = await core.topics.create("t", 1, {})
        ask, asked, goes_on = core.reads.ask, asyncio.Event(), asyncio.Event()

        async def slow(questions: Sequence[Question]) -> Sequence[Answer | None]:
            answers = await ask(questions)
            asked.set()
            await goes_on.wait()
            return answers

        core.reads.ask = slow  # type: ignore[method-assign]
        polling = asyncio.ensure_future(fetch(core, topic, wait_ms=60_000))
        await asked.wait()
        await Produced(core).send(topic, 0, batch_of(b"a"))
        goes_on.set()
        assert values_in(await asyncio.wait_for(polling, 5)) == [(0, b"a")]


async def test_an_answer_keeps_no_more_blocks_in_memory_than_its_bytes_are_worth() -> None:
    """A little of each of many partitions, each in another object: one Fetch must not read and hold all of these."""
    block, shards = 64 << 10, 40
    limits = {"cache_block_bytes": block, "cold_cache_bytes": block, "fetch_max_bytes": 4 * block, "readahead_bytes": 0}
    async with two_agents(**limits) as (one, two, store, _database):
        topic = await one.topics.create("t", shards, {})
        for shard in range(shards):
            await Produced(one).send(topic, shard, batch_of(b"x" * 100))
        store.gets = 0
        left = list(range(shards))
        for _ in range(shards // 8):
            parts = [FetchPart(topic.topic, shard, 0, 1 << 20) for shard in left]
            answer = await two.reader.fetch(parts, max_wait_ms=0, min_bytes=1, max_bytes=1 << 30)
            assert not any(part.error for part in answer)
            assert 0 < sum(part.bytes > 0 for part in answer) <= 8, "two blocks for each that the bytes would fill"
            left = [shard for shard, part in zip(left, answer, strict=True) if not part.bytes]
        assert left == []
        assert store.gets == shards


async def test_missing_metadata_fails_its_partition_alone_and_is_never_served_over() -> None:
    async with two_agents() as (one, two, _store, database):
        topic = await one.topics.create("t", 2, {})
        for value in (b"a", b"b", b"c"):
            for shard in (0, 1):
                await Produced(one).send(topic, shard, batch_of(value))
        await database.transact(lambda tx: tx.execute("DELETE FROM extents WHERE shard = 0 AND offset_next = 2"))
        for offset, values, error in ((0, [(0, b"a")], 0), (1, [], 56), (2, [(2, b"c")], 0)):
            parts = [FetchPart(topic.topic, 0, offset, 1 << 20), FetchPart(topic.topic, 1, offset, 1 << 20)]
            found = await two.reader.fetch(parts, max_wait_ms=50, min_bytes=1, max_bytes=1 << 20)
            assert (found[0].error, values_in(found[0])) == (error, values)
            assert (found[1].error, len(values_in(found[1]))) == (0, 3 - offset)
        waiting = asyncio.ensure_future(fetch(two, topic, 3, shard=0, wait_ms=5000))
        await asyncio.sleep(0.03)
        await Produced(one).send(topic, 0, batch_of(b"d"))
        assert values_in(await waiting) == [(3, b"d")]
        assert two.supervisor.failure is None
