"""Types and checks of config values, with the messages Kafka's tools expect. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

LONG_MAX = 2**63 - 1
_INTEGER = re.compile(r"^[+-]?\d+$", re.ASCII)
_THROTTLED = re.compile(r"^(\*|(\d+:\d+(,\d+:\d+)*)?)$", re.ASCII)


class ConfigType(IntEnum):
    """Types as DescribeConfigs numbers them."""

    UNKNOWN = 0
    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


_BITS = {ConfigType.INT: 31, ConfigType.SHORT: 15, ConfigType.LONG: 63}


class ConfigSource(IntEnum):
    """Where a value comes from, as DescribeConfigs numbers it."""

    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    BROKER_LOGGER = 6
    CLIENT_METRICS = 7
    GROUP = 8


Layers = Sequence[tuple[ConfigSource, Mapping[str, str]]]
"""What was set for brokers, by Kafka's names, the nearest layer first."""
Synonym = tuple[str, str | None, ConfigSource]
"""(name, value, source)."""


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """One config as DescribeConfigs shows it. `synonyms`: the one in force first."""

    name: str
    value: str | None
    source: ConfigSource
    type: ConfigType
    synonyms: tuple[Synonym, ...]
    documentation: str
    read_only: bool = False
    sensitive: bool = False


class InvalidConfig(ValueError):
    """A config that can't be set: the client is wrong (INVALID_CONFIG, 40). `name` is the config's name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


def refuse(name: str, value: str, why: str) -> InvalidConfig:
    """The error for a value, in the form of Kafka's own."""
    return InvalidConfig(name, f"Invalid value {value} for configuration {name}: {why}")


Check = Callable[[str, str], None]
"""`check(name, value)` raises InvalidConfig."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds, or one of the exceptions."""

    kind: ConfigType
    least: float | None = None
    most: float | None = None
    also: int | None = None

    def __call__(self, name: str, value: str) -> None:
        """Raise where the value is no number of the type, or out of bounds."""
        number = self._parse(name, value.strip())
        value = canonical(self.kind, value)  # Kafka tells what it has read
        if self.also is not None:
            if number != self.also and not self._inside(number):
                raise refuse(name, value, f"Value must be between {self.least} and {self.most} or equal to {self.also}")
        elif self.least is not None and number < self.least:
            raise refuse(name, value, f"Value must be at least {self.least}")
        elif self.most is not None and number > self.most:
            raise refuse(name, value, f"Value must be no more than {self.most}")

    def _inside(self, number: float) -> bool:
        return (self.least is None or number >= self.least) and (self.most is None or number <= self.most)

    def _parse(self, name: str, value: str) -> float:
        wrong = refuse(name, value, f"Not a number of type {self.kind.name}")
        if self.kind is ConfigType.DOUBLE:
            try:
                number = float(value)
            except ValueError:
                raise wrong from None
            if number != number:
                raise wrong
            return number
        # The length is checked first: a huge string of digits must not become a huge integer.
        if len(value) > 20 or not _INTEGER.match(value):
            raise wrong
        bits = _BITS[self.kind]
        if not -(2**bits) <= int(value) < 2**bits:
            raise wrong
        return int(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the given words."""

    words: tuple[str, ...]

    def __call__(self, name: str, value: str) -> None:
        """Raise for any other word."""
        if value.strip() not in self.words:
            raise refuse(name, value.strip(), f"String must be one of: {', '.join(self.words)}")


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list by comma of the given words; it may be empty."""

    words: tuple[str, ...]

    def __call__(self, name: str, value: str) -> None:
        """Raise for any other word."""
        for word in split_list(value):
            if word not in self.words:
                raise refuse(name, word, f"String must be one of: {', '.join(self.words)}")


@dataclass(frozen=True, slots=True)
class Matching:
    """A string of which a function says, by raising ValueError, what is wrong."""

    parse: Callable[[str], object]

    def __call__(self, name: str, value: str) -> None:
        """Raise with what the function says."""
        try:
            self.parse(value)
        except ValueError as error:
            raise refuse(name, value, str(error)) from error


def boolean(name: str, value: str) -> None:
    """`true` or `false`, in any case."""
    if value.strip().lower() not in ("true", "false"):
        raise refuse(name, value, "Expected value to be either true or false")


def throttled_replicas(name: str, value: str) -> None:
    """`*` or partition:broker pairs by comma."""
    if not _THROTTLED.match(value.replace(" ", "")):
        wanted = "must be the literal '*' or a list of replicas in the following format: "
        raise refuse(
            name,
            f"[{', '.join(split_list(value))}]",
            f"{name} {wanted}[partitionId]:[brokerId],[partitionId]:[brokerId],...",
        )


def any_text(name: str, value: str) -> None:
    """Whatever it is."""


def canonical(kind: ConfigType, value: str) -> str:
    """A valid value as Kafka shows it: what it was read as."""
    match kind:
        case ConfigType.BOOLEAN:
            return value.strip().lower()
        case ConfigType.INT | ConfigType.SHORT | ConfigType.LONG:
            return str(int(value))
        case ConfigType.DOUBLE:
            return _double(float(value))
        case ConfigType.LIST:
            return ",".join(split_list(value))
        case _:
            return value.strip()


def _double(number: float) -> str:
    """As Java writes it: with an exponent below a thousandth and from ten millions on."""
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)
    if number in (float("inf"), float("-inf")):
        return "Infinity" if number > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    rest = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{rest}E{exponent + len(digits) - 1}"


def split_list(value: str) -> list[str]:
    """Words of a list config; no words in an empty one."""
    return [word.strip() for word in value.split(",")] if value.strip() else []
