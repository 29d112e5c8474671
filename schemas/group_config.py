"""Configs of groups: one table with types, defaults, bounds and the broker configs they fall back on. Pure.

They tune the newer group protocols (consumer, share, streams); classic groups, whose members bring their own timeouts,
don't read them. Stored and shown so that tools can set them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.broker_config_names import BROKER_CONFIGS
from schemas.config_types import (
    Check,
    ConfigEntry,
    ConfigSource,
    ConfigType,
    InvalidConfig,
    Number,
    OneOf,
    Synonym,
    boolean,
    canonical,
    refuse,
)

_DURATION = re.compile(r"^P(?=\d|T\d)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """One group config. `bounded` is the middle of the names of the broker configs between which its value has to lie."""

    name: str
    type: ConfigType
    default: str
    check: Check
    documentation: str
    bounded: str | None = None

    @property
    def synonym(self) -> str:
        """The broker config it falls back on; its own name where there is none."""
        name = f"group.{self.name}"
        return name if name in BROKER_CONFIGS else self.name


def _offset_reset(name: str, value: str) -> None:
    text = value.strip()
    kind, _, duration = text.partition(":")
    if text not in ("earliest", "latest") and (kind != "by_duration" or not _DURATION.match(duration)):
        wanted = "The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        raise refuse(name, value, f"Invalid value `{value}` for configuration {name}. {wanted}")


def _int(name: str, default: int, least: int, doc: str, bounded: str | None = None) -> GroupConfig:
    return GroupConfig(name, ConfigType.INT, str(default), Number(ConfigType.INT, least), doc, bounded)


def _timings(kind: str) -> tuple[GroupConfig, ...]:
    """What all newer protocols have; the bounds are those of the same name."""
    return (
        _int(f"{kind}.heartbeat.interval.ms", 5_000, 1, f"How often members of a {kind} group report (ms).", kind),
        _int(f"{kind}.session.timeout.ms", 45_000, 1, f"A member of a {kind} group that is silent for this long is gone (ms).", kind),
        _int(f"{kind}.assignment.interval.ms", 1_000, 0, f"Least time between two assignments of a {kind} group (ms).", kind),
    )  # fmt: skip


_IN_ORDER = (
    *_timings("consumer"),
    *_timings("share"),
    _int("share.record.lock.duration.ms", 30_000, 1_000, "How long a record stays with the member that took it (ms).", "share"),
    _int("share.delivery.count.limit", 5, 2, "How often a record is delivered at most.", "share"),
    _int("share.partition.max.record.locks", 2_000, 100, "Records of a partition that may be with members at once.", "share"),
    *_timings("streams"),
    _int("streams.num.standby.replicas", 0, 0, "Standby replicas of each task."),
    _int("streams.initial.rebalance.delay.ms", 3_000, 0, "How long a new streams group waits for more members (ms)."),
    GroupConfig("share.auto.offset.reset", ConfigType.STRING, "latest", _offset_reset, "Where a share group begins: earliest, latest, or by_duration and an ISO 8601 duration."),
    GroupConfig("share.isolation.level", ConfigType.STRING, "read_uncommitted", OneOf(("read_committed", "read_uncommitted")), "Which records of transactions a share group sees."),
    GroupConfig("share.renew.acknowledge.enable", ConfigType.BOOLEAN, "true", boolean, "Let members of a share group keep a record for longer."),
)  # fmt: skip
GROUP_CONFIGS: Mapping[str, GroupConfig] = {config.name: config for config in _IN_ORDER}
_STANDBY = ("streams.num.standby.replicas", "group.streams.max.standby.replicas")


def validate_group(config: Mapping[str, str]) -> None:
    """Check what shall be set on a group. Raises InvalidConfig, in Kafka's words."""
    for name in config:
        if name not in GROUP_CONFIGS:
            raise InvalidConfig(name, f"Unknown group config name: {name}")
    for name, value in config.items():
        GROUP_CONFIGS[name].check(name, value)
    for known in _IN_ORDER:
        if known.name in config and known.bounded is not None:
            _check_bounds(known.name, known.bounded, int(config[known.name]))
    standby, most = _STANDBY
    if int(config.get(standby, "0")) > _broker(most):
        raise InvalidConfig(standby, f"{standby} must be less than or equal to {most}")
    for kind in ("consumer", "share", "streams"):
        _check_order(config, f"{kind}.session.timeout.ms", f"{kind}.heartbeat.interval.ms")


def _check_bounds(name: str, kind: str, value: int) -> None:
    rest = name.removeprefix(f"{kind}.")
    if value < _broker(least := f"group.{kind}.min.{rest}"):
        raise InvalidConfig(name, f"{name} must be greater than or equal to {least}")
    if value > _broker(most := f"group.{kind}.max.{rest}"):
        raise InvalidConfig(name, f"{name} must be less than or equal to {most}")


def _check_order(config: Mapping[str, str], longer: str, shorter: str) -> None:
    values = [int(config.get(name, GROUP_CONFIGS[name].default)) for name in (longer, shorter)]
    if values[0] <= values[1]:
        raise InvalidConfig(longer, f"{longer} must be greater than {shorter}")


def _broker(name: str) -> int:
    return int(BROKER_CONFIGS[name].default or "0")


def describe_group(config: Mapping[str, str]) -> list[ConfigEntry]:
    """Every group config, by name."""
    return [_entry(GROUP_CONFIGS[name], config) for name in sorted(GROUP_CONFIGS)]


def _entry(known: GroupConfig, config: Mapping[str, str]) -> ConfigEntry:
    synonyms: list[Synonym] = [(known.synonym, known.default, ConfigSource.DEFAULT)]
    if known.name in config:
        synonyms.insert(0, (known.name, canonical(known.type, config[known.name]), ConfigSource.GROUP))
    _, value, source = synonyms[0]
    return ConfigEntry(known.name, value, source, known.type, tuple(synonyms), known.documentation)
