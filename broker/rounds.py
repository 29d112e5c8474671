"""Rounds of background work, for ever: the one loop behind everything that an agent looks at again and again.

Owns: a database that can't be reached ends one round, never the loop. Any other failure is one of the program's own; it
reaches the agent's supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from catalog.database import DatabaseError

log = structlog.get_logger(__name__)


async def repeat(work: Callable[[], Awaitable[object]], *, interval_s: float, failure: str) -> NoReturn:
    """Wait `interval_s`, do `work`, and again. A round that ended in a DatabaseError is logged as `failure`."""
    while True:
        await asyncio.sleep(interval_s)
        try:
            await work()
        except DatabaseError as error:
            log.warning(failure, error=str(error))
