"""The demo's Kafka client: confluent-kafka, as any application would use it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from neve.demo.flights import encode, flights

Progress = Callable[[int], None]
PRODUCER = {
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
}
CONSUME_TIMEOUT_S = 30.0
QUIET = {"log_level": 5}  # librdkafka tells of its shutdown at level 6


class DemoFailed(Exception):
    """Something was not acknowledged, or didn't arrive."""


class Acknowledged:
    """Counts delivery reports."""

    def __init__(self, progress: Progress) -> None:
        self.count = 0
        self.errors: list[str] = []
        self._progress = progress

    def __call__(self, error: Any, _message: Any) -> None:
        """librdkafka's delivery report."""
        if error is not None:
            self.errors.append(str(error))
            return
        self.count += 1
        if self.count % 10_000 == 0:
            self._progress(self.count)


def create_topics(bootstrap: str, topics: dict[str, tuple[int, dict[str, str]]]) -> None:
    """Create topics by name: (partitions, config)."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({"bootstrap.servers": bootstrap, **QUIET})
    wanted = [
        NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        for name, (partitions, config) in topics.items()
    ]
    for name, created in admin.create_topics(wanted).items():
        try:
            created.result(30)
        except Exception as error:
            raise DemoFailed(f"topic {name} could not be created: {error}") from error


def send(bootstrap: str, topic: str, records: Iterable[tuple[bytes | None, bytes]], progress: Progress) -> int:
    """Produce records; returns how many were acknowledged. Raises DemoFailed when one wasn't."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", **PRODUCER, **QUIET})
    acknowledged = Acknowledged(progress)
    sent = 0
    for key, value in records:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=acknowledged)
                break
            except BufferError:
                producer.poll(0.1)
        sent += 1
        if sent % 1000 == 0:
            producer.poll(0)
    producer.flush(60)
    if acknowledged.errors or acknowledged.count != sent:
        first = f": {acknowledged.errors[0]}" if acknowledged.errors else ""
        raise DemoFailed(f"{topic}: {acknowledged.count} of {sent} records acknowledged{first}")
    progress(acknowledged.count)
    return acknowledged.count


def flight_records(rows: int | None, flown: dict[int, Counter[str]]) -> Iterable[tuple[None, bytes]]:
    """The first `rows` flights as records; `flown` is filled with the flights of each tail number by month."""
    for number, flight in enumerate(flights()):
        if number == rows:
            return
        flown.setdefault(int(str(flight["month"])), Counter())[str(flight["tailnum"])] += 1
        yield None, encode(flight)


def receive(bootstrap: str, topic: str, expected: int, progress: Progress) -> int:
    """Read a topic from its start until `expected` records or until nothing comes; returns how many came, each offset once."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "neve-demo", "enable.auto.commit": False, **QUIET})
    partitions = sorted(consumer.list_topics(topic, 30).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    expected_next = dict.fromkeys(partitions, 0)
    count = 0
    quiet_s = 0.0
    while count < expected and quiet_s < CONSUME_TIMEOUT_S:
        messages = consumer.consume(5000, 0.5)
        quiet_s = 0.0 if messages else quiet_s + 0.5
        for message in messages:
            if message.error() is not None:
                continue
            if message.offset() != expected_next[message.partition()]:
                raise DemoFailed(
                    f"{topic}-{message.partition()}: offset {message.offset()} came where {expected_next[message.partition()]} was due"
                )
            expected_next[message.partition()] += 1
            count += 1
        progress(count)
    consumer.close()
    return count
