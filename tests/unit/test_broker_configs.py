"""Broker configs as DescribeConfigs tells them: what comes from settings, and what has to agree with other answers."""

from __future__ import annotations

import pytest

from broker.kafka.broker_configs import describe_broker, log_dir, set_values
from broker.services import BrokerView
from schemas.config_types import ConfigEntry, ConfigSource
from schemas.settings import Settings


def shown(settings: Settings) -> dict[str, ConfigEntry]:
    layers = ((ConfigSource.STATIC_BROKER, set_values(settings)),)
    return {entry.name: entry for entry in describe_broker(settings, layers, BrokerView(1, "h", 9, ""), "c1")}


@pytest.mark.parametrize(
    ("seconds", "told", "source"),
    [(0.5, "1", ConfigSource.DEFAULT), (1.0, "1", ConfigSource.DEFAULT), (2.0, "2", ConfigSource.STATIC_BROKER)],
)
def test_settings_with_fractions_are_told_in_whole_units(seconds: float, told: str, source: ConfigSource) -> None:
    entry = shown(Settings(quota_window_size_seconds=seconds))["quota.window.size.seconds"]
    assert (entry.value, entry.source) == (told, source)


def test_the_log_directory_is_the_one_that_describe_log_dirs_names() -> None:
    assert shown(Settings())["log.dirs"].value == log_dir("c1")
