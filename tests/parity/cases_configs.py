"""Cases of DescribeConfigs: every topic config with its type, source and synonyms, and what a broker says about itself."""

from __future__ import annotations

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case

TOPIC, BROKER = 2, 4
VERSIONS = range(1, 5)
OURS = "iceberg."


def _describe(
    broker: Broker,
    version: int,
    *resources: tuple[int, str],
    keys: list[str] | None = None,
    synonyms: bool = True,
    documentation: bool = False,
) -> Answer:
    """Each result with its configs by name, without those that Kafka can't have."""
    asked = [{"resource_type": kind, "resource_name": name, "configuration_keys": keys} for kind, name in resources]
    values = {"resources": asked, "include_synonyms": synonyms, "include_documentation": documentation}
    answer = broker.call(ApiKey.DESCRIBE_CONFIGS, version, values)
    for result in answer["results"]:
        if result["resource_type"] == BROKER and result["resource_name"] == str(broker.node):
            result["resource_name"] = "the node"
        shown = {config["name"]: config for config in result["configs"] if not config["name"].startswith(OURS)}
        for config in shown.values():
            if config.get("documentation") is not None:
                config["documentation"] = "some words"
        result["configs"] = shown
    answer["results"].sort(key=lambda result: (result["resource_type"], str(result["resource_name"])))
    return answer


@case
def describe_topics(broker: Broker) -> Observations:
    broker.create("described")
    broker.create(
        "described-too",
        cleanup__policy="compact",
        retention__ms="1000",
        max__message__bytes="2000",
        compression__type="lz4",
        message__timestamp__type="LogAppendTime",
        segment__ms="5000",
    )
    for version in VERSIONS:
        for synonyms in (False, True):
            for documentation in (False, True):
                yield (
                    f"v{version} {synonyms} {documentation}",
                    _describe(broker, version, (TOPIC, "described"), synonyms=synonyms, documentation=documentation),
                )
        yield f"v{version} with configs", _describe(broker, version, (TOPIC, "described-too"), (TOPIC, "described"))
        keys = ["retention.ms", "no.such.config", "cleanup.policy"]
        yield f"v{version} some keys", _describe(broker, version, (TOPIC, "described-too"), keys=keys)
        yield f"v{version} no keys", _describe(broker, version, (TOPIC, "described-too"), keys=[])


@case
def describe_what_is_not_there(broker: Broker) -> Observations:
    for version in VERSIONS:
        for name in ("not-described", "", "a b", "..", "a" * 250):
            yield f"v{version} topic {name[:9]!r}", _describe(broker, version, (TOPIC, name))
        for name in ("4711", "one", "-1"):
            yield f"v{version} broker {name!r}", _describe(broker, version, (BROKER, name))
        yield f"v{version} all brokers", _describe(broker, version, (BROKER, ""))
        for kind in (0, 1, 3, 5, 99):
            yield f"v{version} type {kind}", _describe(broker, version, (kind, "thing"))
        yield f"v{version} nothing", _describe(broker, version)


@case
def describe_the_broker(broker: Broker) -> Observations:
    """Every config that Kafka has; values where neither was started with others."""
    for version in VERSIONS:
        answer = _describe(broker, version, (BROKER, str(broker.node)), documentation=True)
        configs = answer["results"][0].pop("configs")
        yield f"v{version}", answer
        for name in STARTED_WITH:
            configs.pop(name, None)
        yield f"v{version} names", sorted(configs)
        yield f"v{version} configs", configs


STARTED_WITH = (
    "advertised.listeners", "allow.everyone.if.no.acl.found", "authorizer.class.name", "broker.id",
    "controller.listener.names", "controller.quorum.voters", "group.initial.rebalance.delay.ms",
    "inter.broker.listener.name", "listener.security.protocol.map", "listeners", "log.dirs", "node.id", "num.io.threads",
    "num.network.threads", "num.partitions", "offsets.topic.num.partitions", "offsets.topic.replication.factor",
    "process.roles", "share.coordinator.state.topic.min.isr", "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.replication.factor", "super.users", "transaction.state.log.min.isr",
    "transaction.state.log.num.partitions", "transaction.state.log.replication.factor",
)  # fmt: skip
"""What the brokers under comparison are started with."""
