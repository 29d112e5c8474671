"""What tests of consumer groups share: filling topics, and waiting until a group has settled."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.agents import AgentProcess
from tests.front_fakes import Client, make

PARTITIONS = 4
SETTINGS = {"NEVE_FSYNC": "never", "NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "200"}
TIMEOUT_S = 30


def fill(bootstrap: str, topic: str, values: Sequence[str], partitions: int = PARTITIONS) -> None:
    """Create a topic and spread values over its partitions."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(TIMEOUT_S)
    spread(bootstrap, topic, values, partitions)


def spread(bootstrap: str, topic: str, values: Sequence[str], partitions: int = PARTITIONS) -> None:
    """Produce values in turn to the partitions, acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    for number, value in enumerate(values):
        producer.produce(topic, value.encode(), partition=number % partitions)
    assert producer.flush(TIMEOUT_S) == 0


class Seen(NamedTuple):
    """What one agent says of the group."""

    agent: AgentProcess
    state: str
    owned: list[int]
    members: int


def look(agents: list[AgentProcess], group_id: str) -> Seen | None:
    """A group as its coordinator describes it, asked over a connection of our own (librdkafka's admin client aborts
    the process when a coordinator dies while it is asked)."""

    async def ask(agent: AgentProcess) -> Seen | None:
        host, _, port = agent.kafka.rpartition(":")
        try:
            client = await Client.connect((host, int(port)))
        except OSError:
            return None
        try:
            [group] = (await client.call(make(15, 5, groups=[group_id], include_authorized_operations=False))).groups
        except (OSError, asyncio.IncompleteReadError):
            return None
        finally:
            await client.close()
        if group.error_code or group.group_state == "Dead":
            return None
        owned = [shard for member in group.members for shard in partitions_of(member.member_assignment)]
        return Seen(agent, group.group_state, sorted(owned), len(group.members))

    for agent in agents:
        if (seen := asyncio.run(ask(agent))) is not None:
            return seen
    return None


def partitions_of(assignment: bytes) -> list[int]:
    """Partitions of the one topic in a consumer's assignment: version, count of topics, name, partitions."""
    if len(assignment) < 8 or not int.from_bytes(assignment[2:6], "big"):
        return []
    at = 8 + int.from_bytes(assignment[6:8], "big")
    count = int.from_bytes(assignment[at : at + 4], "big")
    return list(struct.unpack_from(f">{count}i", assignment, at + 4))


def settled(agents: list[AgentProcess], group_id: str, members: int, partitions: int = PARTITIONS) -> Seen:
    """Wait until a group is stable with every partition owned once."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        seen = look(agents, group_id)
        if seen is not None and seen[1:] == ("Stable", list(range(partitions)), members):
            return seen
        assert time.monotonic() < deadline, f"not settled: {seen and seen[1:]}"
        time.sleep(0.3)
