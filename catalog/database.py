"""The database port: one small surface over SQLite and PostgreSQL, so that every query above it is written once.

Queries are written with `$1, $2, ...` placeholders and common SQL. What differs is a token in braces:

| token | SQLite | PostgreSQL |
|---|---|---|
| `{rows}` | a subselect over the given rows | `unnest(...)` |
| `{for_update}`, `{for_update:alias}` | nothing: one writer at a time | `FOR UPDATE [OF alias]` |
| `{now_ms}` | the injected clock | the server's clock, Unix ms |
| `{blob}` | `BLOB` | `BYTEA` |
| `{clustered}` | `WITHOUT ROWID` | nothing |
| `{hot}` | `WITHOUT ROWID` | room on the page for updates in place |

Invariants owned here: a body passed to `transact` is applied wholly or not at all; when `transact` raises
`CommitUnknown` the caller must find out by reading, and never assume. Bodies may be run again from the start on
serialisation failures, so they must have no effects of their own.

On SQLite the whole body runs inside the writer thread (the coroutine is driven there without an event loop): a body may
therefore await nothing but the transaction it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Row = Sequence[Any]
ColumnType = Literal["bigint", "integer", "text", "blob"]
"""Types of `{rows}` columns. `blob` is for `execute_rows` alone: SQLite carries the rows of `fetch_rows` as JSON."""
Columns = Sequence[tuple[str, ColumnType]]


class DatabaseError(Exception):
    """Any failure at the database port."""


class Unreachable(DatabaseError):
    """The database can't be reached or refused; nothing was committed. Retry after."""


class CommitUnknown(DatabaseError):
    """The connection was lost while committing: the transaction may or may not have happened."""


class UniqueViolation(DatabaseError):
    """A unique or primary key refused a row; nothing was committed."""


class UnsafeDatabase(DatabaseError):
    """The server runs with fsync or synchronous_commit off: refused, because acknowledged records could be lost."""


class Transaction(Protocol):
    """One open transaction (or read snapshot)."""

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """All rows of one query."""
        ...

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement; returns the number of rows changed."""
        ...

    async def fetch_rows(self, sql: str, columns: Columns, rows: Sequence[Row], *args: Any) -> list[Row]:
        """Like `fetch`, with `{rows}` in the SQL standing for a table of `rows` with `columns`.

        Placeholders `$1..` refer to `args`. Use as `... FROM {rows} AS r ...`.
        """
        ...

    async def execute_rows(self, sql: str, columns: Columns, rows: Sequence[Row], *args: Any) -> int:
        """Like `execute`, with `{rows}` standing for a table of `rows`; one round trip however many rows.

        Each row must be treated by itself (no aggregate, no row seeing another's effect): SQLite runs the statement row
        by row. Aliases are written `{rows} AS r`; an upsert needs `WHERE true` before `ON CONFLICT`.
        """
        ...

    async def now_ms(self) -> int:
        """The database's clock, Unix milliseconds. The only clock leases and ages are judged by."""
        ...

    async def version(self) -> Hashable | None:
        """Of the rows as this write transaction sees them; None where the database can't tell.

        The same value at the end of one and at the beginning of another write transaction of a process means that
        between them nobody, in this process or another, has written a row.
        """
        ...


class Database(Protocol):
    """The port. One instance per process."""

    dialect: Literal["sqlite", "postgresql"]

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """Run `body` in one serialised write transaction (SQLite BEGIN IMMEDIATE; PostgreSQL READ COMMITTED + locks).

        `small` says that it touches few rows: where nothing is flushed to disk, it needs no thread of its own then.
        """
        ...

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `body` in one consistent read-only snapshot that begins after this call."""
        ...

    def version(self) -> Hashable | None:
        """As long as it stays the same, nobody has committed anything; None where the database can't tell without being
        asked. Never waits."""
        ...

    async def notify(self, channel: str, payload: str) -> None:
        """Send a hint to other processes; may be lost, may be a no-op (SQLite)."""
        ...

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """Call `on_payload` on the loop for hints of other processes, on a connection of its own."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
