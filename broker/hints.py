"""Tell other agents that something was committed, after the commit, coalesced. A hint may be lost; polling is the truth."""

from __future__ import annotations

import asyncio

import structlog

from catalog.database import Database, DatabaseError

log = structlog.get_logger(__name__)

CHANNEL = "commits"


class HintSender:
    """`run` belongs to the agent's supervisor. At most one hint per `gap_s`, however many commits."""

    def __init__(self, database: Database, instance: str, *, gap_s: float) -> None:
        self._database = database
        self._instance = instance
        self._gap_s = gap_s
        self._dirty = asyncio.Event()
        self.sent = 0

    def committed(self) -> None:
        """Something was committed by this agent."""
        self._dirty.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._database.notify(CHANNEL, self._instance)
                self.sent += 1
            except DatabaseError as error:
                log.debug("hint lost", error=str(error))
            await asyncio.sleep(self._gap_s)
