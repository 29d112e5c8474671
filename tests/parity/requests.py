"""Values of the requests that many cases send, with what clients usually put into them, and record batches to send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.records import NewRecord, build_batch
from tests.parity.broker import Answer, Broker

OLD_MS = 1_700_000_000_000
"""A record's timestamp where nothing depends on it."""
MAX_BYTES = 1 << 20


def batch(
    count: int = 1, *, at_ms: int = OLD_MS, value: bytes = b"value", key: bytes | None = b"key", **more: Any
) -> bytes:
    """A good batch of records a millisecond apart."""
    return build_batch([NewRecord(at_ms + n, key, value) for n in range(count)], **more)


def sequenced(sequence: int, count: int = 1, *, producer: int = 1, epoch: int = 0) -> bytes:
    """A good batch of an idempotent producer."""
    return batch(count, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)


def produce(
    broker: Broker,
    topic: str,
    *records: bytes | None,
    version: int = 9,
    acks: int = -1,
    partitions: Sequence[int] | None = None,
    transactional_id: str | None = None,
) -> Answer:
    """Send one batch to each of the partitions (0, 1, ... where they aren't named)."""
    values = produce_values(
        broker, topic, *records, acks=acks, partitions=partitions, transactional_id=transactional_id
    )
    return in_order(broker.call(ApiKey.PRODUCE, version, values))


def produce_values(
    broker: Broker,
    topic: str,
    *records: bytes | None,
    acks: int = -1,
    partitions: Sequence[int] | None = None,
    transactional_id: str | None = None,
) -> dict[str, Any]:
    """A Produce request's values."""
    indexes = range(len(records)) if partitions is None else partitions
    parts = [{"index": index, "records": data} for index, data in zip(indexes, records, strict=True)]
    data = {"name": topic, "topic_id": broker.id_of(topic), "partition_data": parts}
    return {"transactional_id": transactional_id, "acks": acks, "timeout": 10_000, "topic_data": [data]}


def in_order(answer: Answer) -> Answer:
    """A Produce answer with its rows sorted: Kafka's come in the order of a hash table."""
    if isinstance(answer, dict):
        for topic in answer["responses"]:
            topic["partition_responses"].sort(key=lambda part: int(part["index"]))
        answer["responses"].sort(key=lambda topic: str(topic.get("name", topic.get("topic_id"))))
    return answer


def answered(answer: Answer) -> Answer:
    """The answer for the only partition of a Produce request."""
    return answer["responses"][0]["partition_responses"][0]


def fetch_values(
    broker: Broker,
    *asked: tuple[str, int, int] | tuple[str, int, int, int],
    max_wait: int = 0,
    min_bytes: int = 1,
    max_bytes: int = MAX_BYTES,
    **more: Any,
) -> dict[str, Any]:
    """A Fetch request's values for (topic, partition, offset[, max bytes]) each; neighbours of one topic stand together."""
    topics: list[dict[str, Any]] = []
    for topic, partition, offset, *limit in asked:
        part = {
            "partition": partition,
            "current_leader_epoch": more.get("current_leader_epoch", -1),
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": limit[0] if limit else MAX_BYTES,
        }
        if not topics or topics[-1]["topic"] != topic:
            topics.append({"topic": topic, "topic_id": broker.id_of(topic), "partitions": []})
        topics[-1]["partitions"].append(part)
    usual = {"replica_id": -1, "session_id": 0, "session_epoch": -1}
    return usual | {
        "max_wait": max_wait, "min_bytes": min_bytes, "max_bytes": max_bytes, "topics": topics, **more,
    }  # fmt: skip
