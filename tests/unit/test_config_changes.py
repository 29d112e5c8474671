"""Changes of configs: single operations against a model, and the tables of broker, group and metrics configs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.kafka.broker_configs import broker_layers, describe_broker, documentation_of, nearest_values
from broker.kafka.config_changes import Op, Operation, RefusedChange, check_operations, incremental, replaced
from broker.kafka.config_resources import TOPIC_WORDS
from broker.services import BrokerView
from schemas.broker_config import InvalidBrokerChange, validate_broker
from schemas.broker_config_names import BROKER_CONFIGS, Update
from schemas.client_metrics_config import InvalidMetricsRequest, validate_metrics
from schemas.config_kinds import ConfigKind
from schemas.config_types import ConfigSource, ConfigType, InvalidConfig, canonical
from schemas.group_config import GROUP_CONFIGS, describe_group, validate_group
from schemas.topic_config import TOPIC_CONFIGS
from tests.front_fakes import FakeConfigs, settings

WORDS = st.sampled_from(["a", "b", "c"])
BROKER = BrokerView(1, "127.0.0.1", 9092, "")


def anything(config: Mapping[str, str]) -> None:
    """Every config is fine."""


@given(before=st.lists(WORDS, unique=True), given_words=st.lists(WORDS, min_size=1), op=st.sampled_from([Op.APPEND, Op.SUBTRACT]))  # fmt: skip
def test_lists_are_sets_in_order(before: list[str], given_words: list[str], op: Op) -> None:
    config = {"cleanup.policy": ",".join(before), "other": "1"}
    change = incremental([Operation("cleanup.policy", op, ",".join(given_words))], TOPIC_WORDS, anything)
    after = change(config)["cleanup.policy"]
    words = after.split(",") if after else []
    if op is Op.APPEND:
        assert words == [*before, *dict.fromkeys(word for word in given_words if word not in before)]
    else:
        assert words == [word for word in before if word not in given_words]
    assert config == {"cleanup.policy": ",".join(before), "other": "1"}, "what is stored stays until the change is"


def test_operations_come_one_after_the_other_and_all_or_none() -> None:
    operations = [Operation("a", Op.SET, "1"), Operation("b", Op.DELETE, None)]
    assert incremental(operations, TOPIC_WORDS, anything)({"b": "2", "c": "3"}) == {"a": "1", "c": "3"}
    assert replaced(operations[:1], anything)({"b": "2"}) == {"a": "1"}

    def refuse(config: Mapping[str, str]) -> None:
        raise AssertionError(dict(config))

    with pytest.raises(AssertionError, match="'a': '1'"):
        incremental(operations, TOPIC_WORDS, refuse)({})
    for wrong in ([*operations, Operation("a", Op.DELETE, None)], [Operation("a", Op.APPEND, None)]):
        with pytest.raises(RefusedChange):
            check_operations(wrong)


def test_every_topic_default_is_a_broker_config_that_can_be_changed() -> None:
    for known in TOPIC_CONFIGS.values():
        if known.synonyms:
            broker = BROKER_CONFIGS[known.synonyms[0]]
            assert (broker.type, broker.update) == (known.type, Update.CLUSTER_WIDE)
            defaults = [BROKER_CONFIGS[name].default for name in known.synonyms]
            if defaults[0] is not None:
                assert canonical(known.type, defaults[0]) == canonical(known.type, known.default)


def test_every_broker_default_passes_its_own_check() -> None:
    for known in BROKER_CONFIGS.values():
        stores = known.type is ConfigType.PASSWORD or known.name.startswith("ssl.")
        if known.default is not None and known.update is not Update.READ_ONLY and not stores:
            validate_broker({known.name: known.default}, for_all=known.update is Update.CLUSTER_WIDE)


@pytest.mark.parametrize(
    ("config", "for_all", "message"),
    [
        ({"broker.id": "1", "log.dirs": "x"}, False, "Cannot update these configs dynamically: [broker.id, log.dirs]"),
        ({"ssl.keystore.location": "x"}, False, "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.location]"),
        ({"listener.name.x.ssl.keystore.location": "x"}, True, "Cannot update these configs at default cluster level, broker id must be specified: [listener.name.x.ssl.keystore.location]"),
        ({"log.cleanup.policy": "burn"}, True, "Invalid value burn for configuration log.cleanup.policy: String must be one of: compact, delete"),
        ({"num.io.threads": "0"}, True, "Invalid value 0 for configuration num.io.threads: Value must be at least 1"),
        ({"log.cleaner.min.cleanable.ratio": "2"}, True, "Invalid value 2.0 for configuration log.cleaner.min.cleanable.ratio: Value must be no more than 1"),
        ({"log.preallocate": "x"}, True, "Invalid value x for configuration log.preallocate: Expected value to be either true or false"),
    ],
)  # fmt: skip
def test_broker_configs_that_are_refused(config: dict[str, str], for_all: bool, message: str) -> None:
    with pytest.raises(InvalidBrokerChange) as refused:
        validate_broker(config, for_all=for_all)
    assert str(refused.value) == message


def test_what_is_set_for_one_broker_comes_first() -> None:
    configs = FakeConfigs()
    configs.stored = {(ConfigKind.BROKER, "1"): {"a": "1"}, (ConfigKind.BROKER, ""): {"a": "2", "message.max.bytes": "3"}, (ConfigKind.BROKER, "2"): {"a": "4"}}  # fmt: skip
    layers = broker_layers(settings(message_max_bytes=5, num_partitions=7), configs, BROKER)
    assert nearest_values(layers) == {"a": "1", "message.max.bytes": "3", "num.partitions": "7"}
    shown = {entry.name: entry for entry in describe_broker(settings(message_max_bytes=5), layers, BROKER, "cluster")}
    limit = shown["message.max.bytes"]
    assert [(value, source) for _, value, source in limit.synonyms] == [
        ("3", ConfigSource.DYNAMIC_DEFAULT_BROKER), ("5", ConfigSource.STATIC_BROKER), ("1048588", ConfigSource.DEFAULT),
    ]  # fmt: skip
    assert (shown["a"].value, shown["a"].sensitive) == (None, True)
    assert shown["node.id"].value == "1"


def test_every_broker_config_says_what_it_does_here() -> None:
    assert all(documentation_of(name).endswith(".") for name in BROKER_CONFIGS)
    assert documentation_of("num.io.threads") != documentation_of("message.max.bytes")


def test_group_configs() -> None:
    shown = describe_group({"consumer.session.timeout.ms": " 50000 "})
    assert [entry.name for entry in shown] == sorted(GROUP_CONFIGS)
    timeout = next(entry for entry in shown if entry.name == "consumer.session.timeout.ms")
    assert (timeout.value, timeout.source) == ("50000", ConfigSource.GROUP)
    assert timeout.synonyms[1] == ("group.consumer.session.timeout.ms", "45000", ConfigSource.DEFAULT)
    validate_group({name: known.default for name, known in GROUP_CONFIGS.items()})
    for reset in ("earliest", "by_duration:PT5M", "by_duration:P1DT2H", "by_duration:PT0.5S"):
        validate_group({"share.auto.offset.reset": reset})
    for reset in ("by_duration:P", "by_duration:PT", "by_duration:-PT5M", "by_duration:", "never:PT1H"):
        with pytest.raises(InvalidConfig):
            validate_group({"share.auto.offset.reset": reset})
    with pytest.raises(InvalidConfig, match="must be greater than or equal to"):
        validate_group({"share.session.timeout.ms": "44999"})


def test_metrics_subscriptions() -> None:
    validate_metrics({"match": "client_id=a.*,client_software_name=b", "metrics": "x", "interval.ms": "100"})
    for wrong in ("x", "no_such=1", "client_id=(", "client_id=" + "(" * 5000):
        with pytest.raises(InvalidConfig):
            validate_metrics({"match": wrong})
    for config in ({"interval.ms": "99"}, {"interval.ms": "3600001"}, {"x": "1"}):
        with pytest.raises(InvalidMetricsRequest):
            validate_metrics(config)
