"""Clocks of simulated machines: virtual time on a fixed date, each host's wall clock off by its own skew."""

from __future__ import annotations

from neve.simulation.loop import SimLoop

BEGAN_MS = 1_700_000_000_000


class SimClock:
    """A `broker.services.Clock` over the loop's virtual time. `skew_ms` may be changed during the run (a clock that jumps)."""

    def __init__(self, loop: SimLoop, skew_ms: int = 0) -> None:
        self.skew_ms = skew_ms
        self._loop = loop

    def now_ms(self) -> int:
        """Unix milliseconds of this machine's wall clock."""
        return BEGAN_MS + int(self._loop.time() * 1000) + self.skew_ms

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self._loop.time()
