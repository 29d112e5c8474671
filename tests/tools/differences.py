"""Where the screens differ and are meant to: at most ten rows, each with its reason.

A row takes lines away on both sides of the steps it names; what is left has to be the same. A row that takes nothing
away in one of its steps is wrong and fails the test, so nothing stays here that isn't so any more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """One deviation that users of the tools see."""

    what: str
    reason: str
    steps: tuple[str, ...]
    kafka: str | None = None
    """Lines that only Kafka's side prints: a pattern for a whole line."""
    neve: str | None = None
    kafka_ends: str = ""
    """How the tool ends, where that differs too, such as "exit code 1"."""
    neve_ends: str = ""

    def without_kafka(self, lines: list[str]) -> list[str]:
        """Kafka's lines but for those that only it prints."""
        return _without(self.kafka, lines)

    def without_neve(self, lines: list[str]) -> list[str]:
        """Neve's lines but for those that only it prints."""
        return _without(self.neve, lines)


def _without(pattern: str | None, lines: list[str]) -> list[str]:
    return lines if pattern is None else [line for line in lines if not re.fullmatch(pattern, line)]


DIFFERENCES: tuple[Difference, ...] = ()
