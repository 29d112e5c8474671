"""Clients are sent to the agents of their zone by every API that tells of agents, and to a group's coordinator wherever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker.kafka.leaders import leaders_of
from broker.services import BrokerView
from tests.front_fakes import Client, Fakes, batch, make, running, settings, versions

ALL = (1, 2, 3, 4)
SHARDS = 24


def three_zones(**changes: Any) -> Fakes:
    """Agents 1 and 3 are in zone a, 2 in b, 4 in none; the client talks to agent 1."""
    fakes = Fakes(settings(**changes), agents=4)
    live = fakes.cluster.live
    live[1], live[3] = replace(live[1], zone="b"), replace(live[3], zone="")
    fakes.topics.add("t", SHARDS)
    return fakes


@pytest.fixture
async def fakes() -> Fakes:
    return three_zones()


@pytest.fixture
async def strict() -> AsyncIterator[Client]:
    """A client that is told of the agents of its zone alone."""
    async with running(three_zones(metadata_other_zones=False)) as (_, address):
        connected = await Client.connect(address)
        yield connected
        await connected.close()


async def metadata(client: Client, version: int = 12) -> Any:
    asked: dict[str, Any] = {"topics": [{"name": "t", "topic_id": None}], "allow_auto_topic_creation": False}
    operations = {"include_cluster_authorized_operations": False, "include_topic_authorized_operations": False}
    return await client.call(make(3, version, **asked, **operations))


async def told(client: Client, version: int = 12) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The agents that Metadata names, and those that lead partitions; the controller is one that is named."""
    answer = await metadata(client, version)
    named = tuple(broker.node_id for broker in answer.brokers)
    (topic,) = answer.topics
    found = tuple(part.leader_id for part in topic.partitions)
    leading = tuple(sorted(set(found)))
    zones = [zone for zone in ((1, 3), (2,)) if set(zone) <= set(named)]
    columns = [leaders_of(topic.topic_id, SHARDS, zone) for zone in zones] if version >= 10 and len(zones) > 1 else []
    for number, part in enumerate(topic.partitions):
        assert part.replica_nodes == part.isr_nodes
        assert part.replica_nodes[0] == part.leader_id
        if version >= 10:
            assert set(part.replica_nodes) == {part.leader_id, *(column[number] for column in columns)}
    if version >= 10:
        assert found == leaders_of(topic.topic_id, SHARDS, leading)
    assert version < 1 or answer.controller_id in named
    return named, leading


HINTS = [("app,zone=a", (1, 3)), ("ws_az=b;app", (2,)), ("automq_az=b|app", (2,)), ("diskless_az=a", (1, 3)), ("az=nowhere", ALL)]  # fmt: skip


async def check_every_api(
    client: Client, client_id: str | None, named: tuple[int, ...], leading: tuple[int, ...]
) -> None:
    client.client_id = client_id
    assert await told(client) == (named, leading)
    cluster = await client.call(make(60, 1, include_cluster_authorized_operations=False, endpoint_type=1))
    assert tuple(broker.broker_id for broker in cluster.brokers) == named
    assert cluster.controller_id == named[0]
    pages = await client.call(make(75, 0, topics=[{"name": "t"}], response_partition_limit=2000, cursor=None))
    (topic,) = pages.topics
    assert tuple(part.leader_id for part in topic.partitions) == leaders_of(topic.topic_id, SHARDS, leading)
    (beside,) = (await metadata(client)).topics
    assert [part.replica_nodes for part in topic.partitions] == [part.replica_nodes for part in beside.partitions]
    assert all(part.isr_nodes == part.replica_nodes for part in topic.partitions)


@pytest.mark.parametrize(("client_id", "leading"), [*HINTS, ("app", ALL), (None, ALL)])
async def test_partitions_are_led_in_the_clients_zone(client: Client, client_id: Any, leading: tuple[int, ...]) -> None:
    await check_every_api(client, client_id, ALL, leading)


@pytest.mark.parametrize(("client_id", "agents"), [*HINTS, ("app", (1, 3)), (None, (1, 3))])
async def test_the_agents_of_other_zones_may_go_unnamed(
    strict: Client, client_id: Any, agents: tuple[int, ...]
) -> None:
    await check_every_api(strict, client_id, agents, agents)


@pytest.mark.parametrize("version", versions(3))
async def test_metadata_of_a_zone_in_every_version(client: Client, version: int) -> None:
    client.client_id = "zone=b"
    assert await told(client, version) == (ALL, (2,))


async def test_what_a_client_is_told_doesnt_depend_on_the_agent_it_asks(fakes: Fakes) -> None:
    answers = set()
    for agent in fakes.cluster.live:
        fakes.cluster.self_view = agent
        async with running(fakes) as (_, address):
            client = await Client.connect(address)
            for client.client_id in ("app", "zone=a"):
                answers.add((client.client_id, await told(client)))
            await client.close()
    assert sorted(answers) == [("app", (ALL, ALL)), ("zone=a", (ALL, (1, 3)))]


async def test_an_agent_without_a_zone_leaves_a_client_that_names_none_to_everybody() -> None:
    fakes = three_zones(metadata_other_zones=False)
    fakes.cluster.self_view = fakes.cluster.live[3]
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        assert await told(client) == (ALL, ALL)
        await client.close()


async def test_the_agent_that_is_asked_is_the_controller_where_the_client_may_know_it() -> None:
    fakes = three_zones(metadata_other_zones=False)
    fakes.cluster.self_view = fakes.cluster.live[2]
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        assert (await metadata(client)).controller_id == 3
        client.client_id = "zone=b"
        assert (await metadata(client)).controller_id == 2
        await client.close()


async def test_a_coordinator_may_be_in_any_zone(client: Client, fakes: Fakes) -> None:
    async def coordinator_of(group_id: str) -> BrokerView:
        return fakes.cluster.live[0]

    fakes.groups.coordinator_of = coordinator_of  # type: ignore[method-assign]
    client.client_id = "zone=b"
    answer = await client.call(make(10, 4, key_type=0, coordinator_keys=["g"]))
    (coordinator,) = answer.coordinators
    assert (coordinator.error_code, coordinator.node_id) == (0, 1)
    assert await told(client) == (ALL, (2,))


async def fetch(
    client: Client, rack: str, *, version: int = 11, partitions: tuple[int, ...] = (0, 5)
) -> list[tuple[int, int, int]]:
    """(partition, error, preferred replica); nothing is waited for."""
    rows = [{"partition": number, "fetch_offset": 0, "partition_max_bytes": 1 << 20, "current_leader_epoch": -1, "last_fetched_epoch": -1} for number in partitions]  # fmt: skip
    request = make(
        1, version, max_wait=0, min_bytes=0, max_bytes=1 << 20, isolation_level=0, session_id=0, session_epoch=-1,
        topics=[{"topic": "t", "partitions": rows}], forgotten_topics_data=[], rack_id=rack,
    )  # fmt: skip
    (topic,) = (await client.call(request)).responses
    for part in topic.partitions:
        assert (part.preferred_read_replica == -1) == bool(part.records or part.error_code or part.high_watermark >= 0)
    return [(part.partition_index, int(part.error_code), part.preferred_read_replica) for part in topic.partitions]


async def test_a_consumer_in_the_rack_of_another_zone_is_sent_there(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.live["t"]
    fakes.log.append((view.topic, 0), memoryview(batch(3)), 3)
    for version in (11, 12):
        assert await fetch(client, "b", version=version) == [(0, 0, 2), (5, 0, 2)]
        for rack in ("", "a", "nowhere"):
            assert await fetch(client, rack, version=version) == [(0, 0, -1), (5, 0, -1)]
    fakes.cluster.live[3] = replace(fakes.cluster.live[3], zone="b")
    preferred = leaders_of(view.topic_id, SHARDS, (2, 4))
    assert await fetch(client, "b", partitions=(3, 4)) == [(3, 0, preferred[3]), (4, 0, preferred[4])]
    replicas = (await metadata(client)).topics[0].partitions
    assert all(preferred[number] in part.replica_nodes for number, part in enumerate(replicas)), (
        "Java looks whether it is one"
    )


async def test_a_partition_that_isnt_there_is_an_error_for_a_consumer_of_another_zone_too(client: Client) -> None:
    assert await fetch(client, "b", partitions=(0, SHARDS)) == [(0, 0, 2), (SHARDS, 3, -1)]


async def test_where_other_zones_go_unnamed_consumers_stay(strict: Client) -> None:
    assert await fetch(strict, "b") == [(0, 0, -1), (5, 0, -1)]
