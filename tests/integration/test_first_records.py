"""A real client writes to an agent on a folder and reads everything back, in order, across a restart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.agent import Agent
from schemas.settings import Settings

confluent_kafka = pytest.importorskip("confluent_kafka")

RECORDS = 10_000
SHARDS = 4


def _produce(address: str, topic: str) -> dict[tuple[int, int], bytes]:
    """Every acknowledged record by (partition, offset)."""
    acknowledged: dict[tuple[int, int], bytes] = {}

    def done(error: object, message: confluent_kafka.Message) -> None:
        assert error is None, error
        acknowledged[message.partition(), message.offset()] = message.value()

    producer = confluent_kafka.Producer(
        {"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 2, "compression.type": "lz4"}
    )
    payload = random.Random(7).randbytes(100)
    for n in range(RECORDS):
        producer.produce(topic, value=b"%d:" % n + payload, partition=n % SHARDS, on_delivery=done)
        if n % 500 == 0:
            producer.poll(0)
    assert producer.flush(30) == 0
    return acknowledged


def _consume(address: str, topic: str) -> dict[tuple[int, int], bytes]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False, "auto.offset.reset": "error"}
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, shard, 0) for shard in range(SHARDS)])
    found: dict[tuple[int, int], bytes] = {}
    next_offsets = dict.fromkeys(range(SHARDS), 0)
    while len(found) < RECORDS:
        messages = consumer.consume(RECORDS, 10.0)
        assert messages, f"only {len(found)} of {RECORDS} records came"
        for message in messages:
            assert message.error() is None, message.error()
            assert message.offset() == next_offsets[message.partition()]
            next_offsets[message.partition()] += 1
            found[message.partition(), message.offset()] = message.value()
    consumer.close()
    return found


async def test_what_is_acknowledged_is_read_back_also_after_a_restart(tmp_path: Path) -> None:
    import asyncio

    settings = Settings(data=tmp_path, kafka="127.0.0.1:0", http="127.0.0.1:0", num_partitions=SHARDS)
    agent = Agent(settings)
    await agent.start()
    address = f"127.0.0.1:{agent.kafka_address[1]}"
    acknowledged = await asyncio.to_thread(_produce, address, "first")
    assert len(acknowledged) == RECORDS
    assert await asyncio.to_thread(_consume, address, "first") == acknowledged
    await agent.drain()
    await agent.stop()
    again = Agent(settings)
    await again.start()
    assert await asyncio.to_thread(_consume, f"127.0.0.1:{again.kafka_address[1]}", "first") == acknowledged
    await again.drain()
    await again.stop()
