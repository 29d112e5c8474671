"""Topic configs: one table of every name with its type, default, check, broker synonyms and meaning.

Kafka 4.3's 33 and Neve's own for tables. Validation, DescribeConfigs and the documentation all read this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile

from schemas.broker_config_names import BROKER_CONFIGS
from schemas.config_types import (
    LONG_MAX,
    Check,
    ConfigEntry,
    ConfigSource,
    ConfigType,
    InvalidConfig,
    Layers,
    ListOf,
    Matching,
    Number,
    OneOf,
    Synonym,
    boolean,
    canonical,
    split_list,
    throttled_replicas,
)
from schemas.names import declared_table
from schemas.table_config import check_columns, check_partition_by, check_retention, check_start

__all__ = ["TOPIC_CONFIGS", "ConfigEntry", "ConfigSource", "InvalidConfig", "TopicConfig", "TopicValues"]


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """One topic config. `synonyms` are the broker settings it falls back on, the nearest first."""

    name: str
    type: ConfigType
    default: str
    check: Check
    documentation: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicValues:
    """What the write and read paths use of a topic's configs."""

    message_max_bytes: int
    append_time: bool
    compacted: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int


_NO_EFFECT = " Accepted for Kafka's tools; without effect, because records are kept in an object store."


def _int(
    name: str,
    default: int,
    least: int | None,
    doc: str,
    *synonyms: str,
    most: int | None = None,
    also: int | None = None,
) -> TopicConfig:
    check = Number(ConfigType.INT, least, most, also)
    return TopicConfig(name, ConfigType.INT, str(default), check, doc, synonyms)


def _long(name: str, default: int, least: int | None, doc: str, *synonyms: str) -> TopicConfig:
    return TopicConfig(name, ConfigType.LONG, str(default), Number(ConfigType.LONG, least), doc, synonyms)


def _bool(name: str, default: bool, doc: str, *synonyms: str) -> TopicConfig:
    return TopicConfig(name, ConfigType.BOOLEAN, str(default).lower(), boolean, doc, synonyms)


def _word(name: str, words: tuple[str, ...], default: str, doc: str, *synonyms: str) -> TopicConfig:
    return TopicConfig(name, ConfigType.STRING, default, OneOf(words), doc, synonyms)


def _text(name: str, default: str, check: Check, doc: str) -> TopicConfig:
    return TopicConfig(name, ConfigType.STRING, default, check, doc)


_CODECS = ("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")

_KAFKA = (
    TopicConfig("cleanup.policy", ConfigType.LIST, "delete", ListOf(("compact", "delete")),
                "What happens to old records: delete drops them by age and size, compact keeps the last one of each key; both may be given, and none keeps everything.", ("log.cleanup.policy",)),
    _int("compression.gzip.level", -1, 1, "Level for gzip." + _NO_EFFECT, "compression.gzip.level", most=9, also=-1),
    _int("compression.lz4.level", 9, 1, "Level for lz4." + _NO_EFFECT, "compression.lz4.level", most=17),
    _word("compression.type", _CODECS, "producer", "Codec of stored batches. Batches stay as the producer compressed them, whatever is set here.", "compression.type"),
    _int("compression.zstd.level", 3, -131072, "Level for zstd." + _NO_EFFECT, "compression.zstd.level", most=22),
    _long("delete.retention.ms", 86_400_000, 0, "How long compaction keeps tombstones, so that a consumer reading from the start still sees them (ms).", "log.cleaner.delete.retention.ms"),
    _long("file.delete.delay.ms", 60_000, 0, "How long files stay after they were given up (ms)." + _NO_EFFECT, "log.segment.delete.delay.ms"),
    _long("flush.messages", LONG_MAX, 1, "Records between two flushes." + _NO_EFFECT, "log.flush.interval.messages"),
    _long("flush.ms", LONG_MAX, 0, "Time between two flushes (ms)." + _NO_EFFECT, "log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    TopicConfig("follower.replication.throttled.replicas", ConfigType.LIST, "", throttled_replicas, "Replicas throttled on the follower's side." + _NO_EFFECT),
    _int("index.interval.bytes", 4096, 0, "Bytes between two entries of the offset index." + _NO_EFFECT, "log.index.interval.bytes"),
    TopicConfig("leader.replication.throttled.replicas", ConfigType.LIST, "", throttled_replicas, "Replicas throttled on the leader's side." + _NO_EFFECT),
    _long("local.retention.bytes", -2, -2, "Bytes kept locally under tiered storage; -2 means retention.bytes." + _NO_EFFECT, "log.local.retention.bytes"),
    _long("local.retention.ms", -2, -2, "Time kept locally under tiered storage; -2 means retention.ms." + _NO_EFFECT, "log.local.retention.ms"),
    _long("max.compaction.lag.ms", LONG_MAX, 1, "The longest a record stays uncompacted (ms).", "log.cleaner.max.compaction.lag.ms"),
    _int("max.message.bytes", 1_048_588, 0, "Largest record batch, as compressed, with its overhead.", "message.max.bytes"),
    _long("message.timestamp.after.max.ms", 3_600_000, 0, "How far a record's timestamp may lie ahead of the broker's clock (ms).", "log.message.timestamp.after.max.ms"),
    _long("message.timestamp.before.max.ms", LONG_MAX, 0, "How far a record's timestamp may lie behind the broker's clock (ms).", "log.message.timestamp.before.max.ms"),
    _word("message.timestamp.type", ("CreateTime", "LogAppendTime"), "CreateTime", "Whose clock stamps records: the producer's, or the metadata database's when they are committed.", "log.message.timestamp.type"),
    TopicConfig("min.cleanable.dirty.ratio", ConfigType.DOUBLE, "0.5", Number(ConfigType.DOUBLE, 0, 1), "Share of uncompacted bytes from which on compaction is worth while.", ("log.cleaner.min.cleanable.ratio",)),
    _long("min.compaction.lag.ms", 0, 0, "The shortest a record stays uncompacted (ms).", "log.cleaner.min.compaction.lag.ms"),
    _int("min.insync.replicas", 1, 1, "Replicas that must have a record before acks=all is answered." + _NO_EFFECT, "min.insync.replicas"),
    _bool("preallocate", False, "Reserve a segment's file when it is begun." + _NO_EFFECT, "log.preallocate"),
    _bool("remote.log.copy.disable", False, "Stop copying to tiered storage." + _NO_EFFECT),
    _bool("remote.log.delete.on.disable", False, "Delete tiered data when tiering is switched off." + _NO_EFFECT),
    _bool("remote.storage.enable", False, "Tiered storage." + _NO_EFFECT),
    _long("retention.bytes", -1, None, "Bytes kept per partition under the delete policy; -1 is no bound.", "log.retention.bytes"),
    _long("retention.ms", 604_800_000, -1, "How long records are kept under the delete policy (ms); -1 is for ever.", "log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    _int("segment.bytes", 1_073_741_824, 1_048_576, "Size of a log segment." + _NO_EFFECT, "log.segment.bytes"),
    _int("segment.index.bytes", 10_485_760, 4, "Size of an index file." + _NO_EFFECT, "log.index.size.max.bytes"),
    _long("segment.jitter.ms", 0, 0, "Spread of segment rolls (ms)." + _NO_EFFECT, "log.roll.jitter.ms", "log.roll.jitter.hours"),
    _long("segment.ms", 604_800_000, 1, "Age at which a segment is rolled (ms)." + _NO_EFFECT, "log.roll.ms", "log.roll.hours"),
    _bool("unclean.leader.election.enable", False, "Let a replica that lags become leader." + _NO_EFFECT, "unclean.leader.election.enable"),
)  # fmt: skip

_TABLES = (
    _word("iceberg.mode", ("auto", "raw", "json", "schema", "disabled"), "auto", "How values become columns: auto is typed where a schema or declared columns are known and raw elsewhere; disabled mirrors nothing."),
    _text("iceberg.columns", "", Matching(check_columns), "Declared columns for JSON values without a registry: `name type, path.to.name type as column, ...`."),
    _text("iceberg.table", "", Matching(declared_table), "Full name of the table; empty means topics.<topic, dots and dashes as _>. Fixed once the topic exists."),
    _word("iceberg.kind", ("auto", "append", "latest"), "auto", "append keeps every record, latest the current one of each key; auto is latest for compacted topics."),
    _bool("iceberg.history", True, "Beside a latest table, keep every record in <table>__history."),
    _text("iceberg.partition.by", "", Matching(check_partition_by), "Partitioning of the table; empty means day(_kafka_timestamp) for append tables and buckets of the key for latest ones."),
    _long("iceberg.target.lag.ms", 60_000, 1, "How far the table may lag behind the topic (ms)."),
    _text("iceberg.start", "earliest", Matching(check_start), "From where records are mirrored: earliest, latest, or a timestamp (Unix ms or ISO 8601)."),
    _word("iceberg.invalid", ("dlq", "pause", "drop"), "dlq", "What happens to records that don't fit: into <table>__dlq, stop the export, or drop them."),
    _text("iceberg.retention", "forever", Matching(check_retention), "How long rows are kept: forever, follow (the topic's retention), or milliseconds."),
    _bool("iceberg.delete.with.topic", False, "Drop the table when the topic is deleted."),
)  # fmt: skip

_NOT_TIERED = (
    "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
)
TOPIC_CONFIGS: Mapping[str, TopicConfig] = {config.name: config for config in (*_KAFKA, *_TABLES)}


def validate(config: Mapping[str, str]) -> None:
    """Check what somebody wants to set on a topic. Raises InvalidConfig."""
    for name in config:
        if name not in TOPIC_CONFIGS:
            raise InvalidConfig(name, f"Unknown topic config name: {name}")
    for name, value in config.items():
        known = TOPIC_CONFIGS[name]
        # An empty text is the default of the table configs, and as good as unset.
        if value or known.default:
            known.check(name, value)
    if boolean_of("remote.storage.enable", config):
        raise InvalidConfig("remote.storage.enable", _NOT_TIERED)
    least, most = _number(config, "min.compaction.lag.ms"), _number(config, "max.compaction.lag.ms")
    if least > most:
        raise InvalidConfig(
            "min.compaction.lag.ms",
            f"conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})",
        )


def boolean_of(name: str, config: Mapping[str, str]) -> bool:
    """A boolean config's value on a topic of its own."""
    return value_of(name, config) == "true"


def value_of(name: str, config: Mapping[str, str], broker: Mapping[str, str] = {}) -> str:
    """The value in force: the topic's own, the broker's under the nearest synonym, the default.

    `broker` holds what was set for the broker, by Kafka's names, the nearest layer alone.
    """
    known = TOPIC_CONFIGS[name]
    own = config.get(name)
    if own is None and known.synonyms:
        own = broker.get(known.synonyms[0])
    return known.default if own is None else canonical(known.type, own)


def describe(config: Mapping[str, str], layers: Layers = ()) -> list[ConfigEntry]:
    """Every topic config, by name."""
    return [_entry(TOPIC_CONFIGS[name], config, layers) for name in sorted(TOPIC_CONFIGS)]


def values(config: Mapping[str, str], broker: Mapping[str, str] = {}) -> TopicValues:
    """The values that the write and read paths use. `broker` as for `value_of`."""
    return TopicValues(
        message_max_bytes=_number(config, "max.message.bytes", broker),
        append_time=value_of("message.timestamp.type", config, broker) == "LogAppendTime",
        compacted="compact" in split_list(value_of("cleanup.policy", config, broker)),
        timestamp_before_max_ms=_number(config, "message.timestamp.before.max.ms", broker),
        timestamp_after_max_ms=_number(config, "message.timestamp.after.max.ms", broker),
    )


def _number(config: Mapping[str, str], name: str, broker: Mapping[str, str] = {}) -> int:
    return int(value_of(name, config, broker))


def broker_synonyms(names: Sequence[str], layers: Layers, defaults: Mapping[str, str] = {}) -> list[Synonym]:
    """Where a broker config gets its value from, the nearest first. `names`: its own and those it falls back on;
    `defaults` where they aren't Kafka's.

    As Kafka does, one that has no value under its own name shows nothing of the others.
    """
    found: list[Synonym] = []
    for source, layer in layers:
        found += [(name, layer[name], source) for name in names if name in layer]
    for name in names:
        known = BROKER_CONFIGS.get(name)
        default = defaults.get(name, None if known is None else known.default)
        if default is not None:
            found.append((name, default, ConfigSource.DEFAULT))
    return list(dropwhile(lambda synonym: synonym[0] != names[0], found))


def _entry(known: TopicConfig, config: Mapping[str, str], layers: Layers) -> ConfigEntry:
    synonyms = broker_synonyms(known.synonyms, layers) if known.synonyms else []
    if known.name in config:
        synonyms.insert(0, (known.name, canonical(known.type, config[known.name]), ConfigSource.DYNAMIC_TOPIC))
    value, source = known.default, ConfigSource.DEFAULT
    if synonyms:
        value, source = canonical(known.type, synonyms[0][1] or ""), synonyms[0][2]
    return ConfigEntry(known.name, value, source, known.type, tuple(synonyms), known.documentation)
