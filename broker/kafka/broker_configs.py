"""The configs of a broker by Kafka's names: what of them is set here, and how DescribeConfigs tells them. Pure.

Kafka's whole list is told, since tools and clients read it. A config means something where the agent has a setting of
that name, where it is the default of a topic config, or where the agent behaves as the value says; the others carry
Kafka's default, and their documentation says that they are without effect.

Owns: what was set in the database (by AlterConfigs) comes before the settings that the agent was started with, and what
was set for one broker before what was set for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from broker.services import BrokerView, Configs
from schemas.broker_config import synonyms_of, topic_config_of
from schemas.broker_config_names import BROKER_CONFIGS, Update
from schemas.config_kinds import ConfigKind
from schemas.config_types import ConfigEntry, ConfigSource, ConfigType, Layers, Synonym, canonical
from schemas.settings import Settings
from schemas.topic_config import TOPIC_CONFIGS, broker_synonyms

_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        name: name.replace(".", "_")
        for name in BROKER_CONFIGS
        if name.replace(".", "_") in Settings.model_fields and name != "broker.id"
    }
    | {"broker.rack": "zone"}
)
"""Kafka's name -> the setting it comes from."""
_WITHOUT_EFFECT = "Told for Kafka's tools; without effect here."
_FACTS = {
    "advertised.listeners": "Where clients reach this agent.",
    "broker.id": "The id of this agent.",
    "compression.type": "Batches stay as the producer compressed them.",
    "default.replication.factor": "The object store keeps the copies.",
    "listeners": "Where clients reach this agent.",
    "log.dirs": "Where records are kept.",
    "min.insync.replicas": "Every acknowledged record is in the object store.",
    "node.id": "The id of this agent.",
    "process.roles": "What this process does.",
    "unclean.leader.election.enable": "There are no leaders to elect.",
}
"""Documentation of what isn't a setting and yet so."""


class _Told(NamedTuple):
    """A setting as Kafka's config."""

    value: str | None
    default: str | None


def _told(name: str, settings: Settings) -> _Told:
    field = _SETTINGS[name]
    return _Told(_text(getattr(settings, field)), _text(Settings.model_fields[field].default))


def _text(value: object) -> str | None:
    """As Kafka writes it; nothing for what isn't set."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(math.ceil(value))  # Kafka counts in whole units where a setting of ours has fractions
    return None if value in (None, "") else str(value)


def set_values(settings: Settings) -> dict[str, str]:
    """The settings that differ from their defaults, by Kafka's names."""
    told = {name: _told(name, settings) for name in _SETTINGS}
    return {name: one.value for name, one in told.items() if one.value is not None and one.value != one.default}


def log_dir(cluster_id: str) -> str:
    """The name of the one log directory that tools are told of, the same for every agent."""
    return f"/{cluster_id}/segments"


def _identity(cluster_id: str, broker: BrokerView) -> dict[str, str]:
    address = f"PLAINTEXT://{broker.host}:{broker.port}"
    return {
        "advertised.listeners": address,
        "broker.id": str(broker.broker_id),
        "listeners": address,
        "log.dirs": log_dir(cluster_id),
        "node.id": str(broker.broker_id),
        "process.roles": "broker",
    }


def broker_layers(settings: Settings, configs: Configs, broker: BrokerView) -> Layers:
    """What is set for a broker, the nearest layer first."""
    return (
        (ConfigSource.DYNAMIC_BROKER, configs.of(ConfigKind.BROKER, str(broker.broker_id))),
        (ConfigSource.DYNAMIC_DEFAULT_BROKER, configs.of(ConfigKind.BROKER, "")),
        (ConfigSource.STATIC_BROKER, set_values(settings)),
    )


def nearest_values(layers: Layers) -> dict[str, str]:
    """The value in force of everything that is set."""
    return {name: value for _, layer in reversed(layers) for name, value in layer.items()}


def value_in_force(name: str, settings: Settings, configs: Configs, broker: BrokerView) -> str | None:
    """What a config that comes from a setting is right now: as changed while the agent runs, else as it was started with."""
    for kind_name in (str(broker.broker_id), ""):
        value = configs.of(ConfigKind.BROKER, kind_name).get(name)
        if value is not None:
            return canonical(BROKER_CONFIGS[name].type, value)
    return _told(name, settings).value


def describe_broker(settings: Settings, layers: Layers, broker: BrokerView, cluster_id: str) -> list[ConfigEntry]:
    """Every config of a broker, by name."""
    defaults = {name: default for name in _SETTINGS if (default := _told(name, settings).default) is not None}
    *dynamic, (static, values) = layers
    layers = (*dynamic, (static, {**values, **_identity(cluster_id, broker)}))
    names = BROKER_CONFIGS.keys() | {name for _, layer in dynamic for name in layer}
    return [_entry(name, broker_synonyms(synonyms_of(name), layers, defaults)) for name in sorted(names)]


def describe_all_brokers(configs: Configs) -> list[ConfigEntry]:
    """What is set for all brokers at once."""
    config = configs.of(ConfigKind.BROKER, "")
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER
    return [_entry(name, [(name, config[name], source)]) for name in sorted(config)]


def _entry(name: str, synonyms: list[Synonym]) -> ConfigEntry:
    known = BROKER_CONFIGS.get(name)
    kind = ConfigType.UNKNOWN if known is None else known.type
    sensitive = kind in (ConfigType.UNKNOWN, ConfigType.PASSWORD)
    value, source = (synonyms[0][1], synonyms[0][2]) if synonyms else (None, ConfigSource.DEFAULT)
    if sensitive:
        value, synonyms = None, [(synonym, None, of) for synonym, _, of in synonyms]
    elif value is not None:
        value = canonical(kind, value)
    read_only = known is None or known.update is Update.READ_ONLY
    return ConfigEntry(name, value, source, kind, tuple(synonyms), documentation_of(name), read_only, sensitive)


def documentation_of(name: str) -> str:
    """What a broker config does here."""
    if name in _SETTINGS:
        return Settings.model_fields[_SETTINGS[name]].description or ""
    topic_config = topic_config_of(name)
    if name in _FACTS:
        return _FACTS[name]
    if topic_config is not None:
        return f"What topics without {topic_config} have: {TOPIC_CONFIGS[topic_config].documentation}"
    return _WITHOUT_EFFECT
