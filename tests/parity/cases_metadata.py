"""Cases of Metadata: what is asked for, in every version, and what creates topics."""

from __future__ import annotations

from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import UNKNOWN_ID, Answer, Broker, Observations
from tests.parity.cases import case

VERSIONS = range(14)
BAD_NAMES = ("", ".", "..", "a/b", "a b", "ä", "a" * 250, "a\n", "a:b")


def _topics(answer: Answer) -> Answer:
    """The topics of an answer, by name."""
    return sorted(answer["topics"], key=lambda topic: str(topic["name"]))


@case
def metadata_by_name(broker: Broker) -> Observations:
    broker.create("named", 3)
    broker.create("named-too")
    for version in VERSIONS:
        # Before version 4 every request for an unknown topic creates it.
        wanted = ("named", "absent", "named-too", "named") if version >= 4 else ("named", "named-too", "named")
        names = [{"name": name} for name in wanted]
        answer = broker.call(ApiKey.METADATA, version, {"topics": names, "allow_auto_topic_creation": False})
        yield f"v{version}", answer | {"topics": _topics(answer)}


@case
def metadata_of_all_and_of_none(broker: Broker) -> Observations:
    broker.create("one-of-all")
    for version in VERSIONS:
        none = broker.call(ApiKey.METADATA, version, {"topics": ()})
        if version:
            yield f"v{version} none", none
        every = broker.call(ApiKey.METADATA, version, {"topics": None if version else ()})
        mine = [topic for topic in every["topics"] if topic["name"] == "one-of-all"]
        yield f"v{version} all", every | {"topics": mine}


@case
def metadata_operations(broker: Broker) -> Observations:
    broker.create("operated")
    for version in range(8, 14):
        for cluster in (False, True):
            for topic in (False, True):
                values: dict[str, Any] = {
                    "topics": [{"name": "operated"}, {"name": "not-operated"}],
                    "include_cluster_authorized_operations": cluster,
                    "include_topic_authorized_operations": topic,
                }
                answer = broker.call(ApiKey.METADATA, version, values | {"allow_auto_topic_creation": False})
                yield f"v{version} {cluster} {topic}", answer | {"topics": _topics(answer)}
    for unknown in ({"topic_id": UNKNOWN_ID}, {"name": "a b"}):
        values = {"topics": [unknown], "include_topic_authorized_operations": True}
        yield f"unknown {unknown}", broker.call(ApiKey.METADATA, 12, values)


@case
def metadata_by_id(broker: Broker) -> Observations:
    topic_id = broker.create("by-id")
    for version in (12, 13):
        for name, topics in (
            ("known", [{"topic_id": topic_id}]),
            ("unknown", [{"topic_id": UNKNOWN_ID}]),
            ("known and unknown", [{"topic_id": topic_id}, {"topic_id": UNKNOWN_ID}]),
            ("known, with its name", [{"topic_id": topic_id, "name": "by-id"}]),
            ("known, with another name", [{"topic_id": topic_id, "name": "other"}]),
            ("an id and a name", [{"topic_id": topic_id}, {"name": "absent"}]),
            ("neither", [{}]),
        ):
            answer = broker.call(ApiKey.METADATA, version, {"topics": topics})
            if isinstance(answer, dict):
                answer["topics"].sort(key=lambda topic: (str(topic["topic_id"]), str(topic["name"])))
            yield f"v{version} {name}", answer
    for version in (10, 11):
        yield f"v{version} by id", broker.call(ApiKey.METADATA, version, {"topics": [{"topic_id": topic_id}]})
        named = [{"topic_id": topic_id, "name": "by-id"}]
        yield f"v{version} by id and name", broker.call(ApiKey.METADATA, version, {"topics": named})


@case
def metadata_of_bad_names(broker: Broker) -> Observations:
    for version in (0, 4, 12):
        for name in BAD_NAMES:
            for create in (False, True):
                values = {"topics": [{"name": name}], "allow_auto_topic_creation": create}
                yield f"v{version} {name[:9]!r} {create}", broker.call(ApiKey.METADATA, version, values)


@case
def metadata_creates_topics(broker: Broker) -> Observations:
    for version in (0, 3, 4, 9, 12, 13):
        name = f"auto-{version}"
        values = {"topics": [{"name": name}], "allow_auto_topic_creation": version >= 4}
        first = broker.call(ApiKey.METADATA, version, values)
        broker.learn(name)
        yield f"v{version} the answer that creates", first
        yield f"v{version} what was created", broker.call(ApiKey.METADATA, 12, {"topics": [{"name": name}]})


def without_auto_creation(broker: Broker) -> Observations:
    """For brokers with auto.create.topics.enable=false and num.partitions=3."""
    values: dict[str, Any]
    for version in VERSIONS:
        for create in (False, True):
            values = {"topics": [{"name": f"never-{version}"}], "allow_auto_topic_creation": create}
            yield f"v{version} {create}", broker.call(ApiKey.METADATA, version, values)
    topic = {"name": "defaults", "num_partitions": -1, "replication_factor": -1}
    values = {"topics": [topic], "timeout": 10_000}
    created = broker.call(ApiKey.CREATE_TOPICS, 6, values)["topics"][0]
    yield "the default number of partitions", (created["error_code"], created["num_partitions"])
    broker.learn("defaults")
    asked = {"topics": [{"name": "defaults"}]}
    yield "described", len(broker.call(ApiKey.METADATA, 9, asked)["topics"][0]["partitions"])
