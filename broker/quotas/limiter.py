"""How much each client used, and how long it has to wait: the core of quotas. Pure: amounts and times in, waits out.

Invariants: with no quota set, `active` is False and nothing is counted; changing the quotas forgets nothing that was used;
at most `clients_max` rates are remembered, those without recent use are forgotten first.
"""

from __future__ import annotations

from broker.quotas.entities import FETCH, PRODUCE, REQUEST
from broker.quotas.precedence import Held, Limits, Sharers
from broker.quotas.rate import WindowedRate
from catalog.quotas import Quotas

ANONYMOUS = "ANONYMOUS"
"""The user of every connection as long as nobody authenticates."""
Key = tuple[str, Sharers]


class Limiter:
    """Every quota that is enforced, for all clients of an agent. Times are monotonic milliseconds."""

    def __init__(self, windows: int, window_ms: int, clients_max: int) -> None:
        self.active = False
        """True where any quota is set: all that a request looks at otherwise."""
        self._windows = windows
        self._window_ms = window_ms
        self._clients_max = clients_max
        self._limits: dict[str, Limits] = {}
        self._held: dict[tuple[str, str], Held | None] = {}
        self._rates: dict[Key, WindowedRate] = {}

    def replace(self, quotas: Quotas) -> None:
        """These quotas hold from now on."""
        limits = {quota: Limits(quotas, quota) for quota in (PRODUCE, FETCH, REQUEST)}
        self._limits = {quota: limit for quota, limit in limits.items() if limit}
        self._held.clear()
        self.active = bool(self._limits)

    def used(self, quota: str, client_id: str, amount: float, now_ms: float) -> int:
        """Count what a client used; ms that it has to wait from now on, 0 within its quota."""
        held = self._of(quota, client_id)
        if held is None:
            return 0
        rate = self._rate(quota, held.sharers, now_ms)
        rate.record(amount, now_ms)
        wait_ms = rate.throttle_ms(held.limit, now_ms)
        return min(wait_ms, self._window_ms) if quota == REQUEST else wait_ms

    def give_back(self, quota: str, client_id: str, amount: float, now_ms: float) -> None:
        """The client didn't get what was counted."""
        held = self._of(quota, client_id)
        if held is not None:
            self._rate(quota, held.sharers, now_ms).record(-amount, now_ms)

    def most_at_once(self, quota: str, client_id: str) -> int | None:
        """What a client can use at once without being throttled in any case; None where it has no quota."""
        held = self._of(quota, client_id)
        return None if held is None else int(held.limit * (self._windows - 1) * self._window_ms / 1000)

    def limits(self, quota: str) -> bool:
        """True where this quota is set for anybody."""
        return quota in self._limits

    def _of(self, quota: str, client_id: str) -> Held | None:
        key = (quota, client_id)
        if key in self._held:
            return self._held[key]
        limits = self._limits.get(quota)
        held = None if limits is None else limits.of(ANONYMOUS, client_id)
        if len(self._held) >= self._clients_max:
            self._held.clear()
        self._held[key] = held
        return held

    def _rate(self, quota: str, sharers: Sharers, now_ms: float) -> WindowedRate:
        key = (quota, sharers)
        rate = self._rates.get(key)
        if rate is None:
            if len(self._rates) >= self._clients_max:
                self._forget(now_ms)
            rate = self._rates[key] = WindowedRate(self._windows, self._window_ms)
        return rate

    def _forget(self, now_ms: float) -> None:
        """Make room: whoever used nothing lately, else whoever came first."""
        idle = [key for key, rate in self._rates.items() if rate.idle(now_ms)]
        for key in idle or [next(iter(self._rates))]:
            del self._rates[key]
