"""Configs of client metrics subscriptions (KIP-714): what may be set, and how it is shown. Pure.

No agent collects client metrics; subscriptions are kept and shown so that tools can manage them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.config_types import (
    ConfigEntry,
    ConfigSource,
    ConfigType,
    InvalidConfig,
    Number,
    canonical,
    split_list,
)

INTERVAL_LEAST_MS, INTERVAL_MOST_MS = 100, 3_600_000
_INTERVAL = Number(ConfigType.INT)
_CLIENT_KEYS = frozenset(
    ("client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port")
)  # fmt: skip


class InvalidMetricsRequest(ValueError):
    """A change that Kafka calls an invalid request (42) and not an invalid config."""


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    type: ConfigType
    default: str
    documentation: str


_KNOWN = (
    _Known("interval.ms", ConfigType.INT, "300000", "How often clients send their metrics (ms)."),
    _Known("match", ConfigType.LIST, "", "Which clients: pairs of a client property and a pattern."),
    _Known("metrics", ConfigType.LIST, "", "Prefixes of the names of the metrics that are wanted."),
)


def validate_metrics(config: Mapping[str, str]) -> None:
    """Check what shall be set on a subscription. Raises InvalidConfig or InvalidMetricsRequest, as Kafka tells them apart."""
    names = {known.name for known in _KNOWN}
    for name in config:
        if name not in names:
            raise InvalidMetricsRequest(f"Unknown client metrics configuration: {name}")
    if "interval.ms" in config:
        _INTERVAL("interval.ms", config["interval.ms"])
        interval_ms = int(config["interval.ms"])
        if not INTERVAL_LEAST_MS <= interval_ms <= INTERVAL_MOST_MS:
            bounds = f"interval must be between {INTERVAL_LEAST_MS} and {INTERVAL_MOST_MS} (1 hour)"
            raise InvalidMetricsRequest(f"Invalid value {interval_ms} for interval.ms, {bounds}")
    for pair in split_list(config.get("match", "")):
        _check_match(pair)


def _check_match(pair: str) -> None:
    wrong = InvalidConfig("match", f"Illegal client matching pattern: {pair}")
    key, separator, pattern = (part.strip() for part in pair.partition("="))
    if not separator or key not in _CLIENT_KEYS:
        raise wrong
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise wrong from None


def describe_metrics(config: Mapping[str, str]) -> list[ConfigEntry]:
    """Every config of a subscription, by name."""
    return [_entry(known, config) for known in _KNOWN]


def _entry(known: _Known, config: Mapping[str, str]) -> ConfigEntry:
    if known.name not in config:
        return ConfigEntry(known.name, known.default, ConfigSource.DEFAULT, known.type, (), known.documentation)
    value = canonical(known.type, config[known.name])
    synonym = (known.name, value, ConfigSource.CLIENT_METRICS)
    return ConfigEntry(known.name, value, ConfigSource.CLIENT_METRICS, known.type, (synonym,), known.documentation)
