"""Clients are told of the agents of their zone, by every API that tells of agents, and of a group's coordinator wherever it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.kafka.leaders import leaders_of
from broker.services import BrokerView
from tests.front_fakes import Client, Fakes, make, running, settings, versions

ALL = (1, 2, 3, 4)
SHARDS = 12


@pytest.fixture
async def fakes() -> Fakes:
    """Agents 1 and 3 are in zone a, 2 in b, 4 in none; the client talks to agent 1."""
    fakes = Fakes(settings(), agents=4)
    live = fakes.cluster.live
    live[1], live[3] = replace(live[1], zone="b"), replace(live[3], zone="")
    fakes.topics.add("t", SHARDS)
    return fakes


async def metadata(client: Client, version: int = 12) -> Any:
    asked: dict[str, Any] = {"topics": [{"name": "t", "topic_id": None}], "allow_auto_topic_creation": False}
    operations = {"include_cluster_authorized_operations": False, "include_topic_authorized_operations": False}
    return await client.call(make(3, version, **asked, **operations))


async def told(client: Client, version: int = 12) -> tuple[int, ...]:
    """The agents that Metadata names; its leaders are those that hashing over them gives."""
    answer = await metadata(client, version)
    brokers = tuple(broker.node_id for broker in answer.brokers)
    (topic,) = answer.topics
    leaders = leaders_of(topic.topic_id, SHARDS, brokers) if version >= 10 else None
    found = tuple(part.leader_id for part in topic.partitions)
    assert set(found) <= set(brokers)
    assert leaders in (found, None)
    assert version < 1 or answer.controller_id in brokers
    return brokers


async def fetch(client: Client, rack: str) -> None:
    row = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1, "current_leader_epoch": -1, "last_fetched_epoch": -1}  # fmt: skip
    await client.call(
        make(1, 11, max_wait=0, min_bytes=0, max_bytes=1, isolation_level=0, session_id=0, session_epoch=-1,
             topics=[{"topic": "t", "partitions": [row]}], forgotten_topics_data=[], rack_id=rack)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("client_id", "brokers"),
    [
        ("app,zone=a", (1, 3)),
        ("ws_az=b;app", (2,)),
        ("automq_az=b|app", (2,)),
        ("diskless_az=a", (1, 3)),
        ("az=nowhere", ALL),
        ("app", (1, 3)),
        (None, (1, 3)),
    ],
)
async def test_every_api_tells_of_the_same_agents(client: Client, client_id: Any, brokers: tuple[int, ...]) -> None:
    client.client_id = client_id
    assert await told(client) == brokers
    cluster = await client.call(make(60, 1, include_cluster_authorized_operations=False, endpoint_type=1))
    assert tuple(broker.broker_id for broker in cluster.brokers) == brokers
    assert cluster.controller_id == brokers[0]
    pages = await client.call(make(75, 0, topics=[{"name": "t"}], response_partition_limit=2000, cursor=None))
    (topic,) = pages.topics
    assert tuple(part.leader_id for part in topic.partitions) == leaders_of(topic.topic_id, SHARDS, brokers)


@pytest.mark.parametrize("version", versions(3))
async def test_metadata_of_a_zone_in_every_version(client: Client, version: int) -> None:
    client.client_id = "zone=b"
    assert await told(client, version) == (2,)


async def test_an_agent_without_a_zone_tells_clients_that_name_none_of_everybody(fakes: Fakes) -> None:
    fakes.cluster.self_view = fakes.cluster.live[3]
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        assert await told(client) == ALL
        client.client_id = "zone=a"
        assert await told(client) == (1, 3)
        await client.close()


async def test_the_rack_of_a_fetch_is_the_zone_unless_the_client_id_names_one(client: Client) -> None:
    await fetch(client, "")
    assert await told(client) == (1, 3)
    await fetch(client, "b")
    assert await told(client) == (2,)
    await fetch(client, "")
    assert await told(client) == (2,), "a Fetch without a rack says nothing"
    client.client_id = "zone=a"
    assert await told(client) == (1, 3)


async def test_the_agent_that_is_asked_is_the_controller_where_the_client_may_know_it(
    client: Client, fakes: Fakes
) -> None:
    fakes.cluster.self_view = fakes.cluster.live[2]
    assert (await metadata(client)).controller_id == 3
    client.client_id = "zone=b"
    assert (await metadata(client)).controller_id == 2


async def test_a_coordinator_may_be_in_any_zone(client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def coordinator_of(group_id: str) -> BrokerView:
        return fakes.cluster.live[0]

    monkeypatch.setattr(fakes.groups, "coordinator_of", coordinator_of)
    client.client_id = "zone=b"
    answer = await client.call(make(10, 4, key_type=0, coordinator_keys=["g"]))
    (coordinator,) = answer.coordinators
    assert (coordinator.error_code, coordinator.node_id) == (0, 1)
    assert await told(client) == (2,)
