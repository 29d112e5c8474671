"""Which faults are armed, how likely each is, and how often each fired.

A fault is a kind (one word of `KINDS`; those of store and database are points of `schemas.fault_points`). Code under
simulation asks `take(kind)` where the fault would strike, and the table of running agents decides: it strikes when the
nemesis armed it, or by chance at the kind's rate. After `heal` nothing strikes any more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from broker.faults.table import FaultTable
from schemas.fault_points import POINTS, FaultRule

NETWORK = ("request_lost", "reply_lost", "half_open", "latency", "reset", "partition")
STORE = tuple(point.name for point in POINTS.values() if point.place == "store" and point.survivable)
DATABASE = (*(point.name for point in POINTS.values() if point.place == "database"), "db_stopped")
HOSTS = ("kill", "pause", "pause_past_lease", "sweep")
GROUPS = ("zombie_write",)
KINDS = NETWORK + STORE + DATABASE + HOSTS + GROUPS


class Faults:
    """Armed faults and counters of one run."""

    def __init__(self, rng: random.Random, rates: Mapping[str, float] | None = None) -> None:
        self.healed = False
        self.fired: dict[str, int] = dict.fromkeys(KINDS, 0)
        self._table = FaultTable(rng, self.note)
        self._chances = [FaultRule(kind, rate) for kind, rate in (rates or {}).items() if rate]
        self._only_chances()

    def arm(self, kind: str, times: int = 1) -> None:
        """Let `kind` strike the next `times` times it can."""
        assert kind in self.fired, f"unknown fault {kind!r}"
        self._table.add(FaultRule(kind, times=times), first=True)

    def take(self, kind: str) -> bool:
        """True where `kind` strikes now; counted as fired."""
        return not self.healed and self._table.strike(kind) is not None

    def note(self, kind: str) -> None:
        """Count a fault, also one that the nemesis brought about itself (kill, pause, partition, ...)."""
        self.fired[kind] += 1

    def heal(self) -> None:
        """Nothing strikes from now on."""
        self.healed = True
        self._only_chances()

    def _only_chances(self) -> None:
        self._table.replace((rule, float("inf")) for rule in self._chances)

    @property
    def total(self) -> int:
        """Faults fired so far; a slow packet alone is none."""
        return sum(self.fired.values()) - self.fired["latency"]
