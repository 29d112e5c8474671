"""The write path end to end over memory: nothing acknowledged before its commit, order kept, failures told, nothing hung."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from broker.agent_core import AgentCore
from broker.ingest.flight import FAILED
from broker.objects.memory import MemoryStore
from broker.objects.port import Buffer, OutcomeUnknown
from broker.services import TopicView
from catalog.database import CommitUnknown, Database, Transaction, Unreachable
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.sequence import BatchOutcome
from tests.data_path import Produced, batch_of, memory_database, running_core

T = TypeVar("T")
Hook = Callable[[], Awaitable[None]]


class Store(MemoryStore):
    """Puts wait for their turn: `gates` by number of the put; or fail."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.puts: list[str] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.fail: list[int] = []

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        if "/segments/" in key:
            number = len(self.puts)
            self.puts.append(key)
            if number in self.gates:
                await self.gates[number].wait()
            if number in self.fail:
                raise OutcomeUnknown("no answer")
        await super().put(key, parts, if_absent=if_absent)


class Flaky:
    """A database whose commits of objects can lose their reply, or not happen."""

    dialect = "sqlite"

    def __init__(self, inner: InlineDatabase) -> None:
        self.inner = inner
        self.fates: list[str] = []
        self.gate: asyncio.Event | None = None
        self.commits = 0
        self.snapshot = inner.snapshot
        self.notify = inner.notify
        self.listen = inner.listen
        self.version = inner.version
        self.close = inner.close

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        if "CommitStore.commit" not in body.__qualname__:
            return await self.inner.transact(body)
        self.commits += 1
        if self.gate is not None:
            await self.gate.wait()
        fate = self.fates.pop(0) if self.fates else "lands"
        if fate == "refused":
            raise Unreachable("down")
        if fate == "lost":
            raise CommitUnknown("lost")
        result = await self.inner.transact(body)
        if fate == "reply lost":
            raise CommitUnknown("landed, but nobody knows")
        if fate == "bug":
            raise RuntimeError("a bug")
        return result


async def flaky() -> tuple[Flaky, Database]:
    inner = memory_database()
    await migrate(inner)
    made = Flaky(inner)
    return made, made  # type: ignore[return-value]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def log_of(core: AgentCore, topic: TopicView, shard: int = 0) -> tuple[int, int]:
    """(high watermark, objects committed) by the database."""
    marks = await core.database.snapshot(
        lambda tx: tx.fetch("SELECT high_watermark FROM shards WHERE topic = $1 AND shard = $2", topic.topic, shard)
    )
    objects = await core.database.snapshot(lambda tx: tx.fetch("SELECT count(*) FROM objects"))
    return marks[0][0], objects[0][0]


async def test_success_is_told_only_after_the_commit() -> None:
    store = Store()
    db, database = await flaky()
    db.gate = asyncio.Event()
    async with running_core(store=store, database=database) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        answer = produced.send(topic, 0, batch_of(b"a", b"b"))
        await until(lambda: db.commits > 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(store.puts) == 1
        assert not answer.done(), "stored but not committed is not acknowledged"
        assert core.reader.fetch_now([], 0, 0) == []
        db.gate.set()
        assert (await answer).offset == 0
        assert await log_of(core, topic) == (2, 1)


async def test_one_flush_gathers_what_arrives_while_another_is_on_its_way() -> None:
    store = Store()
    store.gates[0] = asyncio.Event()
    async with running_core(store=store) as core:
        topic = await core.topics.create("t", 2, {})
        produced = Produced(core)
        answers = [produced.send(topic, 0, batch_of(b"first"))]
        await asyncio.sleep(0.01)
        answers += [produced.send(topic, n % 2, batch_of(b"later")) for n in range(10)]
        await asyncio.sleep(0.01)
        assert len(store.puts) == 1
        store.gates[0].set()
        outcomes = await asyncio.gather(*answers)
        assert len(store.puts) == 2
        assert [o.offset for o in outcomes[1::2]] == [1, 2, 3, 4, 5]
        assert [o.offset for o in outcomes[2::2]] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "fates", [["reply lost"], ["lost"], ["refused"], ["lost", "reply lost", "refused"], ["reply lost", "lost"]]
)
async def test_an_unknown_outcome_is_settled_before_the_next_group(fates: list[str]) -> None:
    db, database = await flaky()
    async with running_core(database=database) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        db.fates = list(fates)
        first = produced.send(topic, 0, batch_of(b"a", b"b"))
        await asyncio.sleep(0)
        second = produced.send(topic, 0, batch_of(b"c"))
        assert (await first) == BatchOutcome(0, 0, -1, 0)
        assert (await second).offset == 2
        assert await log_of(core, topic) == (3, 2)
        fetched = core.index.tail((topic.topic, 0))
        assert fetched is not None
        assert fetched.high_watermark == 3


async def test_what_stays_unknown_is_timed_out_and_later_batches_of_the_connection_are_refused() -> None:
    db, database = await flaky()
    async with running_core(database=database, commit_deadline_ms=150) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        db.fates = ["lost"] * 1000
        mine = produced.send(topic, 0, batch_of(b"a"), connection=1)
        await until(lambda: db.commits > 0)
        later = produced.send(topic, 0, batch_of(b"b"), connection=1)
        await asyncio.sleep(0.05)
        assert await mine == FAILED
        assert await later == FAILED
        db.fates = []
        assert (await produced.send(topic, 0, batch_of(b"c"), connection=2)).error == 0
        assert (await log_of(core, topic))[1] == 1, "what was refused is not committed later"


async def test_a_failed_upload_fails_its_connections_alone_and_in_order() -> None:
    store = Store()
    store.gates = {0: asyncio.Event(), 1: asyncio.Event()}
    store.fail = [0]
    async with running_core(store=store, flush_eager_max=8) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        failing = produced.send(topic, 0, batch_of(b"a"), connection=1)
        await asyncio.sleep(0.01)
        same = produced.send(topic, 0, batch_of(b"b"), connection=1)
        other = produced.send(topic, 0, batch_of(b"c"), connection=2)
        await asyncio.sleep(0.01)
        store.gates[1].set()
        await asyncio.sleep(0.01)
        assert not other.done(), "an earlier upload is still running"
        store.gates[0].set()
        assert await failing == FAILED
        assert await same == FAILED
        assert (await other).offset == 0
        assert (await produced.send(topic, 0, batch_of(b"d"), connection=1)).offset == 1


async def test_commits_keep_the_order_in_which_uploads_began() -> None:
    store = Store()
    store.gates = {n: asyncio.Event() for n in range(5)}
    db, database = await flaky()
    async with running_core(store=store, database=database, flush_eager_max=8) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        answers = []
        for n in range(5):
            answers.append(produced.send(topic, 0, batch_of(bytes([n])), connection=n))
            await asyncio.sleep(0.005)
        assert len(store.puts) == 5
        for n in (4, 2, 3, 1, 0):
            store.gates[n].set()
            await asyncio.sleep(0.005)
        assert [outcome.offset for outcome in await asyncio.gather(*answers)] == [0, 1, 2, 3, 4]
        assert db.commits < 5, "what was ready goes in one group"


async def test_an_agent_that_lost_its_epoch_takes_a_new_one_and_uploads_again() -> None:
    store = Store()
    store.gates = {0: asyncio.Event()}
    async with running_core(store=store) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        answers = [produced.send(topic, 0, batch_of(b"a"), connection=1)]
        await asyncio.sleep(0.01)
        answers += [produced.send(topic, 0, batch_of(b"b"), connection=1)]
        before = core.epochs.epoch
        await core.database.transact(lambda tx: tx.execute("UPDATE epochs SET lease_until_ms = 0"))
        store.gates[0].set()
        assert [outcome.offset for outcome in await asyncio.gather(*answers)] == [0, 1]
        after = core.epochs.epoch
        assert before is not None
        assert after is not None
        assert after > before
        names = await core.database.snapshot(lambda tx: tx.fetch("SELECT object_id, name FROM objects"))
        assert all(object_id >> 32 == after and f"/{after}/" in name for object_id, name in names)
        retired = await core.database.snapshot(
            lambda tx: tx.fetch("SELECT retired FROM epochs WHERE epoch = $1", before)
        )
        assert retired[0][0] == 1


async def test_a_commit_that_landed_before_the_epoch_was_lost_is_not_made_twice() -> None:
    db, database = await flaky()
    async with running_core(database=database) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        db.fates = ["reply lost"]
        answer = produced.send(topic, 0, batch_of(b"a"))
        await until(lambda: not db.fates)
        await db.inner.transact(lambda tx: tx.execute("UPDATE epochs SET lease_until_ms = 0"))
        assert (await answer).offset == 0
        assert await log_of(core, topic) == (1, 1)


async def test_connections_stop_at_the_bound_and_go_on_below_it() -> None:
    store = Store()
    store.gates[0] = asyncio.Event()
    async with running_core(store=store, unflushed_bytes_max=1000) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        answers = [produced.send(topic, 0, batch_of(b"x" * 600)) for _ in range(2)]
        full_before = core.writer.full
        assert full_before
        resumed: list[bool] = []
        core.writer.when_room(lambda: resumed.append(True))
        await asyncio.sleep(0.01)
        assert resumed == []
        store.gates[0].set()
        await asyncio.gather(*answers)
        await asyncio.sleep(0)
        assert resumed == [True]
        assert not core.writer.full
        assert core.writer.unflushed_bytes == 0


async def test_many_tiny_batches_are_bounded_by_the_memory_they_take() -> None:
    store = Store()
    store.gates[0] = asyncio.Event()
    async with running_core(store=store, unflushed_bytes_max=1 << 20) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        answers = []
        while not core.writer.full:
            answers.append(produced.send(topic, 0, batch_of(b"")))
            assert len(answers) < 2000, "a waiting batch takes some 800 bytes besides its 68"
        store.gates[0].set()
        await asyncio.gather(*answers)
        await asyncio.sleep(0)
        assert core.writer.unflushed_bytes == 0


async def test_a_dead_background_task_fails_who_waits_and_shows() -> None:
    db, database = await flaky()
    async with running_core(database=database) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        db.fates = ["bug"]
        first = produced.send(topic, 0, batch_of(b"a"))
        assert await first == FAILED
        assert await produced.send(topic, 0, batch_of(b"b")) == FAILED
        await asyncio.sleep(0)
        assert core.supervisor.failure is not None
        assert "commit queue" in core.supervisor.failure


async def test_a_drain_flushes_at_once_and_answers_everybody() -> None:
    async with running_core(flush_interval_ms=60_000, flush_interval_min_ms=60_000) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        first = produced.send(topic, 0, batch_of(b"a"))
        await first
        second = produced.send(topic, 0, batch_of(b"b"))
        await asyncio.sleep(0.01)
        assert not second.done()
        await core.drain()
        assert (await second).offset == 1


async def test_idempotent_repeats_get_their_first_offset_across_agents() -> None:
    database = memory_database()
    await migrate(database)
    store = MemoryStore(lambda: 0)
    async with (
        running_core(store=store, database=database.handle(), seed=1) as one,
        running_core(store=store, database=database.handle(), seed=2) as two,
    ):
        topic = await one.topics.create("t", 1, {})
        batch = batch_of(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
        assert (await Produced(one).send(topic, 0, batch)).offset == 0
        await Produced(one).send(topic, 0, batch_of(b"other"))
        repeat = await Produced(two).send(topic, 0, batch)
        assert (repeat.error, repeat.offset, repeat.duplicate) == (0, 0, True)
        gap = batch_of(b"z", producer_id=5, producer_epoch=0, base_sequence=9)
        assert (await Produced(two).send(topic, 0, gap)).error == 45


@pytest.mark.parametrize("fate", ["lands", "refused", "reply lost"])
async def test_a_commit_that_ends_after_the_writer_was_closed_is_nobody_s_business(fate: str) -> None:
    database, port = await flaky()
    async with running_core(database=port) as core:
        topic = await core.topics.create("t", 1, {})
        database.gate, database.fates = asyncio.Event(), [fate]
        sent = Produced(core).send(topic, 0, batch_of(b"a"))
        await until(lambda: database.commits == 1)
        await core.writer.close()
        assert await sent == FAILED
        database.gate.set()
        await asyncio.sleep(0.02)
        assert core.supervisor.failure is None
        assert core.writer.unflushed_bytes == 0
