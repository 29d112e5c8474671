"""Which faults are armed, how likely each is, and how often each fired.

A fault is a kind (one word of `KINDS`). Code under simulation asks `take(kind)` where the fault would strike. It strikes
when the nemesis armed it, or by chance at the kind's rate. After `heal` nothing strikes any more.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

NETWORK = ("request_lost", "reply_lost", "half_open", "latency", "reset", "partition")
STORE = (
    "put_refused",
    "put_landed_unknown",
    "put_lost_unknown",
    "put_landed_late",
    "put_torn",
    "put_slow",
    "get_refused",
    "get_truncated",
    "get_flipped",
    "get_slow",
    "delete_refused",
    "delete_partial",
    "delete_unconfirmed",
    "list_refused",
)
DATABASE = ("db_refused", "db_reply_lost", "db_request_lost", "db_landed_late", "db_slow", "db_stopped")
HOSTS = ("kill", "pause", "pause_past_lease", "sweep")
GROUPS = ("zombie_write",)
KINDS = NETWORK + STORE + DATABASE + HOSTS + GROUPS


class Faults:
    """Armed faults and counters of one run."""

    def __init__(self, rng: random.Random, rates: Mapping[str, float] | None = None) -> None:
        self.fired: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.healed = False
        self._rng = rng
        self._rates = dict(rates or {})
        self._armed: dict[str, int] = {}

    def arm(self, kind: str, times: int = 1) -> None:
        """Let `kind` strike the next `times` times it can."""
        assert kind in self.fired, f"unknown fault {kind!r}"
        self._armed[kind] = self._armed.get(kind, 0) + times

    def take(self, kind: str) -> bool:
        """True where `kind` strikes now; counted as fired."""
        if self.healed:
            return False
        armed = self._armed.get(kind, 0)
        if armed:
            self._armed[kind] = armed - 1
        else:
            rate = self._rates.get(kind, 0.0)
            if not rate or self._rng.random() >= rate:
                return False
        self.fired[kind] += 1
        return True

    def note(self, kind: str) -> None:
        """Count a fault that the nemesis brought about itself (kill, pause, partition, ...)."""
        self.fired[kind] += 1

    def heal(self) -> None:
        """Nothing strikes from now on."""
        self.healed = True
        self._armed.clear()

    @property
    def total(self) -> int:
        """Faults fired so far; a slow packet alone is none."""
        return sum(self.fired.values()) - self.fired["latency"]
