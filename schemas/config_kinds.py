"""Kinds of resources that have configs, as Kafka numbers them. Pure."""

from __future__ import annotations

from enum import IntEnum


class ConfigKind(IntEnum):
    """One kind of resource."""

    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32
