"""Producer ids: blocks from a database counter, handed out one by one. Never issued twice; a crash skips the rest of a block."""

from __future__ import annotations

import asyncio

from catalog.counters import take
from catalog.database import Database

BLOCK_IDS = 1000


class ProducerIdBlocks:
    """Issues producer ids; one transaction per block."""

    def __init__(self, db: Database, block_ids: int = BLOCK_IDS) -> None:
        self._db = db
        self._block_ids = block_ids
        self._next = self._end = 0
        self._lock = asyncio.Lock()

    async def issue(self) -> int:
        """A fresh producer id. Raises DatabaseError where a block can't be had."""
        async with self._lock:
            if self._next == self._end:
                first = await self._db.transact(lambda tx: take(tx, "producer_id", self._block_ids))
                self._next, self._end = first, first + self._block_ids
            self._next += 1
            return self._next - 1
