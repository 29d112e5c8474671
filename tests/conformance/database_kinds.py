"""The implementations of the database port, opened for a test, with more handles on the same data at will."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from catalog.database import Database
from catalog.inline import InlineDatabase
from catalog.postgres import PostgresDatabase
from catalog.sqlite import SqliteDatabase

KINDS = ("sqlite", "inline", "postgresql")


@dataclass
class OpenDatabase:
    """One database under test. `another` is what a second process would open."""

    kind: str
    db: Database
    open_another: Callable[[], Awaitable[Database]]
    others: list[Database] = field(default_factory=list)

    async def another(self) -> Database:
        """A further handle on the same data."""
        self.others.append(await self.open_another())
        return self.others[-1]

    async def close(self) -> None:
        """Close every handle, the first one last."""
        for db in (*self.others, self.db):
            await db.close()


def now_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


async def open_kind(kind: str, folder: Path, postgres_uri: Callable[[], str]) -> OpenDatabase:
    """An empty database of that kind."""
    if kind == "inline":
        inline = InlineDatabase(now_ms)

        async def handle() -> Database:
            return inline.handle()

        return OpenDatabase(kind, inline, handle)
    if kind == "sqlite":

        async def sqlite() -> Database:
            return SqliteDatabase(folder / "neve.db", readers=2)

        return OpenDatabase(kind, await sqlite(), sqlite)
    uri = postgres_uri()

    async def postgresql() -> Database:
        return await PostgresDatabase.open(uri)

    return OpenDatabase(kind, await postgresql(), postgresql)
