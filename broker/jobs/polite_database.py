"""The metadata database of a process that runs jobs, where it is one file with one write lock for all processes: jobs leave it free.

A process that writes one transaction right after the other starves those that look for the lock now and then. So after each
write the lock is left alone, for so long that jobs hold it `job_write_share` of the time at most: agents nearly always find
it free, and wait for one transaction otherwise. Reads wait for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal, TypeVar

from broker.services import Clock
from catalog.database import Database, Transaction

T = TypeVar("T")
REST_MAX_S = 1.0


class PoliteDatabase:
    """catalog.database.Database over another one, which it owns."""

    dialect: Literal["sqlite", "postgresql"]

    def __init__(self, database: Database, clock: Clock, share: float) -> None:
        self._database = database
        self._clock = clock
        self._rest_times = 1 / share - 1
        self._free_s = clock.monotonic()
        """The next write may begin then."""
        self._turn = asyncio.Lock()
        self.dialect = database.dialect

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """See the port. Begins only when the rest after the write before is over."""
        async with self._turn:
            await asyncio.sleep(max(0.0, self._free_s - self._clock.monotonic()))
            began_s = self._clock.monotonic()
            try:
                return await self._database.transact(body, small=small)
            finally:
                ended_s = self._clock.monotonic()
                self._free_s = ended_s + min((ended_s - began_s) * self._rest_times, REST_MAX_S)

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port."""
        return await self._database.snapshot(body)

    def version(self) -> Hashable | None:
        """See the port."""
        return self._database.version()

    async def notify(self, channel: str, payload: str) -> None:
        """See the port."""
        await self._database.notify(channel, payload)

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """See the port."""
        await self._database.listen(channel, on_payload)

    async def close(self) -> None:
        """Close what is below."""
        await self._database.close()


def polite(database: Database, clock: Clock, share: float) -> Database:
    """The database as jobs use it."""
    return PoliteDatabase(database, clock, share) if database.dialect == "sqlite" else database
