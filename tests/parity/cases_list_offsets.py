"""Cases of ListOffsets: positions, timestamps and what is refused."""

from __future__ import annotations

import time
from collections.abc import Sequence

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.records import NewRecord, build_batch
from tests.parity.broker import Answer, Broker, Observations, now_ms
from tests.parity.cases import case
from tests.parity.requests import OLD_MS, batch, produce

VERSIONS = range(1, 12)
SPREAD = (1, 2, 4, 6, 7, 8, 9, 10, 11)


def _ask(
    broker: Broker, version: int, topic: str, *asked: tuple[int, int], epoch: int = -1, isolation: int = 0
) -> Answer:
    """(partition, timestamp) each."""
    parts = [
        {"partition_index": index, "timestamp": timestamp, "current_leader_epoch": epoch} for index, timestamp in asked
    ]
    topics = [{"name": topic, "partitions": parts}]
    values = {"replica_id": -1, "isolation_level": isolation, "topics": topics, "timeout": 5000}
    answer = broker.call(ApiKey.LIST_OFFSETS, version, values)
    for row in answer["topics"]:
        row["partitions"].sort(key=lambda part: int(part["partition_index"]))
    answer["topics"].sort(key=lambda row: str(row["name"]))
    return answer


def _at(times: Sequence[int], codec: int = 0) -> bytes:
    return build_batch([NewRecord(OLD_MS + at, b"key", b"value") for at in times], codec=codec)


@case
def list_offsets_by_position(broker: Broker) -> Observations:
    broker.create("positions", 2)
    produce(broker, "positions", batch(4))
    for version in VERSIONS:
        for timestamp in range(0, -9, -1):
            yield f"v{version} {timestamp}", _ask(broker, version, "positions", (0, timestamp), (1, timestamp))
        yield f"v{version} read committed", _ask(broker, version, "positions", (0, -1), isolation=1)
        yield f"v{version} nothing", _ask(broker, version, "positions")


@case
def list_offsets_by_time(broker: Broker) -> Observations:
    broker.create("by-time")
    produce(broker, "by-time", _at([0, 10, 20]))
    produce(broker, "by-time", _at([30, 5, 40], codec=1))
    produce(broker, "by-time", _at([40, 40, 35], codec=4))
    produce(broker, "by-time", _at([15, 16, 17], codec=2))
    produce(broker, "by-time", _at([100]))
    produce(broker, "by-time", _at([100, 90]))
    for version in SPREAD:
        for at in (-1000, 0, 1, 10, 11, 20, 21, 30, 31, 36, 40, 41, 99, 100, 101, 1 << 40):
            yield f"v{version} {at}", _ask(broker, version, "by-time", (0, OLD_MS + at))
        if version >= 7:
            yield f"v{version} the largest", _ask(broker, version, "by-time", (0, -3))


@case
def list_offsets_of_stamped_topics(broker: Broker) -> Observations:
    broker.create("stamped-times", message__timestamp__type="LogAppendTime")
    before = now_ms()
    produce(broker, "stamped-times", batch(3))
    time.sleep(0.01)  # or both batches may have the same time
    produce(broker, "stamped-times", batch(3, codec=1))
    for version in SPREAD:
        for name, at in (("old", OLD_MS), ("before", before - 1000), ("far ahead", before + 100_000_000)):
            yield f"v{version} {name}", _ask(broker, version, "stamped-times", (0, at))
        if version >= 7:
            yield f"v{version} the largest", _ask(broker, version, "stamped-times", (0, -3))


@case
def list_offsets_of_empty_partitions(broker: Broker) -> Observations:
    broker.create("nothing-there")
    for version in SPREAD:
        for timestamp in (-1, -2, 0, OLD_MS):
            yield f"v{version} {timestamp}", _ask(broker, version, "nothing-there", (0, timestamp))
        if version >= 7:
            yield f"v{version} the largest", _ask(broker, version, "nothing-there", (0, -3))


@case
def list_offsets_of_what_is_not_there(broker: Broker) -> Observations:
    broker.create("listed", 2)
    produce(broker, "listed", batch(2))
    for version in SPREAD:
        yield f"v{version} topic", _ask(broker, version, "not-listed", (0, -1))
        yield f"v{version} partitions", _ask(broker, version, "listed", (0, -1), (2, -1), (-1, -1))
        yield f"v{version} twice", _ask(broker, version, "listed", (0, -1), (0, -1), (1, -2))
        yield f"v{version} twice, otherwise", _ask(broker, version, "listed", (0, -1), (0, -2))
        for epoch in (0, 1, 100):
            yield f"v{version} epoch {epoch}", _ask(broker, version, "listed", (0, -1), epoch=epoch)
            yield f"v{version} epoch {epoch}, by time", _ask(broker, version, "listed", (0, OLD_MS), epoch=epoch)


@case
def list_offsets_of_records_without_time(broker: Broker) -> Observations:
    broker.create("timeless")
    produce(broker, "timeless", build_batch([NewRecord(-1, b"k", b"v")] * 2))
    for version in SPREAD:
        yield f"v{version} from zero", _ask(broker, version, "timeless", (0, 0))
        if version >= 7:
            yield f"v{version} the largest", _ask(broker, version, "timeless", (0, -3))
