"""Cases of CreateTopics and DeleteTopics: names, counts, assignments, configs and what is answered about them."""

from __future__ import annotations

from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import UNKNOWN_ID, Answer, Broker, Observations
from tests.parity.cases import case

VERSIONS = range(2, 8)
LATEST = 7
BAD_NAMES = ("", ".", "..", "a/b", "a b", "ä", "a" * 250, "a\n", "a" * 249)
BAD_CONFIGS = (
    ("no.such.config", "1"),
    ("retention.ms", "soon"),
    ("retention.ms", "-2"),
    ("retention.ms", "9223372036854775808"),
    ("retention.ms", ""),
    ("cleanup.policy", "shred"),
    ("cleanup.policy", ""),
    ("cleanup.policy", "delete,compact"),
    ("cleanup.policy", "delete,delete"),
    ("compression.type", "rar"),
    ("compression.gzip.level", "0"),
    ("compression.gzip.level", "-1"),
    ("compression.gzip.level", "10"),
    ("compression.lz4.level", "18"),
    ("compression.zstd.level", "23"),
    ("max.message.bytes", "-1"),
    ("max.message.bytes", "1.5"),
    ("max.message.bytes", "2147483648"),
    ("message.timestamp.type", "Never"),
    ("message.timestamp.after.max.ms", "-1"),
    ("min.cleanable.dirty.ratio", "1.5"),
    ("min.cleanable.dirty.ratio", "half"),
    ("min.insync.replicas", "0"),
    ("preallocate", "maybe"),
    ("preallocate", "TRUE"),
    ("segment.bytes", "13"),
    ("segment.bytes", "1048575"),
    ("flush.messages", "0"),
    ("leader.replication.throttled.replicas", "1:2,x"),
    ("leader.replication.throttled.replicas", "*"),
    ("follower.replication.throttled.replicas", "0:1,1:2"),
    ("unclean.leader.election.enable", "yes"),
    ("max.compaction.lag.ms", "0"),
    ("min.compaction.lag.ms", "-1"),
    ("local.retention.ms", "-3"),
    ("index.interval.bytes", "-1"),
    ("segment.ms", "0"),
)


def _create(broker: Broker, version: int, *topics: dict[str, Any], validate_only: bool = False) -> Answer:
    asked = [{"num_partitions": 1, "replication_factor": 1} | topic for topic in topics]
    values = {"topics": asked, "timeout": 10_000, "validate_only": validate_only}
    answer = broker.call(ApiKey.CREATE_TOPICS, version, values)
    for topic in answer["topics"]:
        if topic.get("topic_id") is not None:
            topic["topic_id"] = "an id"
        if topic.get("configs"):
            ours = [config for config in topic["configs"] if not config["name"].startswith("iceberg.")]
            topic["configs"] = sorted(ours, key=lambda config: str(config["name"]))
    answer["topics"].sort(key=lambda topic: str(topic["name"]))
    return answer


@case
def create_in_every_version(broker: Broker) -> Observations:
    for version in VERSIONS:
        name = f"created-{version}"
        yield f"v{version} checked", _create(broker, version, {"name": name}, validate_only=True)
        yield f"v{version}", _create(broker, version, {"name": name, "num_partitions": 3})
        broker.learn(name)
        yield f"v{version} again", _create(broker, version, {"name": name})
        yield f"v{version} again, checked", _create(broker, version, {"name": name}, validate_only=True)
        yield f"v{version} described", broker.call(ApiKey.METADATA, 12, {"topics": [{"name": name}]})
        yield f"v{version} nothing", _create(broker, version)


@case
def create_with_counts(broker: Broker) -> Observations:
    for version in (2, 4, 7):
        for partitions in (-1, 0, -2, 2, 1 << 30):
            topic = {"name": f"counted-{version}-{partitions}", "num_partitions": partitions}
            yield f"v{version} {partitions} partitions", _create(broker, version, topic)
        for factor in (-1, 0, -2, 1, 3):
            topic = {"name": f"copied-{version}-{factor}", "replication_factor": factor}
            yield f"v{version} factor {factor}", _create(broker, version, topic)
        defaults = {"name": f"defaults-{version}", "num_partitions": -1, "replication_factor": -1}
        yield f"v{version} defaults", _create(broker, version, defaults)


@case
def create_with_assignments(broker: Broker) -> Observations:
    node = broker.node
    for name, partitions, factor, assigned in (
        ("two", -1, -1, {0: [node], 1: [node]}),
        ("not-from-zero", -1, -1, {1: [node], 2: [node]}),
        ("a-gap", -1, -1, {0: [node], 2: [node]}),
        ("no-brokers", -1, -1, {0: []}),
        ("with-partitions", 1, -1, {0: [node]}),
        ("with-factor", -1, 1, {0: [node]}),
        ("with-both", 1, 1, {0: [node]}),
        ("another-broker", -1, -1, {0: [node + 1000]}),
        ("a-broker-twice", -1, -1, {0: [node, node]}),
    ):
        rows = [{"partition_index": index, "broker_ids": brokers} for index, brokers in assigned.items()]
        topic = {"name": name, "num_partitions": partitions, "replication_factor": factor, "assignments": rows}
        for version in (2, 7):
            yield f"{name} v{version}", _create(broker, version, topic | {"name": f"{name}-{version}"})
    twice = [{"partition_index": 0, "broker_ids": [node]}] * 2
    topic = {"name": "twice-assigned", "num_partitions": -1, "replication_factor": -1, "assignments": twice}
    yield "a partition twice", _create(broker, LATEST, topic)


@case
def create_with_names(broker: Broker) -> Observations:
    for version in (2, 7):
        for at, name in enumerate(BAD_NAMES):
            yield f"v{version} name {at}", _create(broker, version, {"name": name}, validate_only=True)
    yield "twice in a request", _create(broker, LATEST, {"name": "two-in-one"}, {"name": "two-in-one"}, {"name": "x"})
    yield "one good, one bad", _create(broker, LATEST, {"name": "good-one"}, {"name": "bad one"})
    broker.create("like.this")
    yield "a name alike, checked", _create(broker, LATEST, {"name": "like_this"}, validate_only=True)
    yield "a name alike", _create(broker, LATEST, {"name": "like_this"})
    yield "internal", _create(broker, LATEST, {"name": "__transaction_state"}, validate_only=True)


@case
def create_with_configs(broker: Broker) -> Observations:
    configs: list[dict[str, Any]]
    for name, value in BAD_CONFIGS:
        configs = [{"name": name, "value": value}]
        yield f"{name}={value}", _create(broker, LATEST, {"name": "set", "configs": configs}, validate_only=True)
    for name, configs in (
        ("null", [{"name": "retention.ms", "value": None}]),
        ("twice", [{"name": "retention.ms", "value": "1000"}, {"name": "retention.ms", "value": "2000"}]),
        ("lags", [{"name": "min.compaction.lag.ms", "value": "9"}, {"name": "max.compaction.lag.ms", "value": "5"}]),
        ("several", [{"name": "retention.ms", "value": "soon"}, {"name": "x", "value": "1"}]),
        ("spaces", [{"name": "retention.ms", "value": " 1000 "}]),
        ("good", [{"name": "retention.ms", "value": "1000"}, {"name": "cleanup.policy", "value": "compact"}]),
    ):
        for version in (4, 5, 7):
            topic = {"name": f"set-{name}-{version}", "configs": configs}
            yield f"{name} v{version}", _create(broker, version, topic)


def _delete(broker: Broker, version: int, *names: str) -> Answer:
    topics = [{"name": name} for name in names]
    values = {"topic_names": names, "topics": topics, "timeout": 10_000}
    return _sorted(broker.call(ApiKey.DELETE_TOPICS, version, values))


def _sorted(answer: Answer) -> Answer:
    answer["responses"].sort(key=lambda row: (str(row["name"]), str(row.get("topic_id"))))
    return answer


@case
def delete_by_name(broker: Broker) -> Observations:
    for version in range(1, 7):
        for index in range(2):
            broker.create(f"deleted-{version}-{index}")
        names = [f"deleted-{version}-{index}" for index in range(2)]
        yield f"v{version}", _delete(broker, version, *names, "never-there")
        for name in names:
            broker.forget(name)
        yield f"v{version} again", _delete(broker, version, names[0])
        yield f"v{version} nothing", _delete(broker, version)
        broker.create(f"deleted-twice-{version}")
        yield f"v{version} twice", _delete(broker, version, f"deleted-twice-{version}", f"deleted-twice-{version}")
        yield f"v{version} bad names", _delete(broker, version, "", "a b")


@case
def delete_by_id(broker: Broker) -> Observations:
    topic_id = broker.create("deleted-by-id")
    other = broker.create("deleted-later")
    values: dict[str, Any]
    for name, topics in (
        ("unknown", [{"topic_id": UNKNOWN_ID}]),
        ("both", [{"name": "deleted-by-id", "topic_id": topic_id}]),
        ("neither", [{}]),
        ("twice", [{"topic_id": topic_id}, {"topic_id": topic_id}]),
        ("by name and by id", [{"topic_id": other}, {"name": "deleted-later"}]),
        ("known", [{"topic_id": topic_id}]),
    ):
        values = {"topics": topics, "timeout": 10_000}
        yield name, _sorted(broker.call(ApiKey.DELETE_TOPICS, 6, values))
    broker.forget("deleted-by-id")
    values = {"topics": [{"topic_id": topic_id}], "timeout": 10_000}
    yield "again", _sorted(broker.call(ApiKey.DELETE_TOPICS, 6, values))


@case
def a_topic_again_under_its_name(broker: Broker) -> Observations:
    first = broker.create("phoenix")
    _delete(broker, 6, "phoenix")
    broker.forget("phoenix")
    second = broker.create("phoenix", 2)
    yield "another id", first != second
    yield "the old id", broker.call(ApiKey.METADATA, 12, {"topics": [{"topic_id": first}]})["topics"][0]["error_code"]
