"""What happens at a fault point, decided from rules and a random number: the same for the simulation and running agents.

No IO, no clock of its own. The first rule that fits and whose chance comes up strikes; nothing is drawn for a point
without rules, so that adding one changes no other point's draws. A rule that is kept over a `replace` keeps its budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import Protocol

from schemas.fault_points import POINTS, FaultRule

FOR_EVER = float("inf")


class Chance(Protocol):
    """What is needed of a `random.Random`."""

    def random(self) -> float:
        """From 0 up to but not 1."""
        ...


@dataclass(slots=True)
class _Armed:
    rule: FaultRule
    until_s: float
    left: float
    fits: Callable[[str], object] | None
    fired: int = 0


class FaultTable:
    """The rules in force. `until_s` and `now_s` are of one clock, in seconds."""

    def __init__(self, rng: Chance, on_fired: Callable[[str], None] | None = None) -> None:
        self.fired: dict[str, int] = dict.fromkeys(POINTS, 0)
        """Strikes by point."""
        self._rng = rng
        self._on_fired = on_fired
        self._rules: dict[str, list[_Armed]] = {}

    def add(self, rule: FaultRule, until_s: float = FOR_EVER, *, first: bool = False) -> None:
        """One more rule, behind the others of its point or before them."""
        left = FOR_EVER if rule.times is None else rule.times
        fits = None if rule.pattern == "*" else re.compile(translate(rule.pattern)).match
        armed = _Armed(rule, until_s, left, fits)
        rules = self._rules.setdefault(rule.point, [])
        rules.insert(0 if first else len(rules), armed)

    def replace(self, rules: Iterable[tuple[FaultRule, float]]) -> None:
        """Exactly these (rule, until when). One that was there, by its number, goes on with what is left of its budget."""
        known = {armed.rule.number: armed for each in self._rules.values() for armed in each if armed.rule.number}
        self._rules = {}
        for rule, until_s in rules:
            before = known.get(rule.number)
            if before is not None and before.rule == rule:
                before.until_s = until_s
                self._rules.setdefault(rule.point, []).append(before)
            else:
                self.add(rule, until_s)

    def armed(self, point: str) -> bool:
        """Is there any rule for this point?"""
        return point in self._rules

    def fired_by(self, number: int) -> int:
        """Strikes of one rule."""
        return sum(a.fired for each in self._rules.values() for a in each if a.rule.number == number)

    def strike(self, point: str, subject: str = "", now_s: float = 0.0) -> FaultRule | None:
        """The rule that strikes here and now, counted; None where all is well."""
        for armed in self._rules.get(point, ()):
            if not armed.left or now_s >= armed.until_s or (armed.fits is not None and not armed.fits(subject)):
                continue
            if armed.rule.rate < 1.0 and self._rng.random() >= armed.rule.rate:
                continue
            armed.left -= 1
            armed.fired += 1
            self.fired[point] = self.fired.get(point, 0) + 1
            if self._on_fired is not None:
                self._on_fired(point)
            return armed.rule
        return None
