"""Types and checks of config values, with the messages Kafka's tools expect. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

LONG_MAX = 2**63 - 1
_INTEGER = re.compile(r"^[+-]?\d+$", re.ASCII)
_THROTTLED = re.compile(r"^(\*|(\d+:\d+(,\d+:\d+)*)?)$", re.ASCII)


class ConfigType(IntEnum):
    """Types as DescribeConfigs numbers them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


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
        bits = 31 if self.kind is ConfigType.INT else 63
        if not -(2**bits) <= int(value) < 2**bits:
            raise wrong
        return int(value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the given words."""

    words: tuple[str, ...]

    def __call__(self, name: str, value: str) -> None:
        """Raise for any other word."""
        if value not in self.words:
            raise refuse(name, value, f"String must be one of: {', '.join(self.words)}")


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


def split_list(value: str) -> list[str]:
    """Words of a list config; no words in an empty one."""
    return [word.strip() for word in value.split(",")] if value.strip() else []
