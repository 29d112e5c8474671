"""Threads for work that would hold up the loop: looking into records. Bounded in threads and in waiting calls.

At the bound callers wait in order; nothing is refused and nothing piles up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from catalog.threads import Threads

T = TypeVar("T")


class ThreadWorkers:
    """services.Workers over a few threads."""

    def __init__(self, threads: int, waiting_max: int) -> None:
        self._threads = Threads(threads, "neve-records")
        self._slots = asyncio.Semaphore(threads + waiting_max)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`, or its exception."""
        async with self._slots:
            return await self._threads.call(work)

    async def close(self) -> None:
        """Finish what was taken, end the threads."""
        await self._threads.close()
