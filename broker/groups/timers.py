"""Deadlines of one group, as values: the shell sleeps until `wake_ms` and asks for what is due. Pure.

A deadline that is moved later costs nothing but its dictionary entry (heartbeats do that all the time), so `wake_ms` may
be earlier than the earliest deadline; the machine then finds nothing due and tells the next one.
"""

from __future__ import annotations

TimerKey = tuple[str, str]


class Timers:
    """Deadlines by key, in the caller's monotonic ms."""

    __slots__ = ("_due", "wake_ms")

    def __init__(self) -> None:
        self._due: dict[TimerKey, int] = {}
        self.wake_ms: int | None = None
        """Not later than the earliest deadline; None without any."""

    def __contains__(self, key: TimerKey) -> bool:
        return key in self._due

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: TimerKey, due_ms: int) -> None:
        """Set or move a deadline."""
        self._due[key] = due_ms
        if self.wake_ms is None or due_ms < self.wake_ms:
            self.wake_ms = due_ms

    def drop(self, key: TimerKey) -> None:
        """Forget a deadline, if there is one."""
        self._due.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._due.clear()
        self.wake_ms = None

    def due(self, now_ms: int) -> list[TimerKey]:
        """What is due, earliest first; it stays until `take`. Sets `wake_ms` anew."""
        found = sorted((at, key) for key, at in self._due.items() if at <= now_ms)
        self.wake_ms = min(self._due.values(), default=None)
        return [key for _, key in found]

    def take(self, key: TimerKey, now_ms: int) -> bool:
        """Remove a deadline if it is (still) due: what was done for an earlier one may have moved it."""
        at = self._due.get(key)
        if at is None or at > now_ms:
            return False
        del self._due[key]
        return True
