"""Cases of CreatePartitions, DescribeTopicPartitions, OffsetForLeaderEpoch and ListConfigResources."""

from __future__ import annotations

import time
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import READY_S, UNKNOWN_ID, Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.requests import batch, fetch_values, produce

LATEST = 3


def _grow(broker: Broker, version: int, *topics: dict[str, Any], validate_only: bool = False) -> Answer:
    values = {"topics": topics, "timeout": 10_000, "validate_only": validate_only}
    answer = broker.call(ApiKey.CREATE_PARTITIONS, version, values)
    answer["results"].sort(key=lambda row: str(row["name"]))
    return answer


def _partitions(broker: Broker, name: str) -> Answer:
    topic = broker.call(ApiKey.METADATA, 12, {"topics": [{"name": name}]})["topics"][0]
    topic["partitions"].sort(key=lambda part: int(part["partition_index"]))
    return topic


def _until_grown(broker: Broker, name: str, count: int) -> None:
    """Kafka answers before its brokers know."""
    deadline = time.monotonic() + READY_S
    asked = [{"partition_index": index, "timestamp": -1} for index in range(count)]
    ends = {"replica_id": -1, "topics": [{"name": name, "partitions": asked}]}
    while any(
        part["error_code"] for part in broker.call(ApiKey.LIST_OFFSETS, 5, ends)["topics"][0]["partitions"]
    ) or any(part["error_code"] for part in _partitions(broker, name)["partitions"]):
        assert time.monotonic() < deadline, f"{broker.name}: {name} doesn't grow"
        time.sleep(0.01)


@case
def create_partitions_in_every_version(broker: Broker) -> Observations:
    for version in range(4):
        name = f"grown-{version}"
        broker.create(name, 2)
        yield f"v{version} checked", _grow(broker, version, {"name": name, "count": 4}, validate_only=True)
        yield f"v{version} not yet", _partitions(broker, name)
        yield f"v{version}", _grow(broker, version, {"name": name, "count": 4})
        _until_grown(broker, name, 4)
        yield f"v{version} described", _partitions(broker, name)
        for count in (4, 3, 1, 0, -1):
            yield f"v{version} to {count}", _grow(broker, version, {"name": name, "count": count})
            yield (
                f"v{version} to {count}, checked",
                _grow(broker, version, {"name": name, "count": count}, validate_only=True),
            )
        yield f"v{version} unknown", _grow(broker, version, {"name": "never-grown", "count": 3})
        yield f"v{version} bad name", _grow(broker, version, {"name": "a b", "count": 3}, {"name": "", "count": 3})
        yield f"v{version} nothing", _grow(broker, version)
        twice = [{"name": name, "count": 6}] * 2
        yield f"v{version} twice", _grow(broker, version, *twice)
        yield f"v{version} then", len(_partitions(broker, name)["partitions"])


@case
def create_partitions_with_assignments(broker: Broker) -> Observations:
    node = broker.node
    broker.create("grown-by-hand", 2)
    for label, count, rows in (
        ("too few", 5, [[node]]),
        ("too many", 3, [[node], [node]]),
        ("no brokers", 3, [[]]),
        ("a broker twice", 3, [[node, node]]),
        ("another broker", 3, [[node + 1000]]),
        ("none given", 3, []),
        ("two copies", 3, [[node, node + 1]]),
        ("smaller", 1, [[node]]),
        ("right", 4, [[node], [node]]),
    ):
        topic = {"name": "grown-by-hand", "count": count, "assignments": [{"broker_ids": ids} for ids in rows]}
        yield label, _grow(broker, LATEST, topic, validate_only=label != "right")
    _until_grown(broker, "grown-by-hand", 4)
    yield "described", _partitions(broker, "grown-by-hand")


@case
def create_partitions_and_use_them(broker: Broker) -> Observations:
    broker.create("grown-and-used")
    produce(broker, "grown-and-used", batch(2))
    _grow(broker, LATEST, {"name": "grown-and-used", "count": 3})
    _until_grown(broker, "grown-and-used", 3)
    yield "produced", produce(broker, "grown-and-used", batch(1), batch(2), batch(3))
    parts = [("grown-and-used", index, 0) for index in range(4)]
    yield "fetched", broker.call(ApiKey.FETCH, 12, fetch_values(broker, *parts))


def _described(broker: Broker, *names: str, limit: int = 2000, cursor: dict[str, Any] | None = None) -> Answer:
    values = {"topics": [{"name": name} for name in names], "response_partition_limit": limit, "cursor": cursor}
    return broker.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, values)


@case
def describe_topic_partitions(broker: Broker) -> Observations:
    names = ["paged-a", "paged-b", "paged-c"]
    for name, count in zip(names, (3, 1, 4), strict=True):
        broker.create(name, count)
    yield "one", _described(broker, "paged-a")
    yield "some", _described(broker, "paged-c", "paged-a", "paged-b")
    yield "twice", _described(broker, "paged-a", "paged-a")
    yield "unknown", _described(broker, "paged-a", "paged-none", "paged-z")
    yield "bad names", _described(broker, "a b", "..", "a" * 250)
    yield "empty name", _described(broker, "")
    for limit in (1, 2, 3, 4, 5, 7, 8, 9, 2001, 0, -1):
        yield f"limit {limit}", _described(broker, *names, limit=limit)
    for topic, index in (
        ("paged-a", 0), ("paged-a", 1), ("paged-a", 2), ("paged-a", 3), ("paged-a", 9), ("paged-b", 0), ("paged-c", 2),
        ("paged-d", 0), ("paged-aa", 0), ("paged-aa", 2), ("", 0), ("paged-a", -1),
    ):  # fmt: skip
        cursor = {"topic_name": topic, "partition_index": index}
        yield f"from {topic} {index}", _described(broker, *names, cursor=cursor)
        yield f"from {topic} {index}, two", _described(broker, *names, cursor=cursor, limit=2)
    everything: list[str] = []
    after: dict[str, Any] | None = None
    for _ in range(1000):
        page = _described(broker, limit=3, cursor=after)
        everything += [f"{topic['name']}-{part['partition_index']}" for topic in page["topics"] for part in topic["partitions"]]  # fmt: skip
        after = page["next_cursor"]
        if after is None:
            break
    yield "every page", [name for name in everything if name.startswith("paged-")]


@case
def describe_topic_partitions_with_an_unknown_topic_behind_the_limit(broker: Broker) -> Observations:
    broker.create("page-end", 3)
    for limit in (2, 3, 4):
        yield f"limit {limit}", _described(broker, "page-end", "page-none", limit=limit)


def _epochs(broker: Broker, version: int, *asked: tuple[str, int, int, int]) -> Answer:
    topics = [
        {"topic": topic, "partitions": [{"partition": part, "current_leader_epoch": current, "leader_epoch": epoch}]}
        for topic, part, current, epoch in asked
    ]
    answer = broker.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, {"replica_id": -1, "topics": topics})
    answer["topics"].sort(key=lambda row: str(row["topic"]))
    return answer


@case
def offset_for_leader_epoch(broker: Broker) -> Observations:
    broker.create("leader-epochs", 2)
    produce(broker, "leader-epochs", batch(3))
    for version in (2, 3, 4):
        for epoch in (0, 1, 7, -1, -2, 2**31 - 1):
            yield f"v{version} epoch {epoch}", _epochs(broker, version, ("leader-epochs", 0, -1, epoch))
            yield f"v{version} epoch {epoch}, empty", _epochs(broker, version, ("leader-epochs", 1, -1, epoch))
        for current in (0, 1, -2, 2**31 - 1):
            yield f"v{version} current {current}", _epochs(broker, version, ("leader-epochs", 0, current, 0))
        yield f"v{version} unknown", _epochs(broker, version, ("never-there", 0, -1, 0), ("leader-epochs", 5, -1, 0))
        yield f"v{version} nothing", _epochs(broker, version)


def _resources(broker: Broker, version: int, *types: int) -> Answer:
    answer = broker.call(ApiKey.LIST_CONFIG_RESOURCES, version, {"resource_types": types})
    for row in answer["config_resources"]:
        if row["resource_name"] == str(broker.node):
            row["resource_name"] = "the node"
    # the brokers are shared by all cases
    kept = [r for r in answer["config_resources"] if r["resource_name"].startswith(("listed", "the node")) or not r["resource_name"]]  # fmt: skip
    answer["config_resources"] = sorted(kept, key=lambda row: (row.get("resource_type", 16), row["resource_name"]))
    return answer


def _set(broker: Broker, kind: int, name: str, key: str, value: str | None) -> Answer:
    operation = {"name": key, "config_operation": 1 if value is None else 0, "value": value}
    resource = {"resource_type": kind, "resource_name": name, "configs": [operation]}
    return broker.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, {"resources": [resource], "validate_only": False})


@case
def list_config_resources(broker: Broker) -> Observations:
    broker.create("listed-topic")
    yield "metrics", _set(broker, 16, "listed-metrics", "interval.ms", "1000")
    yield "group", _set(broker, 32, "listed-group", "consumer.session.timeout.ms", "50000")
    time.sleep(0.3)  # Kafka's brokers hear of it later
    yield "v0", _resources(broker, 0)
    for types in ((), (2,), (4,), (8,), (16,), (32,), (2, 32), (2, 2), (99,), (0,), (3,), (16, 99)):
        yield f"v1 {types}", _resources(broker, 1, *types)
    yield "metrics gone", _set(broker, 16, "listed-metrics", "interval.ms", None)
    yield "group gone", _set(broker, 32, "listed-group", "consumer.session.timeout.ms", None)
    time.sleep(0.3)
    yield "v1 at the end", _resources(broker, 1, 16, 32)


@case
def a_recreated_topic_and_its_old_id(broker: Broker) -> Observations:
    first = broker.create("again")
    produce(broker, "again", batch(3))
    broker.call(ApiKey.DELETE_TOPICS, 6, {"topics": [{"name": "again"}], "timeout": 10_000})
    broker.forget("again")
    second = broker.create("again")
    old = fetch_values(broker, ("again", 0, 0))
    old["topics"][0]["topic_id"] = first
    yield "fetched by the old id", broker.call(ApiKey.FETCH, 13, old)
    new = fetch_values(broker, ("again", 0, 0))
    new["topics"][0]["topic_id"] = second
    yield "fetched by the new id", broker.call(ApiKey.FETCH, 13, new)
    for topic_id in (first, second, UNKNOWN_ID):
        part = {"index": 0, "records": batch(1)}
        data = [{"topic_id": topic_id, "partition_data": [part]}]
        values = {"transactional_id": None, "acks": -1, "timeout": 10_000, "topic_data": data}
        answer = broker.call(ApiKey.PRODUCE, 13, values)["responses"][0]["partition_responses"][0]
        name = "old" if topic_id == first else "new" if topic_id == second else "unknown"
        yield f"produced to the {name} id", [answer["error_code"], answer["base_offset"]]
    values = {"topics": [{"topic_id": first}], "timeout": 10_000}
    yield (
        "deleted by the old id",
        [row["error_code"] for row in broker.call(ApiKey.DELETE_TOPICS, 6, values)["responses"]],
    )
