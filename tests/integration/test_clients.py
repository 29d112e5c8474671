"""Five clients side by side: each produces with every codec, each consumes what every other produced, record by record."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator

import pytest

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from tests.agents import AgentProcess, agent_on_folder, started
from tests.conftest import found, refuse
from tests.counterparts import CounterpartMissing
from tests.integration.clients import CODECS, KINDS, Client

RECORDS_PER_CODEC = 20_000
RECORDS = RECORDS_PER_CODEC * len(CODECS)


def values(producer: str, codec: str) -> list[bytes]:
    return [f"{producer}/{codec}/{n:06d}/some value like others".encode() for n in range(RECORDS_PER_CODEC)]


def digest(read: list[bytes]) -> str:
    return hashlib.sha256(b"\n".join(read)).hexdigest()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("clients")
    process = agent_on_folder(folder, folder / "data", settings={"NEVE_FSYNC": "never"})
    with started(process):
        yield process


@pytest.fixture(scope="module")
def produced(agent: AgentProcess) -> dict[str, str]:
    """Topic per producer -> digest of what it holds. A client that is missing here writes nothing."""
    written = {}
    for kind in KINDS:
        try:
            producer = kind()
        except CounterpartMissing as missing:
            if os.environ.get("NEVE_TEST_REQUIRE_ALL") == "1":
                refuse(missing)
            continue
        topic = f"from-{kind.name}"
        asyncio.run(create(agent.kafka, topic))
        sent: list[bytes] = []
        for codec in CODECS:
            chunk = values(kind.name, codec)
            producer.produce(agent.kafka, topic, codec, chunk)
            sent += chunk
        written[topic] = digest(sent)
    return written


async def create(bootstrap: str, topic: str) -> None:
    async with await KafkaClient.connect(bootstrap) as admin:
        await create_topic(admin, topic, 1, {})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_client_reads_what_every_client_wrote(
    kind: type[Client], agent: AgentProcess, produced: dict[str, str]
) -> None:
    consumer = found(kind)
    for topic, expected in produced.items():
        got = consumer.consume(agent.kafka, topic, RECORDS)
        assert len(got) == RECORDS
        assert digest(got) == expected, f"{kind.name} read other records from {topic}"
