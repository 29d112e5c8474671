"""Cases of DeleteRecords, and of what Produce, Fetch and ListOffsets say when the log no longer begins at 0."""

from __future__ import annotations

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.records import NewRecord, build_batch
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.requests import OLD_MS, batch, fetch_values, produce

VERSIONS = range(3)
LATEST = 2


def _delete(broker: Broker, version: int, *wanted: tuple[str, int, int]) -> Answer:
    """(topic, partition, offset) each."""
    topics = [{"name": name, "partitions": [{"partition_index": at, "offset": offset}]} for name, at, offset in wanted]
    answer = broker.call(ApiKey.DELETE_RECORDS, version, {"topics": topics, "timeout": 10_000})
    for topic in answer["topics"]:
        topic["partitions"].sort(key=lambda part: int(part["partition_index"]))
    answer["topics"].sort(key=lambda topic: str(topic["name"]))
    return answer


def _list(broker: Broker, topic: str, timestamp: int, version: int = 8) -> Answer:
    parts = [{"partition_index": 0, "timestamp": timestamp, "current_leader_epoch": -1}]
    values = {"replica_id": -1, "isolation_level": 0, "topics": [{"name": topic, "partitions": parts}], "timeout": 5000}
    return broker.call(ApiKey.LIST_OFFSETS, version, values)


@case
def delete_records_in_every_version(broker: Broker) -> Observations:
    for version in VERSIONS:
        name = f"shortened-{version}"
        broker.create(name, 2)
        for _ in range(3):
            produce(broker, name, batch(10), batch(5))
        yield f"v{version} nothing", _delete(broker, version)
        for offset in (0, 7, 3, 10, 30, 31, -2, -3, 1 << 62):
            yield f"v{version} up to {offset}", _delete(broker, version, (name, 0, offset))
        yield f"v{version} all", _delete(broker, version, (name, 1, -1))
        yield f"v{version} all again", _delete(broker, version, (name, 1, -1))
        yield f"v{version} two", _delete(broker, version, (name, 0, 30), (name, 1, 4))
        yield f"v{version} twice", _delete(broker, version, (name, 0, 11), (name, 0, 12))


@case
def delete_records_of_what_is_not_there(broker: Broker) -> Observations:
    broker.create("short", 2)
    produce(broker, "short", batch(4))
    yield "topic", _delete(broker, LATEST, ("no-such-topic", 0, 0))
    yield "partitions", _delete(broker, LATEST, ("short", 0, 1), ("short", 2, 0), ("short", -1, 0), ("short", 1, -1))
    yield "beside a good one", _delete(broker, LATEST, ("no-such-topic", 0, 0), ("short", 0, 2))
    yield "name", _delete(broker, LATEST, ("a/b", 0, 0), ("", 0, 0))


@case
def delete_records_by_policy(broker: Broker) -> Observations:
    for at, policy in enumerate(("compact", "delete", "compact,delete", "delete,compact", "")):
        name = f"policy-{at}"
        broker.create(name, cleanup__policy=policy)
        produce(broker, name, batch(4))
        for offset in (0, 2, -1, 99, -2):
            yield f"{policy!r} up to {offset}", _delete(broker, LATEST, (name, 0, offset))
        yield f"{policy!r} earliest", _list(broker, name, -2)


@case
def fetch_behind_a_deletion(broker: Broker) -> Observations:
    broker.create("deleted-from")
    for _ in range(3):
        produce(broker, "deleted-from", batch(10))
    for start in (5, 10, 23, 30):
        yield f"up to {start}", _delete(broker, LATEST, ("deleted-from", 0, start))
        for offset in dict.fromkeys((0, start - 1, start, start + 1, 29, 30, 31)):
            for version in (4, 5, 11, 12, 17):
                values = fetch_values(broker, ("deleted-from", 0, offset))
                yield f"from {start}, v{version} at {offset}", broker.call(ApiKey.FETCH, version, values)


@case
def produce_behind_a_deletion(broker: Broker) -> Observations:
    broker.create("written-behind")
    produce(broker, "written-behind", batch(10))
    _delete(broker, LATEST, ("written-behind", 0, 4))
    for version in (5, 8, 9):
        yield f"v{version}", produce(broker, "written-behind", batch(2), version=version)
    _delete(broker, LATEST, ("written-behind", 0, -1))
    yield "behind everything", produce(broker, "written-behind", batch(2))


@case
def list_offsets_behind_a_deletion(broker: Broker) -> Observations:
    broker.create("listed-behind")
    for first in (0, 10, 20):
        records = [NewRecord(OLD_MS + first + at, b"k", b"v") for at in range(10)]
        produce(broker, "listed-behind", build_batch(records, codec=first // 10))
    broker.create("stamped-behind", message__timestamp__type="LogAppendTime")
    produce(broker, "stamped-behind", batch(10))
    _delete(broker, LATEST, ("stamped-behind", 0, 4))
    for start in (0, 5, 10, 25, 30):
        yield f"up to {start}", _delete(broker, LATEST, ("listed-behind", 0, start))
        for timestamp in (
            -1,
            -2,
            -4,
            0,
            OLD_MS,
            OLD_MS + 4,
            OLD_MS + 5,
            OLD_MS + 15,
            OLD_MS + 26,
            OLD_MS + 29,
            OLD_MS + 30,
        ):
            yield f"from {start}: {timestamp}", _list(broker, "listed-behind", timestamp)
        yield f"from {start}: the largest", _list(broker, "listed-behind", -3)
    for timestamp in (-1, -2, 0, -3):
        yield f"stamped: {timestamp}", _list(broker, "stamped-behind", timestamp)
