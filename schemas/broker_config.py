"""Which broker configs may be changed while an agent runs, and to what. Pure.

The order of the checks and their words are Kafka's. A name that Kafka doesn't know is taken, as Kafka takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from schemas.broker_config_names import BROKER_CONFIGS, BrokerConfig, Update
from schemas.config_types import Check, ConfigType, InvalidConfig, Number, any_text, boolean
from schemas.topic_config import TOPIC_CONFIGS

_BY_LISTENER = re.compile(r"^listener\.name\.[^.]+\.(.*)$")
_STORES = re.compile(r"^ssl\.(key\.password|(keystore|truststore)\..+)$")
"""Keys and certificates: in Kafka they can be changed for one listener at a time."""
_SYNONYM_OF = {config.synonyms[0]: config for config in TOPIC_CONFIGS.values() if config.synonyms}
NUMBERS = frozenset((ConfigType.INT, ConfigType.SHORT, ConfigType.LONG, ConfigType.DOUBLE))
_DEFAULTS_OF_TOPICS = frozenset(("log.cleanup.policy", "log.message.timestamp.type", "log.cleaner.min.cleanable.ratio"))


class InvalidBrokerChange(ValueError):
    """A change of broker configs that Kafka refuses as an invalid request (42)."""


def is_list(name: str) -> bool:
    """True where words can be appended to the config and taken out."""
    known = BROKER_CONFIGS.get(name)
    return known is not None and known.type is ConfigType.LIST


def synonyms_of(name: str) -> tuple[str, ...]:
    """A broker config with those it falls back on, the nearest first."""
    known = _SYNONYM_OF.get(name)
    return (name,) if known is None else known.synonyms


def topic_config_of(name: str) -> str | None:
    """The topic config whose default this broker config is."""
    known = _SYNONYM_OF.get(name)
    return None if known is None else known.name


def validate_broker(config: Mapping[str, str], *, for_all: bool) -> None:
    """Check what shall be set on one broker, or `for_all`. Raises InvalidBrokerChange."""
    _refuse([name for name in config if not _changeable(name)], "Cannot update these configs dynamically")
    _refuse(
        [name for name in config if _STORES.match(name)],
        "These security configs can be dynamically updated only per-listener using the listener prefix",
    )
    for name, value in config.items():
        known = BROKER_CONFIGS.get(name)
        if known is not None:
            try:
                _check_of(known)(name, value)
            except InvalidConfig as invalid:
                raise InvalidBrokerChange(invalid.message) from invalid
    if for_all:
        message = "Cannot update these configs at default cluster level, broker id must be specified"
        _refuse([name for name in config if _of_one_broker(name)], message)


def _refuse(names: Sequence[str], message: str) -> None:
    if names:
        raise InvalidBrokerChange(f"{message}: [{', '.join(names)}]")


def _changeable(name: str) -> bool:
    known = BROKER_CONFIGS.get(name)
    return known is None or known.update is not Update.READ_ONLY


def _of_one_broker(name: str) -> bool:
    known = BROKER_CONFIGS.get(name)
    return (known is not None and known.update is Update.PER_BROKER) or _BY_LISTENER.match(name) is not None


def _check_of(known: BrokerConfig) -> Check:
    if known.name in _DEFAULTS_OF_TOPICS or known.name.startswith("compression."):
        return _SYNONYM_OF[known.name].check
    if known.type in NUMBERS:
        return Number(known.type, known.least)
    return boolean if known.type is ConfigType.BOOLEAN else any_text
