"""Two agents on one database: what one changes about topics and configs holds on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from uuid import UUID

import pytest

from broker.agent_core import AgentCore
from broker.kafka.connection_bounds import ConnectionBounds
from broker.kafka.listener import Listener
from broker.objects.memory import MemoryStore
from catalog.migrate import migrate
from schemas.config_kinds import ConfigKind
from tests.data_path import memory_database, running_core
from tests.front_fakes import Client, batch, make

SET = 0


@dataclass
class Agent:
    """One of the two, with a connection to it."""

    core: AgentCore
    client: Client


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Agent, Agent]]:
    """Agents that share store and database; the second one's polls are too slow to help."""
    database, store = memory_database(), MemoryStore(lambda: 0)
    await migrate(database)
    async with AsyncExitStack() as stack:
        agents = []
        for seed in (1, 2):
            core = await stack.enter_async_context(
                running_core(store=store, database=database.handle(), seed=seed, topic_poll_interval_ms=300_000)
            )
            listener = Listener(core.services)
            address = await listener.start("127.0.0.1", 0)
            stack.push_async_callback(listener.stop)
            agents.append(Agent(core, await Client.connect(address)))
        yield agents[0], agents[1]
        for agent in agents:
            await agent.client.close()


async def produce(agent: Agent, topic: str, part: int) -> tuple[int, int]:
    data = {"name": topic, "partition_data": [{"index": part, "records": batch(2)}]}
    answer = await agent.client.call(make(0, 9, transactional_id=None, acks=-1, timeout=5000, topic_data=[data]))
    (row,) = answer.responses[0].partition_responses
    return int(row.error_code), row.base_offset


async def produce_by_id(agent: Agent, topic_id: UUID) -> int:
    data = {"topic_id": topic_id, "partition_data": [{"index": 0, "records": batch(1)}]}
    answer = await agent.client.call(make(0, 13, transactional_id=None, acks=-1, timeout=5000, topic_data=[data]))
    return int(answer.responses[0].partition_responses[0].error_code)


async def fetch(agent: Agent, topic: str, part: int) -> tuple[int, int]:
    """(error, high watermark)."""
    row = {"partition": part, "fetch_offset": 0, "partition_max_bytes": 1 << 20, "current_leader_epoch": -1, "last_fetched_epoch": -1}  # fmt: skip
    request = make(
        1, 12, max_wait=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0, session_id=0, session_epoch=-1,
        topics=[{"topic": topic, "partitions": [row]}], forgotten_topics_data=[], rack_id="",
    )  # fmt: skip
    (answer,) = (await agent.client.call(request)).responses[0].partitions
    return int(answer.error_code), answer.high_watermark


async def grow(agent: Agent, topic: str, count: int) -> int:
    rows = [{"name": topic, "count": count, "assignments": None}]
    answer = await agent.client.call(make(37, 3, topics=rows, timeout=1000, validate_only=False))
    return int(answer.results[0].error_code)


async def set_config(agent: Agent, kind: int, name: str, key: str, value: str) -> int:
    config = {"name": key, "config_operation": SET, "value": value}
    resource = {"resource_type": kind, "resource_name": name, "configs": [config]}
    answer = await agent.client.call(make(44, 1, resources=[resource], validate_only=False))
    return int(answer.responses[0].error_code)


async def offset_after(agent: Agent, topic: str, part: int) -> tuple[int, int]:
    rows = [{"name": topic, "partitions": [{"partition_index": part, "current_leader_epoch": -1, "timestamp": -1}]}]
    answer = await agent.client.call(make(2, 5, replica_id=-1, isolation_level=0, topics=rows))
    (found,) = answer.topics[0].partitions
    return int(found.error_code), found.offset


async def commit_offset(agent: Agent, topic: str, part: int) -> int:
    row = {"partition_index": part, "committed_offset": 0, "committed_leader_epoch": -1, "committed_metadata": ""}
    request = make(
        8, 7, group_id="g", generation_id_or_member_epoch=-1, member_id="", group_instance_id=None,
        topics=[{"name": topic, "partitions": [row]}],
    )  # fmt: skip
    return int((await agent.client.call(request)).topics[0].partitions[0].error_code)


async def test_offsets_of_new_partitions_are_not_unknown_to_other_agents(pair: tuple[Agent, Agent]) -> None:
    here, there = pair
    await here.core.topics.create("t", 1, {})
    assert await commit_offset(there, "t", 1) == 3
    assert await grow(here, "t", 2) == 0
    assert await commit_offset(there, "t", 1) != 3, "whoever coordinates the group, the partition is there"


async def test_new_partitions_are_usable_at_once_on_every_agent(pair: tuple[Agent, Agent]) -> None:
    here, there = pair
    await here.core.topics.create("t", 1, {})
    assert await produce(there, "t", 0) == (0, 0)
    assert await grow(here, "t", 4) == 0
    assert await produce(there, "t", 1) == (0, 0)
    assert await grow(there, "t", 5) == 0
    assert await fetch(here, "t", 4) == (0, 0)
    assert await grow(there, "t", 6) == 0
    assert await offset_after(here, "t", 5) == (0, 0)
    assert await produce(there, "t", 6) == (3, -1)
    assert await grow(here, "t", 6) == 37


async def test_changed_configs_hold_on_the_other_agent_after_its_next_look(pair: tuple[Agent, Agent]) -> None:
    here, there = pair
    await here.core.topics.create("t", 1, {})
    assert await produce(there, "t", 0) == (0, 0)
    assert await set_config(here, ConfigKind.TOPIC, "t", "max.message.bytes", "10") == 0
    await there.core.topics.follow()
    assert await produce(there, "t", 0) == (10, -1)
    assert await set_config(there, ConfigKind.TOPIC, "t", "max.message.bytes", "10000") == 0
    assert await produce(there, "t", 0) == (0, 2)


async def test_defaults_of_brokers_hold_for_topics_on_every_agent(pair: tuple[Agent, Agent]) -> None:
    here, there = pair
    await here.core.topics.create("t", 1, {})
    assert await produce(there, "t", 0) == (0, 0)
    assert await set_config(here, ConfigKind.BROKER, "", "message.max.bytes", "10") == 0
    assert await produce(here, "t", 0) == (10, -1)
    await there.core.configs.fresh()
    assert await produce(there, "t", 0) == (10, -1)
    own = str(there.core.cluster.self_view.broker_id)
    assert await set_config(there, ConfigKind.BROKER, own, "message.max.bytes", "10000") == 0
    assert await produce(there, "t", 0) == (0, 2)
    await here.core.configs.fresh()
    assert await produce(here, "t", 0) == (10, -1), "what is set for one broker is that one's alone"


async def test_bounds_of_connections_are_worked_out_again_when_an_agent_hears_of_a_change(
    pair: tuple[Agent, Agent],
) -> None:
    here, there = pair
    bounds = ConnectionBounds(there.core.services)
    assert await set_config(here, ConfigKind.BROKER, "", "max.connections", "7") == 0
    assert (before := bounds.now()).connections_max != 7
    assert bounds.now() is before
    await there.core.configs.fresh()
    assert bounds.now() == (7, before.per_address_max)
    own = str(there.core.cluster.self_view.broker_id)
    assert await set_config(there, ConfigKind.BROKER, own, "max.connections.per.ip", "5") == 0
    assert bounds.now() == (7, 5)


async def test_a_deleted_topic_is_gone_on_the_other_agent_and_its_successor_begins_empty(
    pair: tuple[Agent, Agent],
) -> None:
    here, there = pair
    first = await here.core.topics.create("t", 1, {})
    assert await produce(there, "t", 0) == (0, 0)
    await here.core.topics.delete(first)
    assert await produce(there, "t", 0) == (3, -1), "the commit knows, whatever the agent remembers"
    second = await here.core.topics.create("t", 1, {})
    await there.core.topics.follow()
    assert there.core.topics.by_id(first.topic_id) is None
    assert await produce(there, "t", 0) == (0, 0)
    assert await fetch(here, "t", 0) == (0, 2)
    for agent in pair:
        assert await produce_by_id(agent, first.topic_id) == 100
        assert await produce_by_id(agent, second.topic_id) == 0


async def test_an_id_that_was_deleted_elsewhere_is_unknown_at_once(pair: tuple[Agent, Agent]) -> None:
    here, there = pair
    topic = await here.core.topics.create("t", 1, {})
    assert await produce_by_id(there, topic.topic_id) == 0
    await here.core.topics.delete(topic)
    assert there.core.topics.by_id(topic.topic_id) is not None
    assert await produce_by_id(there, topic.topic_id) == 100
