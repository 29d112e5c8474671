"""What a client used in the last few seconds, in windows, and how long it has to wait to be back below a limit. Pure.

Kafka's arithmetic: the amount is added up in windows of fixed length, of which a set number is remembered; the rate is
their sum over the time since the oldest of them began, taken as at least all windows but one. So a client that was idle
may use in one go what the limit allows in that time.
"""

from __future__ import annotations

from collections import deque

THROTTLE_MS_MAX = 2**31 - 1


class WindowedRate:
    """Amounts per second. Times are milliseconds of a clock that never goes back."""

    __slots__ = ("_count", "_sums", "_window_ms")

    def __init__(self, count: int, window_ms: int) -> None:
        self._count = count
        self._window_ms = window_ms
        self._sums: deque[list[float]] = deque()
        """[began, sum] of each window, oldest first."""

    def record(self, amount: float, now_ms: float) -> None:
        """Add an amount; a negative one takes back what was added."""
        self._forget(now_ms)
        sums = self._sums
        if not sums or now_ms - sums[-1][0] >= self._window_ms:
            sums.append([now_ms, 0.0])
        sums[-1][1] += amount

    def throttle_ms(self, limit: float, now_ms: float) -> int:
        """How long nothing may be added until the rate is the limit again; 0 where it isn't above it."""
        self._forget(now_ms)
        if not self._sums:
            return 0
        spread_ms = self._spread_ms(now_ms)
        rate = sum(amount for _, amount in self._sums) * 1000 / spread_ms
        if not rate > limit:
            return 0
        return round(min((rate - limit) / limit * spread_ms, THROTTLE_MS_MAX)) if limit > 0 else THROTTLE_MS_MAX

    def idle(self, now_ms: float) -> bool:
        """True where nothing is remembered any more."""
        self._forget(now_ms)
        return not self._sums

    def _forget(self, now_ms: float) -> None:
        sums = self._sums
        kept_ms = self._count * self._window_ms
        while sums and now_ms - sums[0][0] >= kept_ms:
            sums.popleft()

    def _spread_ms(self, now_ms: float) -> float:
        """The time that the sum stands for."""
        elapsed_ms = now_ms - self._sums[0][0]
        missing = self._count - 1 - int(elapsed_ms // self._window_ms)
        return max(elapsed_ms + max(missing, 0) * self._window_ms, 1.0)
