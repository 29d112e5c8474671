"""The table of topic configs: what is accepted, what is shown, and in whose words a refusal comes."""

from __future__ import annotations

import pytest

from schemas.config_types import ConfigType
from schemas.topic_config import TOPIC_CONFIGS, ConfigSource, InvalidConfig, describe, validate, values

# name -> (default, broker synonym shown while nothing is set), as Kafka 4.3.1 answers DescribeConfigs of a new topic.
KAFKA_4_3 = {
    "cleanup.policy": ("delete", "log.cleanup.policy"),
    "compression.gzip.level": ("-1", "compression.gzip.level"),
    "compression.lz4.level": ("9", "compression.lz4.level"),
    "compression.type": ("producer", "compression.type"),
    "compression.zstd.level": ("3", "compression.zstd.level"),
    "delete.retention.ms": ("86400000", "log.cleaner.delete.retention.ms"),
    "file.delete.delay.ms": ("60000", "log.segment.delete.delay.ms"),
    "flush.messages": ("9223372036854775807", "log.flush.interval.messages"),
    "flush.ms": ("9223372036854775807", None),
    "follower.replication.throttled.replicas": ("", None),
    "index.interval.bytes": ("4096", "log.index.interval.bytes"),
    "leader.replication.throttled.replicas": ("", None),
    "local.retention.bytes": ("-2", "log.local.retention.bytes"),
    "local.retention.ms": ("-2", "log.local.retention.ms"),
    "max.compaction.lag.ms": ("9223372036854775807", "log.cleaner.max.compaction.lag.ms"),
    "max.message.bytes": ("1048588", "message.max.bytes"),
    "message.timestamp.after.max.ms": ("3600000", "log.message.timestamp.after.max.ms"),
    "message.timestamp.before.max.ms": ("9223372036854775807", "log.message.timestamp.before.max.ms"),
    "message.timestamp.type": ("CreateTime", "log.message.timestamp.type"),
    "min.cleanable.dirty.ratio": ("0.5", "log.cleaner.min.cleanable.ratio"),
    "min.compaction.lag.ms": ("0", "log.cleaner.min.compaction.lag.ms"),
    "min.insync.replicas": ("1", "min.insync.replicas"),
    "preallocate": ("false", "log.preallocate"),
    "remote.log.copy.disable": ("false", None),
    "remote.log.delete.on.disable": ("false", None),
    "remote.storage.enable": ("false", None),
    "retention.bytes": ("-1", "log.retention.bytes"),
    "retention.ms": ("604800000", None),
    "segment.bytes": ("1073741824", "log.segment.bytes"),
    "segment.index.bytes": ("10485760", "log.index.size.max.bytes"),
    "segment.jitter.ms": ("0", None),
    "segment.ms": ("604800000", None),
    "unclean.leader.election.enable": ("false", "unclean.leader.election.enable"),
}


def test_a_new_topic_is_described_as_by_kafka() -> None:
    shown = {entry.name: entry for entry in describe({}) if not entry.name.startswith("iceberg.")}
    assert {name: (e.value, e.synonyms[0][0] if e.synonyms else None) for name, e in shown.items()} == KAFKA_4_3
    assert all(e.source is ConfigSource.DEFAULT and not e.read_only and not e.sensitive for e in shown.values())


def test_table_configs_are_all_there() -> None:
    names = "mode columns table kind history partition.by target.lag.ms start invalid retention delete.with.topic"
    assert {f"iceberg.{name}" for name in names.split()} == {n for n in TOPIC_CONFIGS if n.startswith("iceberg.")}
    assert all(config.documentation.endswith(".") for config in TOPIC_CONFIGS.values())


def test_every_default_passes_its_own_check() -> None:
    validate({name: config.default for name, config in TOPIC_CONFIGS.items()})


def test_own_values_come_before_the_brokers() -> None:
    config, broker = {"max.message.bytes": "5"}, {"message.max.bytes": "7"}
    layers = [
        (ConfigSource.DYNAMIC_BROKER, {"message.max.bytes": "6", "log.retention.ms": "1"}),
        (ConfigSource.DYNAMIC_DEFAULT_BROKER, {"log.cleanup.policy": "compact"}),
        (ConfigSource.STATIC_BROKER, broker),
    ]
    entries = {entry.name: entry for entry in describe(config, layers)}
    entry = entries["max.message.bytes"]
    assert (entry.value, entry.source, entry.type) == ("5", ConfigSource.DYNAMIC_TOPIC, ConfigType.INT)
    assert entry.synonyms == (
        ("max.message.bytes", "5", ConfigSource.DYNAMIC_TOPIC),
        ("message.max.bytes", "6", ConfigSource.DYNAMIC_BROKER),
        ("message.max.bytes", "7", ConfigSource.STATIC_BROKER),
        ("message.max.bytes", "1048588", ConfigSource.DEFAULT),
    )
    retention, policy = entries["retention.ms"], entries["cleanup.policy"]
    assert (retention.value, retention.source) == ("1", ConfigSource.DYNAMIC_BROKER)
    # hours are shown only behind a value in milliseconds
    assert retention.synonyms[1:] == (("log.retention.hours", "168", ConfigSource.DEFAULT),)
    assert (policy.value, policy.source) == ("compact", ConfigSource.DYNAMIC_DEFAULT_BROKER)
    assert values({}, broker).message_max_bytes == 7


def test_values_of_the_hot_paths() -> None:
    given = values({"cleanup.policy": "delete, compact", "message.timestamp.type": "LogAppendTime"})
    assert (given.compacted, given.append_time, given.message_max_bytes) == (True, True, 1_048_588)
    assert (given.timestamp_after_max_ms, given.timestamp_before_max_ms) == (3_600_000, 2**63 - 1)
    assert not values({"cleanup.policy": ""}).compacted


# What Kafka 4.3.1's LogConfig.validate says, word for word where clients compare it.
REFUSED = [
    ("x.y", "1", "Unknown topic config name: x.y"),
    ("cleanup.policy", "foo", "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"),
    ("retention.ms", "abc", "Invalid value abc for configuration retention.ms: Not a number of type LONG"),
    ("retention.ms", "", "Invalid value  for configuration retention.ms: Not a number of type LONG"),
    ("retention.ms", "-5", "Invalid value -5 for configuration retention.ms: Value must be at least -1"),
    ("max.message.bytes", "99999999999", "Invalid value 99999999999 for configuration max.message.bytes: Not a number of type INT"),
    ("preallocate", "maybe", "Invalid value maybe for configuration preallocate: Expected value to be either true or false"),
    ("compression.gzip.level", "0", "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1"),
    ("compression.lz4.level", "0", "Invalid value 0 for configuration compression.lz4.level: Value must be at least 1"),
    ("min.cleanable.dirty.ratio", "x", "Invalid value x for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE"),
    ("min.cleanable.dirty.ratio", "1.5", "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1"),
    ("message.timestamp.type", "createtime", "Invalid value createtime for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime"),
    ("segment.bytes", "10", "Invalid value 10 for configuration segment.bytes: Value must be at least 1048576"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_refusals_say_what_kafka_says(name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        validate({name: value})
    assert (refused.value.name, refused.value.message) == (name, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleanup.policy", ""),
        ("cleanup.policy", "compact, delete"),
        ("retention.bytes", "-7"),
        ("preallocate", "TRUE"),
        ("compression.gzip.level", "-1"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("retention.ms", " 5 "),
        ("iceberg.columns", "id long, payload.name string as name"),
        ("iceberg.table", "lake.events_2"),
        ("iceberg.table", ""),
        ("iceberg.partition.by", "day(_kafka_timestamp), bucket(16, id)"),
        ("iceberg.start", "2024-01-01T00:00:00Z"),
        ("iceberg.start", "1700000000000"),
        ("iceberg.retention", "follow"),
    ],
)
def test_accepted(name: str, value: str) -> None:
    validate({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leader.replication.throttled.replicas", "foo"),
        ("retention.ms", "9" * 5000),
        ("retention.ms", "9223372036854775808"),
        ("retention.ms", "٣"),
        ("iceberg.mode", "avro"),
        ("iceberg.columns", "id nonsense"),
        ("iceberg.table", "a b"),
        ("iceberg.table", "lake.files"),
        ("iceberg.table", "lake..x"),
        ("iceberg.partition.by", "day(x"),
        ("iceberg.partition.by", "bucket(x)"),
        ("iceberg.start", "yesterday"),
        ("iceberg.retention", "0"),
        ("iceberg.retention", "-1"),
        ("iceberg.target.lag.ms", "0"),
    ],
)
def test_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        validate({name: value})
    assert refused.value.name == name


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(InvalidConfig, match="conflict"):
        validate({"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"})
