"""Background tasks of an agent, watched: one that ends by itself is a failure of the agent, never silence.

Owns: a crash is logged with its cause, remembered for readiness, and told to `on_failure`, which fails whatever waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Supervisor:
    """Tasks that run as long as the agent does."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._told = [on_failure]
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopping = False
        self.failure: str | None = None

    def on_failure(self, tell: Callable[[], None]) -> None:
        """Tell this one too."""
        self._told.append(tell)

    def start(self, name: str, task: Coroutine[Any, Any, None]) -> None:
        """Run a background task under watch."""
        running = asyncio.get_running_loop().create_task(task)
        self._tasks[running] = name
        running.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Cancel all, in the order they were started."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        if self._stopping:
            return
        cause = "cancelled" if task.cancelled() else repr(task.exception() or "it returned")
        self.failure = f"background task {name} ended: {cause}"
        log.critical("background task ended, the agent can't go on", task=name, cause=cause)
        for tell in self._told:
            tell()
