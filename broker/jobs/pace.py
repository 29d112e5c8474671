"""How much of the time jobs work, and how long they rest in between. Pure.

Up to a load of `BUSY_FIRST` they work all the time; above, their share falls evenly, down to a least share when clients take
everything: what is never compacted or deleted costs clients more in the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.jobs.port import Load

BUSY_FIRST = 0.3
BUSY_ALL = 0.8
LAG_ALL_MS = 20.0
"""An agent whose loop is late by so much has no time to give, however idle the machine is."""


def share_of(load: Load, share_min: float) -> float:
    """Share of the time that jobs work, `share_min` to 1."""
    beyond = (load.busy - BUSY_FIRST) / (BUSY_ALL - BUSY_FIRST)
    return 1.0 - min(max(beyond, 0.0), 1.0) * (1.0 - share_min)


def rest_ms(worked_ms: float, share: float, rest_max_ms: float) -> float:
    """Rest after so much work."""
    return min(worked_ms * (1.0 / share - 1.0), rest_max_ms)


def load_of(cpu_busy: float, late_ms: float) -> Load:
    """The load, from the share of the machine's CPU that others than jobs take, and how late the agent's loop is."""
    return Load(min(max(cpu_busy, late_ms / LAG_ALL_MS * BUSY_ALL, 0.0), 1.0))


def mostly_ms(lags_ms: Sequence[float]) -> float:
    """How late the loop is most of the time: once is chance."""
    return sorted(lags_ms)[len(lags_ms) * 3 // 4] if lags_ms else 0.0
