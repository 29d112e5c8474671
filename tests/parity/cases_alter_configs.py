"""Cases of IncrementalAlterConfigs and AlterConfigs: topics, brokers, loggers, client metrics, groups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
Operation = tuple[str, int, str | None]
Pairs = Iterable[tuple[str, str | None]]
SETTLED_S = 0.15
"""Kafka's brokers hear of a change after it was answered."""


def _alter(
    broker: Broker, version: int, *resources: tuple[int, str, Iterable[Operation]], validate_only: bool = False
) -> Answer:
    asked = [
        {
            "resource_type": kind,
            "resource_name": name,
            "configs": [{"name": key, "config_operation": code, "value": value} for key, code, value in operations],
        }
        for kind, name, operations in resources
    ]
    answer = broker.call(
        ApiKey.INCREMENTAL_ALTER_CONFIGS, version, {"resources": asked, "validate_only": validate_only}
    )
    return _tidy(broker, answer)


def _replace(broker: Broker, version: int, *resources: tuple[int, str, Pairs], validate_only: bool = False) -> Answer:
    asked = [
        {"resource_type": kind, "resource_name": name, "configs": [{"name": k, "value": v} for k, v in pairs]}
        for kind, name, pairs in resources
    ]
    return _tidy(
        broker, broker.call(ApiKey.ALTER_CONFIGS, version, {"resources": asked, "validate_only": validate_only})
    )


def _tidy(broker: Broker, answer: Answer) -> Answer:
    if not isinstance(answer, dict):
        return answer
    for row in answer["responses"]:
        if row["error_message"] is not None:
            row["error_message"] = row["error_message"].replace(f"pected {broker.node}", "pected the node")
        if row["resource_name"] == str(broker.node):
            row["resource_name"] = "the node"
    answer["responses"].sort(key=lambda row: (row["resource_type"], str(row["resource_name"])))
    return answer


def _shown(broker: Broker, kind: int, name: str, *keys: str) -> Any:
    """Those configs, or every one that was set."""
    time.sleep(SETTLED_S)
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys or None}
    values = {"resources": [resource], "include_synonyms": True, "include_documentation": False}
    result = broker.call(ApiKey.DESCRIBE_CONFIGS, 4, values)["results"][0]
    configs = {config["name"]: config for config in result["configs"]}
    if result["error_code"]:
        message = str(result["error_message"]).replace(f"pected {broker.node}", "pected the node")
        return [result["error_code"], message]
    if keys:
        return [result["error_code"], {name: configs.get(name) for name in keys}]
    return [result["error_code"], {name: c for name, c in configs.items() if c["config_source"] not in (4, 5)}]


OPERATIONS: tuple[tuple[str, tuple[Operation, ...]], ...] = (
    ("set", (("retention.ms", SET, "1000"),)),
    ("set two", (("retention.ms", SET, "2000"), ("max.message.bytes", SET, "5000"))),
    ("set a list", (("cleanup.policy", SET, "compact"),)),
    ("append", (("cleanup.policy", APPEND, "delete"),)),
    ("append again", (("cleanup.policy", APPEND, "delete"),)),
    ("append what can't be", (("cleanup.policy", APPEND, "shred"),)),
    ("subtract", (("cleanup.policy", SUBTRACT, "compact"),)),
    ("subtract what isn't there", (("cleanup.policy", SUBTRACT, "compact"),)),
    ("subtract the last", (("cleanup.policy", SUBTRACT, "delete"),)),
    ("delete a list", (("cleanup.policy", DELETE, None),)),
    ("append to a default", (("cleanup.policy", APPEND, "compact"),)),
    ("append two", (("leader.replication.throttled.replicas", APPEND, "0:1,1:1"),)),
    ("append one of them", (("leader.replication.throttled.replicas", APPEND, "1:1,2:1"),)),
    ("subtract two", (("leader.replication.throttled.replicas", SUBTRACT, "0:1,2:1"),)),
    ("append to a number", (("retention.ms", APPEND, "5"),)),
    ("subtract from a number", (("retention.ms", SUBTRACT, "5"),)),
    ("append to what isn't known", (("no.such.config", APPEND, "5"),)),
    ("delete", (("retention.ms", DELETE, None),)),
    ("delete again", (("retention.ms", DELETE, "x"),)),
    ("delete what isn't known", (("no.such.config", DELETE, None),)),
    ("unknown", (("no.such.config", SET, "1"),)),
    ("a bad value", (("retention.ms", SET, "soon"),)),
    ("a good and a bad one", (("segment.ms", SET, "5"), ("retention.ms", SET, "-7"))),
    ("null", (("retention.ms", SET, None),)),
    ("two nulls", (("retention.ms", SET, None), ("segment.ms", APPEND, None))),
    ("a key twice", (("retention.ms", SET, "1"), ("retention.ms", DELETE, None))),
    ("no such operation", (("retention.ms", 9, "1"),)),
    ("negative operation", (("retention.ms", -1, "1"),)),
    ("lags", (("min.compaction.lag.ms", SET, "10"), ("max.compaction.lag.ms", SET, "5"))),
    ("nothing", ()),
    ("an empty name", (("", SET, "1"),)),
    ("an empty value", (("retention.ms", SET, ""),)),
    ("spaces", (("retention.ms", SET, " 3000 "),)),
    ("a list with spaces", (("cleanup.policy", SET, "compact, delete"),)),
    ("subtract with spaces", (("cleanup.policy", SUBTRACT, "delete"),)),
    ("remote", (("remote.storage.enable", SET, "true"),)),
    ("remote copy", (("remote.log.copy.disable", SET, "true"),)),
    ("local beyond", (("local.retention.ms", SET, "999999999999"),)),
    ("insync", (("min.insync.replicas", SET, "2"),)),
)


@case
def alter_topic_configs(broker: Broker) -> Observations:
    for version in (0, 1):
        topic = f"altered-{version}"
        broker.create(topic)
        for name, operations in OPERATIONS:
            yield (
                f"v{version} {name}, checked",
                _alter(broker, version, (TOPIC, topic, operations), validate_only=True),
            )
            yield f"v{version} {name}", _alter(broker, version, (TOPIC, topic, operations))
            yield f"v{version} {name}, then", _shown(broker, TOPIC, topic)
        yield f"v{version} no resources", _alter(broker, version)


@case
def alter_several_resources(broker: Broker) -> Observations:
    for name in ("altered-a", "altered-b"):
        broker.create(name)
    one: tuple[Operation, ...] = (("retention.ms", SET, "1000"),)
    bad: tuple[Operation, ...] = (("retention.ms", SET, "soon"),)
    for version in (0, 1):
        for label, resources in (
            ("both", [(TOPIC, "altered-a", one), (TOPIC, "altered-b", one)]),
            ("one bad", [(TOPIC, "altered-a", bad), (TOPIC, "altered-b", (("segment.ms", SET, "5"),))]),
            ("one twice", [(TOPIC, "altered-a", one), (TOPIC, "altered-a", bad), (TOPIC, "altered-b", one)]),
            ("unknown topic", [(TOPIC, "never-altered", one)]),
            ("unknown topic, bad", [(TOPIC, "never-altered", bad)]),
            ("empty name", [(TOPIC, "", one)]),
            ("bad name", [(TOPIC, "a b", one)]),
            ("type 0", [(0, "x", one)]),
            ("type 3", [(3, "x", one)]),
            ("type 99", [(99, "x", one)]),
            ("type -1", [(-1, "x", one)]),
        ):
            yield f"v{version} {label}", _alter(broker, version, *resources)
        yield f"v{version} a", _shown(broker, TOPIC, "altered-a")
        yield f"v{version} b", _shown(broker, TOPIC, "altered-b")


@case
def replace_topic_configs(broker: Broker) -> Observations:
    broker.create("replaced", retention__ms="1000")
    pairs: Sequence[tuple[str, str | None]]
    for version in (0, 1, 2):
        for name, pairs in (
            ("one", [("segment.ms", "5000")]),
            ("two", [("segment.ms", "6000"), ("cleanup.policy", "compact")]),
            ("same", [("segment.ms", "6000"), ("cleanup.policy", "compact")]),
            ("bad", [("segment.ms", "soon")]),
            ("unknown", [("no.such.config", "1")]),
            ("null", [("segment.ms", None)]),
            ("key twice", [("segment.ms", "1"), ("segment.ms", "2")]),
            ("empty", []),
        ):
            yield (
                f"v{version} {name}, checked",
                _replace(broker, version, (TOPIC, "replaced", pairs), validate_only=True),
            )
            yield f"v{version} {name}", _replace(broker, version, (TOPIC, "replaced", pairs))
            yield f"v{version} {name}, then", _shown(broker, TOPIC, "replaced")
        yield f"v{version} unknown topic", _replace(broker, version, (TOPIC, "never-replaced", []))
        for kind in (0, 3, LOGGER, 99):
            yield f"v{version} type {kind}", _replace(broker, version, (kind, "x", [("a", "b")]))


BROKER_KEYS = ("log.retention.ms", "log.cleanup.policy", "message.max.bytes", "log.cleaner.threads", "no.such.config")


def _broker_steps(node: str) -> tuple[tuple[str, str, tuple[Operation, ...]], ...]:
    return (
        ("default", "", (("log.retention.ms", SET, "1000"),)),
        ("own", node, (("log.retention.ms", SET, "2000"), ("message.max.bytes", SET, "1000012"))),
        ("own over default", "", (("message.max.bytes", SET, "1000013"),)),
        ("list", "", (("log.cleanup.policy", APPEND, "compact"),)),
        ("list more", "", (("log.cleanup.policy", APPEND, "delete"),)),
        ("list less", "", (("log.cleanup.policy", SUBTRACT, "compact"),)),
        ("number appended", "", (("log.retention.ms", APPEND, "1"),)),
        ("read only", node, (("broker.id", SET, "7"),)),
        ("read only, default", "", (("num.partitions", SET, "7"),)),
        ("two read only", node, (("num.partitions", SET, "7"), ("log.dirs", SET, "/x"))),
        ("only by node", "", (("ssl.keystore.location", SET, "/x"),)),
        ("listeners", "", (("listeners", SET, "PLAINTEXT://x:1"),)),
        ("unknown", node, (("no.such.config", SET, "1"),)),
        ("unknown gone", node, (("no.such.config", DELETE, None),)),
        ("bad value", node, (("log.retention.ms", SET, "soon"),)),
        ("bad value, default", "", (("message.max.bytes", SET, "-5"),)),
        ("threads", node, (("log.cleaner.threads", SET, "2"),)),
        ("no threads", node, (("num.io.threads", SET, "0"),)),
        ("null", node, (("log.retention.ms", SET, None),)),
        ("no such operation", node, (("log.retention.ms", 7, "1"),)),
        ("another node", "4711", (("log.retention.ms", SET, "1"),)),
        ("no number", "one", (("log.retention.ms", SET, "1"),)),
        ("too many threads", node, (("log.cleaner.threads", SET, "100"),)),
    )


@case
def alter_broker_configs(broker: Broker) -> Observations:
    node = str(broker.node)
    broker.create("follows-the-broker")
    steps = _broker_steps(node)
    for label, name, operations in steps:
        yield f"{label}, checked", _alter(broker, 1, (BROKER, name, operations), validate_only=True)
        yield label, _alter(broker, 1, (BROKER, name, operations))
        yield f"{label}, the default", _shown(broker, BROKER, "", *BROKER_KEYS)
        yield f"{label}, the node", _shown(broker, BROKER, node, *BROKER_KEYS)
        yield f"{label}, a topic", _shown(broker, TOPIC, "follows-the-broker", "retention.ms", "max.message.bytes", "cleanup.policy")  # fmt: skip
    for label, name, _ in steps:
        keys: tuple[Operation, ...] = tuple((key, DELETE, None) for key in BROKER_KEYS)
        yield f"{label}, gone", _alter(broker, 1, (BROKER, name, keys))
    yield "at the end", _shown(broker, BROKER, node, *BROKER_KEYS)
    yield "at the end, default", _shown(broker, BROKER, "")


@case
def replace_broker_configs(broker: Broker) -> Observations:
    node = str(broker.node)
    for version in (0, 2):
        for label, name, pairs in (
            ("default", "", [("log.retention.ms", "1000")]),
            ("own", node, [("log.retention.ms", "2000"), ("log.cleaner.threads", "2")]),
            ("other", node, [("log.retention.ms", "3000")]),
            ("read only", node, [("num.partitions", "3")]),
            ("another", "4711", []),
            ("own gone", node, []),
            ("default gone", "", []),
        ):
            yield f"v{version} {label}", _replace(broker, version, (BROKER, name, pairs))
            yield f"v{version} {label}, the node", _shown(broker, BROKER, node, *BROKER_KEYS)
            yield f"v{version} {label}, the default", _shown(broker, BROKER, "")


@case
def alter_loggers(broker: Broker) -> Observations:
    node = str(broker.node)
    for label, name, operations in (
        ("set", node, (("root", SET, "ERROR"),)),
        ("set, another case", node, (("root", SET, "warn"),)),
        ("set back", node, (("root", SET, "WARN"),)),
        ("bad level", node, (("root", SET, "LOUD"),)),
        ("unknown logger", node, (("no.such.logger", SET, "INFO"),)),
        ("append", node, (("root", APPEND, "INFO"),)),
        ("delete root", node, (("root", DELETE, None),)),
        ("delete unknown", node, (("no.such.logger", DELETE, None),)),
        ("no such operation", node, (("root", 9, "INFO"),)),
        ("another node", "4711", (("root", SET, "INFO"),)),
        ("no node", "", (("root", SET, "INFO"),)),
        ("no number", "x", (("root", SET, "INFO"),)),
        ("no operations", node, ()),
    ):
        for checked in (True, False):
            yield f"{label} {checked}", _alter(broker, 1, (LOGGER, name, operations), validate_only=checked)
        yield f"{label}, then", _shown(broker, LOGGER, node, "root")
    for name in ("", "4711", "x"):
        yield f"described {name!r}", _shown(broker, LOGGER, name, "root")


@case
def alter_client_metrics(broker: Broker) -> Observations:
    for label, name, operations in (
        ("set", "subscribed", (("interval.ms", SET, "1000"),)),
        ("list", "subscribed", (("metrics", SET, "org.apache.kafka.consumer.,org.apache.kafka.producer."),)),
        ("append", "subscribed", (("metrics", APPEND, "org.x."),)),
        ("subtract", "subscribed", (("metrics", SUBTRACT, "org.x."),)),
        ("match", "subscribed", (("match", SET, "client_software_name=a.*"),)),
        ("bad match", "subscribed", (("match", SET, "client=a"),)),
        ("match of no form", "subscribed", (("match", SET, "abc"),)),
        ("bad pattern", "subscribed", (("match", SET, "client_id=("),)),
        ("too often", "subscribed", (("interval.ms", SET, "10"),)),
        ("too seldom", "subscribed", (("interval.ms", SET, "999999999"),)),
        ("no number", "subscribed", (("interval.ms", SET, "soon"),)),
        ("unknown", "subscribed", (("interval", SET, "1"),)),
        ("no name", "", (("interval.ms", SET, "1000"),)),
        ("delete", "subscribed", (("interval.ms", DELETE, None), ("metrics", DELETE, None), ("match", DELETE, None))),
    ):
        yield f"{label}, checked", _alter(broker, 1, (METRICS, name, operations), validate_only=True)
        yield label, _alter(broker, 1, (METRICS, name, operations))
        yield f"{label}, then", _shown(broker, METRICS, "subscribed")
        yield f"{label}, all", _shown(broker, METRICS, "subscribed", "interval.ms", "metrics", "match")
    yield "described, no name", _shown(broker, METRICS, "")
    yield "replaced", _replace(broker, 2, (METRICS, "subscribed", [("interval.ms", "1000")]))
    yield "replaced by nothing", _replace(broker, 2, (METRICS, "subscribed", []))


@case
def alter_group_configs(broker: Broker) -> Observations:
    keys = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "share.auto.offset.reset")
    for label, name, operations in (
        ("set", "tuned", (("consumer.session.timeout.ms", SET, "50000"),)),
        ("set two", "tuned", (("consumer.heartbeat.interval.ms", SET, "6000"), ("share.auto.offset.reset", SET, "earliest"))),
        ("too short", "tuned", (("consumer.session.timeout.ms", SET, "1000"),)),
        ("too long", "tuned", (("consumer.session.timeout.ms", SET, "70000"),)),
        ("zero", "tuned", (("consumer.session.timeout.ms", SET, "0"),)),
        ("beats too seldom", "tuned", (("consumer.heartbeat.interval.ms", SET, "16000"),)),
        ("beats too often", "tuned", (("consumer.heartbeat.interval.ms", SET, "4999"),)),
        ("no number", "tuned", (("consumer.session.timeout.ms", SET, "soon"),)),
        ("reset", "tuned", (("share.auto.offset.reset", SET, "never"),)),
        ("reset by time", "tuned", (("share.auto.offset.reset", SET, "by_duration:PT1H"),)),
        ("reset by bad time", "tuned", (("share.auto.offset.reset", SET, "by_duration:x"),)),
        ("lock", "tuned", (("share.record.lock.duration.ms", SET, "1000"),)),
        ("lock too long", "tuned", (("share.record.lock.duration.ms", SET, "70000"),)),
        ("share session", "tuned", (("share.session.timeout.ms", SET, "1"),)),
        ("share beats", "tuned", (("share.heartbeat.interval.ms", SET, "1"),)),
        ("share count", "tuned", (("share.delivery.count.limit", SET, "11"),)),
        ("share locks", "tuned", (("share.partition.max.record.locks", SET, "10"),)),
        ("isolation", "tuned", (("share.isolation.level", SET, "dirty"),)),
        ("renew", "tuned", (("share.renew.acknowledge.enable", SET, "perhaps"),)),
        ("streams session", "tuned", (("streams.session.timeout.ms", SET, "1"),)),
        ("streams beats", "tuned", (("streams.heartbeat.interval.ms", SET, "1"),)),
        ("standby", "tuned", (("streams.num.standby.replicas", SET, "3"),)),
        ("standby below", "tuned", (("streams.num.standby.replicas", SET, "-1"),)),
        ("delay", "tuned", (("streams.initial.rebalance.delay.ms", SET, "-1"),)),
        ("unknown", "tuned", (("session", SET, "1"),)),
        ("no name", "", (("consumer.session.timeout.ms", SET, "50000"),)),
        ("delete", "tuned", tuple((key, DELETE, None) for key in keys)),
    ):  # fmt: skip
        yield f"{label}, checked", _alter(broker, 1, (GROUP, name, operations), validate_only=True)
        yield label, _alter(broker, 1, (GROUP, name, operations))
        yield f"{label}, then", _shown(broker, GROUP, "tuned")
    yield "all", _shown(broker, GROUP, "tuned", *keys)
    yield "described, no name", _shown(broker, GROUP, "")
