"""Five real clients behind one small interface, which the corpus of recorded requests is made with (tests/fuzz/record.py):
produce values in order to partition 0, consume a topic from its start.

Consumers assign themselves the partition, so that each reads every offset. Tests use the drivers in tests/clients.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.counterparts import KafkaJars, kafka_jars, kcat_binary

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TIMEOUT_S = 90


class Client(Protocol):
    """One client library or tool."""

    name: str

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        """Send `values` in order to partition 0 with acks=all; raises unless every one is acknowledged."""
        ...

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        """The first `count` values of partition 0."""
        ...


class Confluent:
    """confluent-kafka (librdkafka)."""

    name = "confluent-kafka"

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        from confluent_kafka import Producer

        config = {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "compression.type": codec}
        producer = Producer({**config, "linger.ms": 20})
        errors: list[str] = []
        for value in values:
            while True:
                try:
                    producer.produce(
                        topic, value, partition=0, on_delivery=lambda e, _m: errors.append(str(e)) if e else None
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
        assert producer.flush(TIMEOUT_S) == 0
        assert not errors, errors[0]

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, 0, 0)])
        got: list[bytes] = []
        while len(got) < count:
            messages = consumer.consume(min(10_000, count - len(got)), 20)
            assert messages, f"{len(got)} of {count} came"
            for message in messages:
                assert message.error() is None, message.error()
                assert message.offset() == len(got)
                got.append(message.value())
        consumer.close()
        return got


class KafkaPython:
    """kafka-python."""

    name = "kafka-python"

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", compression_type=None if codec == "none" else codec, linger_ms=20
        )
        sent = [producer.send(topic, value, partition=0) for value in values]
        producer.flush(TIMEOUT_S)
        for future in sent:
            future.get(TIMEOUT_S)
        producer.close()

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, consumer_timeout_ms=20_000)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        got: list[bytes] = []
        while len(got) < count:
            polled = consumer.poll(20_000, max_records=10_000)
            assert polled, f"{len(got)} of {count} came"
            for message in polled[partition]:
                assert message.offset == len(got)
                got.append(message.value)
        consumer.close()
        return got[:count]


class Aiokafka:
    """aiokafka."""

    name = "aiokafka"

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        from aiokafka import AIOKafkaProducer

        async def run() -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                enable_idempotence=True,
                compression_type=None if codec == "none" else codec,
                linger_ms=20,
                max_batch_size=65536,
            )
            await producer.start()
            try:
                for at in range(0, len(values), 5000):
                    sent = [await producer.send(topic, value, partition=0) for value in values[at : at + 5000]]
                    await asyncio.wait_for(asyncio.gather(*sent), TIMEOUT_S)
            finally:
                await producer.stop()

        asyncio.run(run())

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def run() -> list[bytes]:
            partition = TopicPartition(topic, 0)
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
            await consumer.start()
            got: list[bytes] = []
            try:
                consumer.assign([partition])
                consumer.seek(partition, 0)
                while len(got) < count:
                    polled = await consumer.getmany(partition, timeout_ms=20_000, max_records=10_000)
                    assert polled, f"{len(got)} of {count} came"
                    for message in polled[partition]:
                        assert message.offset == len(got)
                        got.append(bytes(message.value or b""))
            finally:
                await consumer.stop()
            return got[:count]

        return asyncio.run(run())


class Kcat:
    """kcat, the command-line client on librdkafka."""

    name = "kcat"

    def __init__(self) -> None:
        self._kcat = kcat_binary()

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        argv = [str(self._kcat), "-P", "-b", bootstrap, "-t", topic, "-p", "0", "-z", codec, "-X", "acks=all"]
        done = subprocess.run(
            argv, input=b"\n".join(values) + b"\n", capture_output=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"failed" not in done.stderr.lower(), done.stderr.decode()

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        argv = [
            str(self._kcat),
            "-C",
            "-b",
            bootstrap,
            "-t",
            topic,
            "-p",
            "0",
            "-o",
            "beginning",
            "-c",
            str(count),
            "-q",
        ]
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.splitlines()


class JavaConsole:
    """Kafka's own console producer and consumer."""

    name = "java-console"

    def __init__(self) -> None:
        self._jars: KafkaJars = kafka_jars()
        self._config: Path | None = None

    def produce(self, bootstrap: str, topic: str, codec: str, values: Sequence[bytes]) -> None:
        argv = self._jars.command(
            "org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", bootstrap, "--topic", topic,
            "--compression-codec", codec, "--batch-size", "1000", "--timeout", "20",
        )  # fmt: skip
        done = subprocess.run(
            argv, input=b"\n".join(values) + b"\n", capture_output=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert b"ERROR" not in done.stderr, done.stderr.decode()

    def consume(self, bootstrap: str, topic: str, count: int) -> list[bytes]:
        argv = self._jars.command(
            "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", bootstrap, "--topic", topic,
            "--partition", "0", "--offset", "earliest", "--max-messages", str(count), "--timeout-ms", "30000",
        )  # fmt: skip
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.splitlines()


KINDS: tuple[type[Client], ...] = (Confluent, KafkaPython, Aiokafka, Kcat, JavaConsole)
