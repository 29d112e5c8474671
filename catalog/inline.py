"""The database port run inline on the event loop's thread, for the simulation: no threads, injected clock, injected faults.

It runs the same statements as `SqliteDatabase` on an in-memory database (or a file). Several agents of one simulated
cluster share the data through `handle`, each with faults of its own. Nothing interleaves with a body, so transactions
and snapshots are trivially serialised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from catalog.database import CommitUnknown, Transaction, Unreachable
from catalog.sqlite_statements import SqliteTransaction, connect, drive, run_read, run_write

T = TypeVar("T")
Operation = Literal["transact", "snapshot", "notify"]
Fate = Literal["lands", "refused", "lost", "reply-lost"]
"""What happens to one write: it lands; it is refused with nothing committed (Unreachable); the connection is lost while
committing, without (`lost`) or with (`reply-lost`) the commit having landed (CommitUnknown both times)."""


class DatabaseFaults(Protocol):
    """What may go wrong on one handle. The simulation implements it over its own random numbers and clock."""

    async def before(self, operation: Operation) -> None:
        """Runs before the operation; may sleep (an added delay) and may raise Unreachable."""
        ...

    def fate(self) -> Fate:
        """The fate of one write transaction."""
        ...

    async def after(self, operation: Operation) -> None:
        """Runs after the operation took effect, before its answer; may sleep."""
        ...


class InlineDatabase:
    """The port over one connection, without threads."""

    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(
        self, now_ms: Callable[[], int], *, path: Path | str = ":memory:", faults: DatabaseFaults | None = None
    ) -> None:
        self._now_ms = now_ms
        self._faults = faults
        self._connection = connect(path, now_ms, synchronous="OFF", busy_timeout_ms=10_000)
        self._listeners: list[tuple[str, Callable[[str], None]]] = []
        self._owner = True

    def handle(self, faults: DatabaseFaults | None = None) -> InlineDatabase:
        """Another client of the same database, with faults of its own. Closing it leaves the data alone."""
        other = object.__new__(InlineDatabase)
        other._now_ms = self._now_ms
        other._faults = faults
        other._connection = self._connection
        other._listeners = self._listeners
        other._owner = False
        return other

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """Run `body` in one write transaction, now."""
        if self._faults is None:
            return run_write(self._connection, self._now_ms, body)
        await self._faults.before("transact")
        fate = self._faults.fate()
        if fate == "refused":
            raise Unreachable("injected: the database refused")
        if fate == "lost":
            self._run_and_roll_back(body)
            raise CommitUnknown("injected: the connection was lost before the commit landed")
        result = run_write(self._connection, self._now_ms, body)
        await self._faults.after("transact")
        if fate == "reply-lost":
            raise CommitUnknown("injected: the commit landed and its reply was lost")
        return result

    def _run_and_roll_back(self, body: Callable[[Transaction], Awaitable[T]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            drive(body(SqliteTransaction(self._connection, self._now_ms)))
        finally:
            self._connection.rollback()

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `body` in one read snapshot, now."""
        if self._faults is None:
            return self._read(body)
        await self._faults.before("snapshot")
        result = self._read(body)
        await self._faults.after("snapshot")
        return result

    def _read(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        self._connection.execute("PRAGMA query_only = ON")  # the one connection writes too, but not in here
        try:
            return run_read(self._connection, self._now_ms, body)
        finally:
            self._connection.execute("PRAGMA query_only = OFF")

    def version(self) -> Hashable | None:
        """See the port: not without asking."""
        return None

    async def notify(self, channel: str, payload: str) -> None:
        """Hand the hint to every listener of the channel, in a later step of the loop."""
        if self._faults is not None:
            await self._faults.before("notify")
        loop = asyncio.get_running_loop()
        for wanted, on_payload in self._listeners:
            if wanted == channel:
                loop.call_soon(on_payload, payload)

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """Call `on_payload` for every hint on the channel, one's own too."""
        self._listeners.append((channel, on_payload))

    async def close(self) -> None:
        """Close the connection, when this is the database and not a handle."""
        if self._owner:
            self._connection.close()
