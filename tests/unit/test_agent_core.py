"""What holds an agent together: identity, epochs, topics and the view of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast
from uuid import UUID

import pytest

from broker.agent import split_address
from broker.agent_core import AgentCore
from broker.cluster_identity import ClusterMismatch
from broker.objects.memory import MemoryStore
from broker.supervisor import Supervisor
from catalog.agents import AgentRow, AgentStore
from catalog.database import Unreachable
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.topics import TopicRow
from tests.data_path import Produced, batch_of, memory_database, running_core


async def test_bucket_and_database_of_different_clusters_are_refused() -> None:
    store, other_store = MemoryStore(lambda: 0), MemoryStore(lambda: 0)
    database, other_database = memory_database(), memory_database()
    for db in (database, other_database):
        await migrate(db)
    async with running_core(store=store, database=database.handle()) as core:
        first = core.cluster.cluster_id
    async with running_core(store=other_store, database=other_database.handle()) as core:
        assert core.cluster.cluster_id == first, "the same seed names the same cluster"
    async with running_core(store=MemoryStore(lambda: 0), database=await fresh(), seed=5) as core:
        assert core.cluster.cluster_id != first
        stranger = core.store
    with pytest.raises(ClusterMismatch, match="belong"):
        async with running_core(store=stranger, database=database.handle()):
            pass
    empty = await fresh()
    with pytest.raises(ClusterMismatch, match="neve restore"):
        async with running_core(store=store, database=empty):
            pass
    async with running_core(store=store, database=database.handle()) as core:
        assert core.cluster.cluster_id == first


async def fresh() -> InlineDatabase:
    """An empty, migrated database."""
    database = memory_database()
    await migrate(database)
    return database


async def test_a_cluster_that_is_made_and_written_to_during_another_s_first_look_is_joined() -> None:
    """The late one has read the empty bucket; when it gets to the database, that knows objects already."""
    database, store, seen = await fresh(), MemoryStore(lambda: 0), asyncio.Event()

    class Slow(MemoryStore):
        """The same objects; its first answer comes late."""

        async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
            try:
                return await super().get(key, start, length)
            finally:
                if not seen.is_set():
                    seen.set()
                    await written.wait()

    written, slow = asyncio.Event(), Slow(lambda: 0)
    slow._objects = store._objects

    async def late() -> str:
        async with running_core(store=slow, database=database.handle(), seed=2) as core:
            return core.cluster.cluster_id

    joining = asyncio.ensure_future(late())
    await seen.wait()
    async with running_core(store=store, database=database.handle(), seed=1) as core:
        topic = await core.topics.create("t", 1, {})
        await Produced(core).send(topic, 0, batch_of(b"a"))
        written.set()
        assert await joining == core.cluster.cluster_id


async def test_a_broker_id_that_somebody_else_took_is_given_up() -> None:
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with running_core(store=store, database=database.handle(), seed=1, broker_id=7, agent_lease_ms=150) as one:
        assert one.cluster.self_view.broker_id == 7
        await database.transact(lambda tx: tx.execute("UPDATE agents SET lease_until_ms = 0"))  # as after a long pause
        async with running_core(store=store, database=database.handle(), seed=2, broker_id=7) as two:
            for _ in range(200):
                await asyncio.sleep(0.01)
                if one.cluster.self_view.broker_id != 7:
                    break
            await two.cluster.refresh()
            assert [view.port for view in two.cluster.brokers()] == [9093, 9094], "both are seen, each under its own id"
            assert two.cluster.self_view.broker_id == 7


async def test_agents_that_are_told_one_address_each_have_an_id_that_stays() -> None:
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with running_core(store=store, database=database.handle(), seed=1, port=9, agent_lease_ms=60) as one:
        assert one.cluster.self_view.broker_id == 1
        async with running_core(store=store, database=database.handle(), seed=2, port=9, agent_lease_ms=60) as two:
            assert two.cluster.self_view.broker_id == 1
            for _ in range(200):
                await asyncio.sleep(0.01)
                if one.cluster.self_view.broker_id != 1:
                    break
            for _ in range(10):
                await asyncio.sleep(0.02)
                assert [core.cluster.self_view.broker_id for core in (one, two)] == [2, 1], "they don't take turns"


async def test_an_older_look_at_the_topics_brings_nothing_back() -> None:
    database = await fresh()
    async with running_core(database=database.handle(), topic_poll_interval_ms=60_000) as core:
        store = core.topics._topics
        old = await core.topics.create("t", 1, {})
        [stale] = await store.by_names(["t"])
        await store.delete(old.topic)
        new = await store.create("t", UUID(int=9), 1, {})
        await core.topics.follow()
        assert core.topics.by_name("t") is not None
        core.topics._keep(stale)  # the answer of a read that began before the deletion
        assert core.topics.by_id(old.topic_id) is None
        found = core.topics.by_name("t")
        assert found is not None
        assert found.topic == new.topic


async def test_epochs_rotate_and_old_ones_are_retired_only_when_nothing_of_them_is_in_flight() -> None:
    async with running_core(epoch_rotate_ms=1) as core:
        keeper = core.epochs
        ticket = await keeper.acquire()
        await asyncio.sleep(0.005)
        await keeper.tick()
        assert keeper.epoch is not None
        assert keeper.epoch > ticket.epoch

        async def retired() -> int:
            rows = await core.database.snapshot(
                lambda tx: tx.fetch("SELECT retired FROM epochs WHERE epoch = $1", ticket.epoch)
            )
            return int(rows[0][0])

        assert await retired() == 0
        assert (await keeper.acquire()).epoch == keeper.epoch
        keeper.release(ticket)
        await keeper.tick()
        assert await retired() == 1


async def test_object_numbers_are_given_out_once_across_agents_and_epochs() -> None:
    database, store = memory_database(), MemoryStore(lambda: 0)
    await migrate(database)
    async with (
        running_core(store=store, database=database.handle(), seed=1) as one,
        running_core(store=store, database=database.handle(), seed=2) as two,
    ):
        numbers = []
        for n in range(30):
            keeper = (one if n % 2 else two).epochs
            ticket = await keeper.acquire()
            numbers.append(ticket.object_id)
            if n % 7 == 0:
                await keeper.abandon(ticket.epoch)
        assert len(set(numbers)) == 30


async def test_topics_and_agents_of_others_become_known() -> None:
    database, store = memory_database(), MemoryStore(lambda: 0)
    await migrate(database)
    async with (
        running_core(store=store, database=database.handle(), seed=1, topic_poll_interval_ms=10) as one,
        running_core(store=store, database=database.handle(), seed=2, topic_poll_interval_ms=10) as two,
    ):
        topic = await one.topics.create("t", 2, {"max.message.bytes": "77", "cleanup.policy": "compact"})
        assert (topic.message_max_bytes, topic.compacted, topic.append_time) == (77, True, False)
        assert two.topics.by_name("t") is None
        await two.topics.fresh(["t"])
        assert two.topics.by_name("t") == two.topics.by_id(topic.topic_id) == topic
        await one.topics.delete(topic)
        await asyncio.sleep(0.05)
        assert two.topics.by_name("t") is None
        again = await one.topics.create("t", 1, {})
        await asyncio.sleep(0.05)
        assert two.topics.by_name("t") == again
        await one.cluster.refresh()
        assert [view.port for view in one.cluster.brokers()] == [9093, 9094]
        assert [view.broker_id for view in two.cluster.brokers()] == [1, 2]
        await two.cluster.leave()
        await one.cluster.refresh()
        assert list(one.cluster.brokers()) == [one.cluster.self_view]


async def test_an_agent_that_came_is_named_by_the_others_at_once() -> None:
    """librdkafka closes its connection to a broker that an answer doesn't name, and may wait for the lost answer for ever."""
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with running_core(store=store, database=database.handle(), seed=1) as one:
        async with running_core(store=store, database=database.handle(), seed=2) as two:
            assert [view.broker_id for view in one.cluster.brokers()] == [1], "the cached view is seconds old"
            looks = await asyncio.gather(*(one.cluster.look() for _ in range(3)), two.cluster.look())
            asked = [[view.broker_id for view in views] for views in looks]
        assert asked == [[1, 2]] * 4
        assert [view.broker_id for view in await one.cluster.look()] == [1]


class Away:
    """A database that can't be reached (AgentStore)."""

    async def live(self) -> list[AgentRow]:
        raise Unreachable("cut")


def cut(core: AgentCore) -> Callable[[], None]:
    """The agent's view loses its database; returns what gives it back."""
    asked = core.cluster._agents
    core.cluster._agents = cast(AgentStore, Away())
    return lambda: setattr(core.cluster, "_agents", asked)


async def test_the_last_known_agents_are_told_while_the_database_is_away() -> None:
    database = await fresh()
    async with running_core(database=database.handle(), seed=1) as one:
        restore = cut(one)
        assert [view.broker_id for view in await one.cluster.look()] == [1]
        one.cluster._alive_until_s = 0.0
        assert [view.broker_id for view in await one.cluster.look()] == [1], "nobody else is there"
        restore()


async def test_an_agent_whose_lease_ran_out_tells_clients_of_the_others() -> None:
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with (
        running_core(store=store, database=database.handle(), seed=1) as one,
        running_core(store=store, database=database.handle(), seed=2) as two,
    ):
        assert [view.broker_id for view in await one.cluster.look()] == [1, 2]
        restore = cut(one)
        one.cluster._alive_until_s = one.services.clock.monotonic()  # the database is away for longer than the lease
        assert [view.broker_id for view in await one.cluster.look()] == [2]
        assert [view.broker_id for view in one.cluster.brokers()] == [2]
        restore()
        assert [view.broker_id for view in await two.cluster.look()] == [1, 2]


async def test_an_agent_that_finds_its_lease_run_out_prolongs_it_before_it_answers() -> None:
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with (
        running_core(store=store, database=database.handle(), seed=1) as one,
        running_core(store=store, database=database.handle(), seed=2) as two,
    ):
        await database.transact(lambda tx: tx.execute("UPDATE agents SET lease_until_ms = 0 WHERE broker_id = 1"))
        assert [view.broker_id for view in await two.cluster.look()] == [2]
        assert [view.broker_id for view in await one.cluster.look()] == [1, 2]
        assert [view.broker_id for view in await two.cluster.look()] == [1, 2]


async def test_an_agent_that_left_doesnt_come_back_and_its_id_is_free() -> None:
    database, store = await fresh(), MemoryStore(lambda: 0)
    async with (
        running_core(store=store, database=database.handle(), seed=1, agent_lease_ms=60) as one,
        running_core(store=store, database=database.handle(), seed=2) as two,
    ):
        await one.cluster.leave()
        await asyncio.sleep(0.1)  # several of its heartbeats
        assert [view.broker_id for view in await two.cluster.look()] == [2]
        assert [view.broker_id for view in await one.cluster.look()] == [2]
        async with running_core(store=store, database=database.handle(), seed=3) as three:
            assert three.cluster.self_view.broker_id == 1
            await one.cluster.leave()
            assert [view.port for view in await two.cluster.look()] == [9095, 9094], (
                "the one that left gives back nothing more"
            )
            assert [view.port for view in await one.cluster.look()] == [9095, 9094]


async def test_a_stopped_agent_leaves_no_live_epoch_behind() -> None:
    database = memory_database()
    await migrate(database)
    async with running_core(database=database.handle()) as core:
        topic = await core.topics.create("t", 1, {})
        await Produced(core).send(topic, 0, batch_of(b"a"))
        await core.drain()
    live = await database.snapshot(lambda tx: tx.fetch("SELECT count(*) FROM epochs WHERE retired = 0"))
    agents = await database.snapshot(lambda tx: tx.fetch("SELECT count(*) FROM agents"))
    assert (live[0][0], agents[0][0]) == (0, 0)


async def test_a_task_that_ends_is_a_failure_unless_stopping() -> None:
    told: list[bool] = []
    supervisor = Supervisor(lambda: told.append(True))

    async def returns() -> None:
        return None

    async def stays() -> None:
        await asyncio.Event().wait()

    supervisor.start("stays", stays())
    supervisor.start("returns", returns())
    await asyncio.sleep(0.01)
    assert told == [True]
    assert supervisor.failure is not None
    assert "returns" in supervisor.failure
    await supervisor.stop()
    assert told == [True]


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:x", "host:70000"])
def test_a_wrong_address_says_what_is_wanted(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("127.0.0.1:9092") == ("127.0.0.1", 9092)
    assert split_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("name", ["", "a\0b", "..", "x" * 250, "sp ace"])
async def test_a_name_no_topic_can_have_is_not_asked_of_the_database(name: str) -> None:
    async with running_core() as core:

        async def asked(names: Sequence[str]) -> list[TopicRow]:
            assert not names, "PostgreSQL refuses a text with a zero byte"
            return []

        core.topics._topics.by_names = asked  # type: ignore[method-assign]
        await core.topics.fresh([name])
        assert core.topics.by_name(name) is None
