"""Long polls: who waits for which shard, and who wakes them.

Woken by this agent's own commits at once, by other agents' hints, and by polling (broker.fetch.poller). Hints may be
lost: polling is the truth. Owns: a waiter is woken at most once and leaves no trace behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from catalog.sequence import ShardKey


class Waiters:
    """Waiting fetches by shard, in the order they came."""

    def __init__(self) -> None:
        self._waiting: dict[ShardKey, dict[asyncio.Future[None], None]] = {}
        self.count = 0
        self.anyone = asyncio.Event()
        """Set while somebody waits."""

    def keys(self) -> list[ShardKey]:
        """Shards somebody waits for."""
        return list(self._waiting)

    def wake(self, key: ShardKey) -> None:
        """Something may be new in this shard."""
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    def wake_all(self) -> None:
        """Let everybody look again (used at shutdown)."""
        for key in self.keys():
            self.wake(key)

    async def wait(self, keys: Iterable[ShardKey], timeout_s: float) -> None:
        """Return when one of the shards is woken or the time is over."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        mine = list(dict.fromkeys(keys))
        for key in mine:
            self._waiting.setdefault(key, {})[future] = None
        self.count += 1
        self.anyone.set()
        timer = loop.call_later(max(0.0, timeout_s), _ring, future)
        try:
            await future
        finally:
            timer.cancel()
            self.count -= 1
            if not self.count:
                self.anyone.clear()
            for key in mine:
                waiting = self._waiting[key]
                del waiting[future]
                if not waiting:
                    del self._waiting[key]


def _ring(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
