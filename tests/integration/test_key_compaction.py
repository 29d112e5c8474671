"""A compacted topic on a real agent, compacted by its jobs' process, read by real clients: over holes of every size."""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.agents import AgentProcess, agent_on_folder, started
from tests.conftest import found
from tests.counterparts import kcat_binary

TOPIC = "state"
KEYS = 40
PATIENCE_S = 40.0
QUICK = {
    "NEVE_KEY_COMPACTION_ENABLE": "true",
    "NEVE_KEY_COMPACTION_INTERVAL_MS": "200",
    "NEVE_KEY_COMPACTION_TAIL_MS": "500",
    "NEVE_KEY_COMPACTION_CHUNK_BYTES": "20000",
    "NEVE_COMPACTION_EXTENT_BYTES": "3000",
    "NEVE_COMPACTION_ENABLE": "false",
    "NEVE_JOB_POLL_MS": "200",
    "NEVE_FLUSH_INTERVAL_MS": "20",
}
CONFIG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "iceberg.mode": "disabled"}


class Read(NamedTuple):
    """A record as a client gave it."""

    offset: int
    key: bytes
    value: bytes | None


def with_confluent(bootstrap: str, count: int) -> list[Read]:
    return _with_librdkafka(bootstrap, count, {})


def with_confluent_in_small_bites(bootstrap: str, count: int) -> list[Read]:
    sizes = {"fetch.message.max.bytes": 100, "fetch.max.bytes": 1000, "message.max.bytes": 1000}
    return _with_librdkafka(bootstrap, count, sizes)


def _with_librdkafka(bootstrap: str, count: int, config: dict[str, int]) -> list[Read]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, **config})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    got: list[Read] = []
    while len(got) < count:
        messages = consumer.consume(count - len(got), 10)
        assert messages, f"{len(got)} of {count} came"
        for one in messages:
            assert one.error() is None
            got.append(Read(one.offset() or 0, _bytes(one.key()), None if one.value() is None else _bytes(one.value())))
    consumer.close()
    return got


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def with_kafka_python(bootstrap: str, count: int) -> list[Read]:
    from kafka import KafkaConsumer
    from kafka import TopicPartition as Partition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, max_partition_fetch_bytes=300)
    consumer.assign([Partition(TOPIC, 0)])
    consumer.seek(Partition(TOPIC, 0), 0)
    got: list[Read] = []
    ends = time.monotonic() + PATIENCE_S
    while len(got) < count:
        assert time.monotonic() < ends, f"{len(got)} of {count} came"
        for messages in consumer.poll(1000).values():
            got += [Read(one.offset, one.key, one.value) for one in messages]
    consumer.close()
    return got


def with_aiokafka(bootstrap: str, count: int) -> list[Read]:
    from aiokafka import AIOKafkaConsumer
    from aiokafka import TopicPartition as Partition

    async def run() -> list[Read]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=300)
        await consumer.start()
        consumer.assign([Partition(TOPIC, 0)])
        consumer.seek(Partition(TOPIC, 0), 0)
        got: list[Read] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(got) < count:
                    one = await consumer.getone()
                    got.append(Read(one.offset, one.key, one.value))
        finally:
            await consumer.stop()
        return got

    return asyncio.run(run())


def with_kcat(bootstrap: str, count: int) -> list[Read]:
    argv = [str(found(kcat_binary)), "-b", bootstrap, "-C", "-t", TOPIC, "-p", "0", "-o", "beginning", "-e", "-q"]
    done = subprocess.run([*argv, "-f", "%o %k %s\n"], capture_output=True, timeout=PATIENCE_S, check=True)
    lines = [line.split(b" ") for line in done.stdout.splitlines()]
    assert len(lines) == count
    return [Read(int(offset), key, value) for offset, key, value in lines]


CLIENTS: list[Callable[[str, int], list[Read]]] = [
    with_confluent,
    with_confluent_in_small_bites,
    with_kafka_python,
    with_aiokafka,
    with_kcat,
]


def test_real_clients_read_a_compacted_topic(tmp_path: Path) -> None:
    agent = agent_on_folder(tmp_path, tmp_path / "data", roles="broker,compact", settings=QUICK)
    with started(agent):
        admin = AdminClient({"bootstrap.servers": agent.kafka})
        for future in admin.create_topics([NewTopic(TOPIC, 1, 1, config=CONFIG)]).values():
            future.result(PATIENCE_S)
        expected = _fill(agent)
        _wait_compacted(agent)
        agent.terminate()
        agent.start()  # its caches know nothing of what was there before
        for client in CLIENTS:
            assert client(agent.kafka, KEYS) == expected, client.__name__


def _fill(agent: AgentProcess) -> list[Read]:
    """Some keys that are written once, in the midst of others that are written again and again; what will be left."""
    producer = Producer({"bootstrap.servers": agent.kafka, "linger.ms": 5, "enable.idempotence": True})
    latest: dict[bytes, Read] = {}
    offset = 0
    for number in range(120):
        for at in range(20):
            only_once = at == 0 and number % 12 == 0
            key = b"once-%d" % number if only_once else b"key-%d" % ((number + at) % (KEYS - 10))
            value = b"%d-%d" % (number, at)
            producer.produce(TOPIC, value, key, partition=0)
            latest[key] = Read(offset, key, value)
            offset += 1
        assert producer.flush(PATIENCE_S) == 0
    assert len(latest) == KEYS
    return sorted(latest.values())


def _wait_compacted(agent: AgentProcess) -> None:
    """Until no more is left than there are keys."""
    consumer = Consumer({"bootstrap.servers": agent.kafka, "group.id": "none"})
    high = consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), PATIENCE_S)[1]
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        if _metrics(agent).get("neve_key_compaction_records_removed_total", 0) >= high - KEYS:
            return
        time.sleep(0.2)
    pytest.fail(f"not compacted: {agent.log.read_text()[-2000:]}")


def _metrics(agent: AgentProcess) -> dict[str, float]:
    with urllib.request.urlopen(f"{agent.http}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
