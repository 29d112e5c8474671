"""Cases of the APIs that keep tools going where the architecture has nothing to tell: replicas, elections, log directories,
security that isn't there."""

from __future__ import annotations

from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.requests import produce, sequenced
from tests.parity.wire import Nothing

UNKNOWN, SOME = 0, 1


@case
def log_dirs(broker: Broker) -> Observations:
    broker.create("held", 2)
    produce(broker, "held", sequenced(0, 3))
    mine = [{"topic": "held", "partitions": [0, 1, 9]}, {"topic": "not-there", "partitions": [0]}]
    for version in range(1, 6):
        for name, asked in (("all", None), ("some", mine), ("none", [])):
            answer = broker.call(ApiKey.DESCRIBE_LOG_DIRS, version, {"topics": asked})
            yield f"v{version} {name}", _known(answer)
    place = broker.last["results"][0]["log_dir"]
    topics = [{"name": "held", "partitions": [0, 9]}, {"name": "not-there", "partitions": [0]}]
    for version in (1, 2):
        for name, path in (("here", place), ("elsewhere", "/nowhere"), ("relative", "x")):
            dirs = [{"path": path, "topics": topics}]
            answer = broker.call(ApiKey.ALTER_REPLICA_LOG_DIRS, version, {"dirs": dirs})
            answer["results"].sort(key=lambda result: str(result["topic_name"]))
            yield f"v{version} to {name}", answer
        yield f"v{version} nothing", broker.call(ApiKey.ALTER_REPLICA_LOG_DIRS, version, {"dirs": []})


def _known(answer: Answer) -> Answer:
    """Only this case's topic; the place has a name, empty partitions have no bytes."""
    for result in answer["results"]:
        result["log_dir"] = "the place" if result["log_dir"].startswith("/") else result["log_dir"]
        result["topics"] = [topic for topic in result["topics"] if topic["name"] == "held"]
        for topic in result["topics"]:
            topic["partitions"].sort(key=lambda part: int(part["partition_index"]))
            for part in topic["partitions"]:
                part["partition_size"] = "some" if part["partition_size"] > 0 else part["partition_size"]
    return answer


@case
def elections(broker: Broker) -> Observations:
    broker.create("elected", 2)
    asked: dict[str, list[dict[str, Any]]] = {
        "some": [{"topic": "elected", "partitions": [0, 9, -1]}, {"topic": "not-there", "partitions": [0]}],
        "none": [],
        "twice": [{"topic": "elected", "partitions": [0, 0]}, {"topic": "elected", "partitions": [1]}],
        "no partitions": [{"topic": "elected", "partitions": []}],
    }
    for version in range(3):
        for kind in (0, 1, 5) if version else (0,):
            for name, topics in asked.items():
                values = {"election_type": kind, "topic_partitions": topics, "timeout": 1000}
                yield f"v{version} type {kind} {name}", broker.call(ApiKey.ELECT_LEADERS, version, values)
            everything = {"election_type": kind, "topic_partitions": None, "timeout": 1000}
            answer = broker.call(ApiKey.ELECT_LEADERS, version, everything)
            results = answer["replica_election_results"]
            answer["replica_election_results"] = [result for result in results if result["topic"] == "elected"]
            yield f"v{version} type {kind} all", answer


@case
def reassignments(broker: Broker) -> Observations:
    broker.create("assigned")
    listed: tuple[Any, ...] = (None, [], [{"name": "assigned", "partition_indexes": [0, 9]}])
    for number, topics in enumerate(listed):
        values = {"topics": topics, "timeout": 1000}
        yield f"list {number}", broker.call(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, values)
    node = broker.node
    for version in (0, 1):
        for number, replicas in enumerate((None, [node], [], [node, node], [77], [-1])):
            parts = [{"partition_index": index, "replicas": replicas} for index in (0, 9)]
            topics = [{"name": "assigned", "partitions": parts}, {"name": "not-there", "partitions": parts}]
            values = {"timeout": 1000, "allow_replication_factor_change": number % 2 == 0, "topics": topics}
            answer = broker.call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, values)
            yield f"v{version} {number}", _without(answer, f"the broker {node} ")
        values = {"timeout": 1000, "allow_replication_factor_change": True, "topics": []}
        yield f"v{version} nothing", broker.call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, version, values)


def _without(answer: Answer, said: str) -> Answer:
    for topic in answer["responses"]:
        for part in topic["partitions"]:
            part["error_message"] = part["error_message"] and part["error_message"].replace(said, "this node ")
    return answer


@case
def producers(broker: Broker) -> Observations:
    broker.create("produced-to", 2)
    produce(broker, "produced-to", sequenced(0, 3, producer=4007))
    produce(broker, "produced-to", sequenced(3, 2, producer=4007))
    topics = [
        {"name": "produced-to", "partition_indexes": [0, 1, 9, -1]},
        {"name": "not-there", "partition_indexes": [0]},
    ]
    yield "some", broker.call(ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": topics})
    yield "none", broker.call(ApiKey.DESCRIBE_PRODUCERS, 0, {"topics": []})


@case
def transactions(broker: Broker) -> Observations:
    """Ids can't be compared: Kafka says NOT_COORDINATOR as long as nobody had a transaction."""
    yield "no ids", broker.call(ApiKey.DESCRIBE_TRANSACTIONS, 0, {"transactional_ids": []})
    yield "an empty id", broker.call(ApiKey.DESCRIBE_TRANSACTIONS, 0, {"transactional_ids": [""]})
    states = ["Ongoing", "nope", "ongoing", "Dead", "Empty", "nope", "PrepareEpochFence"]
    for version in range(3):
        for filters in ([], states):
            values = {"state_filters": filters, "producer_id_filters": [1], "duration_filter": -1}
            answer = broker.call(ApiKey.LIST_TRANSACTIONS, version, values)
            answer["unknown_state_filters"].sort()
            yield f"v{version} {len(filters)}", answer
    for pattern in (None, "", "a.*", "("):
        values = {"state_filters": ["x"], "producer_id_filters": [], "transactional_id_pattern": pattern}
        yield f"pattern {pattern}", broker.call(ApiKey.LIST_TRANSACTIONS, 2, values)


@case
def scram(broker: Broker) -> Observations:
    for number, names in enumerate((None, [], ["a"], ["a", "a"], [""])):
        users = None if names is None else [{"name": name} for name in names]
        yield f"users {number}", broker.call(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, {"users": users})
    yield "nothing", broker.call(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, {"deletions": [], "upsertions": []})
    values = {"deletions": [{"name": "nobody", "mechanism": 1}], "upsertions": []}
    yield "delete", broker.call(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, values)


@case
def delegation_tokens(broker: Broker) -> Observations:
    """As bytes, behind the correlation id: kio can't read a moment of -1."""
    for version in (1, 2, 3):
        values: dict[str, Any] = {"renewers": [], "max_lifetime": 1000}
        yield f"create v{version}", _bytes(broker, ApiKey.CREATE_DELEGATION_TOKEN, version, values)
        yield f"describe v{version}", _bytes(broker, ApiKey.DESCRIBE_DELEGATION_TOKEN, version, {"owners": None})
    for version in (1, 2):
        values = {"hmac": b"x", "renew_period": 1}
        yield f"renew v{version}", _bytes(broker, ApiKey.RENEW_DELEGATION_TOKEN, version, values)
        values = {"hmac": b"x", "expiry_time_period": 1}
        yield f"expire v{version}", _bytes(broker, ApiKey.EXPIRE_DELEGATION_TOKEN, version, values)


def _bytes(broker: Broker, api: ApiKey, version: int, values: dict[str, Any]) -> Answer:
    with broker.connect() as wire:
        wire.send(broker.frame(api, version, values))
        answer = wire.receive()
        return answer if isinstance(answer, Nothing) else answer[4:].hex()


@case
def features(broker: Broker) -> Observations:
    for version in range(3):
        for number, (feature, level) in enumerate((("nope", 1), ("nope", 0), ("", 1))):
            updates = [{"feature": feature, "max_version_level": level, "allow_downgrade": True, "upgrade_type": 2}]
            values = {"timeout": 1000, "feature_updates": updates, "validate_only": True}
            answer = broker.call(ApiKey.UPDATE_FEATURES, version, values)
            answer["error_message"] = answer["error_message"].replace(f"controller {broker.node}", "controller")
            yield f"v{version} {number}", answer
        nothing = {"timeout": 1000, "feature_updates": [], "validate_only": True}
        yield f"v{version} nothing", broker.call(ApiKey.UPDATE_FEATURES, version, nothing)


@case
def quorum(broker: Broker) -> Observations:
    asked = (("__cluster_metadata", 0), ("__cluster_metadata", 1), ("not-there", 0))
    for version in range(3):
        for name, index in asked:
            topics = [{"topic_name": name, "partitions": [{"partition_index": index}]}]
            answer = broker.call(ApiKey.DESCRIBE_QUORUM, version, {"topics": topics})
            for part in answer["topics"][0]["partitions"]:
                end = part["high_watermark"]
                for field in ("high_watermark", "leader_epoch"):
                    part[field] = "a number" if not part["error_code"] else part[field]
                for replica in part["current_voters"]:
                    replica["replica_id"] = replica["replica_id"] == broker.node and "the node"
                    replica["log_end_offset"] = replica["log_end_offset"] >= end and "the end"
                    for field in ("last_fetch_timestamp", "last_caught_up_timestamp"):
                        if field in replica:
                            replica[field] = replica[field] > 0 and "a moment"
            for node in answer.get("nodes", ()):
                for listener in node["listeners"]:
                    listener["port"] = bool(listener["port"]) and "a port"
            yield f"v{version} {name} {index}", answer
        yield f"v{version} nothing", broker.call(ApiKey.DESCRIBE_QUORUM, version, {"topics": []})


@case
def brokers_that_are_gone(broker: Broker) -> Observations:
    for broker_id in (4711, -1):
        yield str(broker_id), broker.call(ApiKey.UNREGISTER_BROKER, 0, {"broker_id": broker_id})


def acls_without_authorizer(broker: Broker) -> Observations:
    """Not in the register: Kafka has to run without an authorizer."""
    given: dict[str, Any] = {
        "resource_type_filter": SOME, "resource_name_filter": None, "pattern_type_filter": SOME,
        "principal_filter": None, "host_filter": None, "operation": SOME, "permission_type": SOME,
    }  # fmt: skip
    created: dict[str, Any] = {
        "resource_type": 2, "resource_name": "t", "resource_pattern_type": 3, "principal": "User:x", "host": "*",
        "operation": 2, "permission_type": 3,
    }  # fmt: skip
    for version in (1, 2, 3):
        yield f"describe v{version}", broker.call(ApiKey.DESCRIBE_ACLS, version, given)
        for count in (0, 1, 2):
            values = {"filters": [given] * count}
            yield f"delete v{version} {count}", broker.call(ApiKey.DELETE_ACLS, version, values)
            values = {"creations": [created] * count}
            yield f"create v{version} {count}", broker.call(ApiKey.CREATE_ACLS, version, values)
    for field in ("resource_type_filter", "pattern_type_filter", "operation", "permission_type"):
        strange = given | {field: UNKNOWN}
        yield f"describe without {field}", broker.call(ApiKey.DESCRIBE_ACLS, 3, strange)
        yield f"delete without {field}", broker.call(ApiKey.DELETE_ACLS, 3, {"filters": [strange]})
    for field in ("resource_type", "resource_pattern_type", "operation", "permission_type"):
        yield f"create without {field}", broker.call(ApiKey.CREATE_ACLS, 3, {"creations": [created | {field: UNKNOWN}]})
    yield "describe something new", broker.call(ApiKey.DESCRIBE_ACLS, 3, given | {"resource_type_filter": 99})
