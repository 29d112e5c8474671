"""Three agents in two zones: the records of a client stay in its zone, wherever the coordinator of its group is."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

from broker.groups.slots import preferred_holder, slot_of
from tests.agents import AgentProcess, agent_on_folder, started
from tests.front_fakes import Client, make
from tests.integration.groups import SETTINGS, TIMEOUT_S, fill

ZONES = ("a", "a", "b")
PARTITIONS = 30
"""So many that an agent without any is no chance."""
GROUP = next(f"group-{n}" for n in range(99) if preferred_holder(slot_of(f"group-{n}"), (1, 2, 3)) == 3)
"""Coordinated in zone b."""
_REQUESTS = re.compile(r'^neve_requests_total\{api="(\w+)",outcome="ok"\} (\S+)$', re.M)


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[list[AgentProcess]]:
    """Broker ids 1 and 2 in zone a, 3 in zone b."""
    three = [agent_on_folder(tmp_path, tmp_path / "data", settings=SETTINGS | {"NEVE_ZONE": zone}) for zone in ZONES]
    with started(*three):
        yield three


def metadata(bootstrap: str, client_id: str) -> ClusterMetadata:
    admin = AdminClient({"bootstrap.servers": bootstrap, "client.id": client_id, "log_level": 0})
    return admin.list_topics(timeout=TIMEOUT_S)


def leaders(seen: ClusterMetadata, topic: str) -> dict[int, int]:
    return {number: partition.leader for number, partition in seen.topics[topic].partitions.items()}


def served(agent: AgentProcess) -> Counter[str]:
    """Requests that an agent answered, by API."""
    with urllib.request.urlopen(agent.http + "/metrics", timeout=10) as answer:
        return Counter({api: int(float(count)) for api, count in _REQUESTS.findall(answer.read().decode())})


def bytes_fetched(agent: AgentProcess) -> int:
    """Bytes of record batches that an agent has sent to consumers."""
    with urllib.request.urlopen(agent.http + "/metrics", timeout=10) as answer:
        found = re.search(r"^neve_fetched_bytes_total (\S+)$", answer.read().decode(), re.M)
    assert found is not None
    return int(float(found[1]))


async def coordinator(bootstrap: str) -> int:
    """Broker id of GROUP's coordinator as an agent tells it; -1 while there is none."""
    host, _, port = bootstrap.rpartition(":")
    client = await Client.connect((host, int(port)))
    try:
        [found] = (await client.call(make(10, 4, key_type=0, coordinator_keys=[GROUP]))).coordinators
        return int(found.node_id)
    finally:
        await client.close()


def wait_for_coordinator(bootstrap: str, broker_id: int) -> None:
    """Slots move to agents that came later when they are next looked at."""
    deadline = time.monotonic() + TIMEOUT_S
    while (told := asyncio.run(coordinator(bootstrap))) != broker_id:
        assert time.monotonic() < deadline, f"the coordinator is {told}"
        time.sleep(0.1)


def produce(bootstrap: str, client_id: str, topic: str, count: int) -> list[str]:
    values = [f"value-{number}" for number in range(count)]
    errors: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap, "client.id": client_id, "enable.idempotence": True, "log_level": 0})  # fmt: skip
    for number, value in enumerate(values):
        producer.produce(
            topic, value.encode(), partition=number % PARTITIONS,
            on_delivery=lambda error, _: errors.append(str(error)) if error else None,
        )  # fmt: skip
    assert producer.flush(TIMEOUT_S) == 0
    assert not errors, errors[0]
    return values


def consume(bootstrap: str, client_id: str, topic: str, count: int, rack: str = "") -> list[str]:
    """`count` values, read as a member of GROUP; they are committed."""
    config = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False, "log_level": 0}
    config |= {"client.rack": rack} if rack else {}
    consumer = Consumer(config | {"bootstrap.servers": bootstrap, "client.id": client_id})
    consumer.subscribe([topic])
    values: list[str] = []
    deadline = time.monotonic() + TIMEOUT_S
    while len(values) < count:
        assert time.monotonic() < deadline, f"{len(values)} of {count} records"
        for message in consumer.consume(100, 0.2):
            assert message.error() is None, message.error()
            values.append((message.value() or b"").decode())
    consumer.commit(asynchronous=False)
    consumer.close()
    return values


async def consume_with_aiokafka(bootstrap: str, client_id: str, topic: str, count: int) -> list[str]:
    """The same with a library that finds the coordinator among the agents that Metadata names, as kafkajs and franz-go do."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, client_id=client_id, group_id=GROUP, auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    values: list[str] = []
    async with asyncio.timeout(TIMEOUT_S):
        await consumer.start()
        while len(values) < count:
            polled = await consumer.getmany(timeout_ms=200)
            values += [(message.value or b"").decode() for messages in polled.values() for message in messages]
    await consumer.commit()
    await consumer.stop()
    return values


@pytest.mark.timeout(120)
def test_records_of_a_client_dont_cross_zones(agents: list[AgentProcess]) -> None:
    far = agents[2].kafka  # wherever the client asks first
    fill(agents[0].kafka, "t", [], PARTITIONS)
    seen = metadata(far, "app,zone=a")
    assert sorted(seen.brokers) == [1, 2, 3], "coordinators of groups may be in other zones"
    spread = leaders(seen, "t")
    assert set(spread.values()) == {1, 2}
    assert leaders(metadata(agents[1].kafka, "app|ws_az=a"), "t") == spread, "all agents say the same"
    seen = metadata(far, "no zone")
    assert sorted(seen.brokers) == [1, 2, 3]
    everybody = leaders(seen, "t")
    assert set(everybody.values()) == {1, 2, 3}
    assert leaders(metadata(agents[0].kafka, "az=nowhere"), "t") == everybody

    wait_for_coordinator(far, 3)
    before = [served(agent) for agent in agents]
    values = produce(far, "app,zone=a", "t", 600)
    assert sorted(consume(far, "app,zone=a", "t", len(values))) == sorted(values)
    did = [served(agent) - was for agent, was in zip(agents, before, strict=True)]
    for api in ("Produce", "Fetch"):
        assert all(each[api] for each in did[:2]), f"both agents of the zone serve {api}"
        assert not did[2][api], f"{api} has crossed zones"
    assert did[2]["JoinGroup"], "the group's coordinator is in the other zone"
    assert did[2]["OffsetCommit"]

    fill(far, "u", [], PARTITIONS)
    values = produce(far, "app;zone=a", "u", 60)
    assert sorted(asyncio.run(consume_with_aiokafka(far, "app,zone=a", "u", len(values)))) == sorted(values)
    assert served(agents[2])["Fetch"] == before[2]["Fetch"]

    before = [served(agent) for agent in agents]
    fetched = [bytes_fetched(agent) for agent in agents]
    fill(far, "v", [], PARTITIONS)
    values = produce(far, "app", "v", 600)
    assert sorted(consume(agents[0].kafka, "app", "v", len(values), rack="b")) == sorted(values)
    assert served(agents[0])["Fetch"] > before[0]["Fetch"], "the leader is asked first"
    assert [bytes_fetched(agent) for agent in agents[:2]] == fetched[:2], "records came from the consumer's rack alone"
    assert bytes_fetched(agents[2]) > fetched[2]

    assert agents[2].terminate() == 0
    seen = metadata(agents[0].kafka, "app;zone=b")
    assert sorted(seen.brokers) == [1, 2]
    assert leaders(seen, "t") == spread, "a zone without agents is served by all"
