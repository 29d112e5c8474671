"""What DescribeConfigs tells about a broker: the settings that clients and tools look up, by Kafka's names. Pure.

Only facts: a setting stands here where the agent has one of that name or behaves as the value says. All are read-only:
an agent takes its settings when it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from schemas.config_types import ConfigType
from schemas.settings import Settings
from schemas.topic_config import ConfigEntry, ConfigSource


class _Shown(NamedTuple):
    name: str
    type: ConfigType
    value: Callable[[Settings], object]
    field: str | None
    """The setting it comes from; None where the value is a fact that can't be set."""
    documentation: str


def _setting(name: str, kind: ConfigType) -> _Shown:
    """A setting with Kafka's name, dots as underscores."""
    field = name.replace(".", "_")
    documentation = Settings.model_fields[field].description or ""
    return _Shown(name, kind, lambda settings: getattr(settings, field), field, documentation)


def _fact(name: str, kind: ConfigType, value: str, documentation: str) -> _Shown:
    return _Shown(name, kind, lambda _: value, None, documentation)


_SHOWN = (
    _setting("auto.create.topics.enable", ConfigType.BOOLEAN),
    _Shown(
        "broker.rack",
        ConfigType.STRING,
        lambda settings: settings.zone,
        "zone",
        "Availability zone of this agent.",
    ),
    _setting("connections.max.idle.ms", ConfigType.LONG),
    _fact("compression.type", ConfigType.STRING, "producer", "Batches stay as the producer compressed them."),
    _fact("default.replication.factor", ConfigType.INT, "1", "The object store keeps the copies."),
    _fact("delete.topic.enable", ConfigType.BOOLEAN, "true", "Topics can be deleted."),
    _setting("fetch.max.bytes", ConfigType.INT),
    _fact("log.cleanup.policy", ConfigType.LIST, "delete", "Default cleanup policy of topics."),
    _fact("log.message.timestamp.type", ConfigType.STRING, "CreateTime", "Default timestamp type of topics."),
    _setting("max.connections", ConfigType.INT),
    _setting("max.connections.per.ip", ConfigType.INT),
    _setting("max.decompressed.message.bytes", ConfigType.INT),
    _setting("message.max.bytes", ConfigType.INT),
    _fact("min.insync.replicas", ConfigType.INT, "1", "Every acknowledged record is in the object store."),
    _setting("num.partitions", ConfigType.INT),
    _setting("socket.request.max.bytes", ConfigType.INT),
    _fact("unclean.leader.election.enable", ConfigType.BOOLEAN, "false", "There are no leaders to elect."),
)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_set(shown: _Shown, settings: Settings) -> bool:
    if shown.field is None:
        return False
    return bool(getattr(settings, shown.field) != Settings.model_fields[shown.field].default)


def broker_settings(settings: Settings) -> dict[str, str]:
    """The broker settings that differ from their defaults, by Kafka's names: what topic configs fall back on."""
    return {shown.name: _text(shown.value(settings)) for shown in _SHOWN if _is_set(shown, settings)}


def describe_broker(settings: Settings, broker_id: int) -> list[ConfigEntry]:
    """Every setting that is shown, by name."""
    identity = [
        _entry(name, ConfigType.INT, str(broker_id), ConfigSource.STATIC_BROKER, "The id of this agent.")
        for name in ("broker.id", "node.id")
    ]
    entries = [
        _entry(
            shown.name,
            shown.type,
            _text(shown.value(settings)),
            ConfigSource.STATIC_BROKER if _is_set(shown, settings) else ConfigSource.DEFAULT,
            shown.documentation,
        )
        for shown in _SHOWN
    ]
    return sorted([*identity, *entries], key=lambda entry: entry.name)


def _entry(name: str, kind: ConfigType, value: str, source: ConfigSource, documentation: str) -> ConfigEntry:
    return ConfigEntry(name, value, source, kind, ((name, value, source),), documentation, read_only=True)
