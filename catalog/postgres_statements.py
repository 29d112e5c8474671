"""How the port's SQL runs on one asyncpg connection: rendering of tokens and rows, translation of errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import asyncpg

from catalog.database import ColumnType, DatabaseError, Row, UniqueViolation, Unreachable

_FOR_UPDATE = re.compile(r"\{for_update(?::(\w+))?\}")
_TYPES: dict[ColumnType, str] = {"bigint": "bigint", "integer": "integer", "text": "text", "blob": "bytea"}
_NOW_MS = "(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
_HOT = "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02)"

CONNECTION_LOST = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
"""What asyncpg raises when there is no answer, or only the server's good-bye (InternalClientError: it came between two
statements). InterfaceError is also raised for misuse: see `translate`."""

_RETRY_LATER = (
    asyncpg.OperatorInterventionError,  # shutting down, cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby after a fail-over
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


class Conflict(DatabaseError):
    """A deadlock or serialisation failure: nothing was committed, and the body may run again."""


class PostgresConnection(asyncpg.Connection):
    """A connection that isn't reset on release: bodies change no session state, and the reset costs a round trip."""

    def get_reset_query(self) -> str:
        """Nothing to reset."""
        return ""


def translate(error: BaseException, connection: Any) -> DatabaseError:
    """The port's error for one of asyncpg's, before COMMIT was sent."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return UniqueViolation(str(error))
    if isinstance(error, asyncpg.TransactionRollbackError):
        return Conflict(str(error))
    if isinstance(error, asyncpg.InterfaceError) and not connection.is_closed():
        return DatabaseError(f"PostgreSQL client: {error}")
    if isinstance(error, (*CONNECTION_LOST, *_RETRY_LATER)):
        return Unreachable(f"PostgreSQL: {error!r}")
    return DatabaseError(f"PostgreSQL: {error}")


@lru_cache(maxsize=1024)
def render(sql: str) -> str:
    """SQL with PostgreSQL's tokens; `{rows}` stays."""
    sql = _FOR_UPDATE.sub(lambda match: f"FOR UPDATE OF {match[1]}" if match[1] else "FOR UPDATE", sql)
    tokens = {"{now_ms}": _NOW_MS, "{blob}": "BYTEA", "{clustered}": "", "{hot}": _HOT}
    for token, text in tokens.items():
        sql = sql.replace(token, text)
    return sql


@lru_cache(maxsize=1024)
def _render_rows(sql: str, columns: tuple[tuple[str, ColumnType], ...], args: int) -> str:
    arrays = ", ".join(f"${args + 1 + i}::{_TYPES[kind]}[]" for i, (_, kind) in enumerate(columns))
    names = ", ".join(name for name, _ in columns)
    return render(sql).replace("{rows}", f"(SELECT * FROM unnest({arrays}) AS u({names}))")


class PostgresTransaction:
    """The port's transaction over one connection inside BEGIN ... COMMIT."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """All rows of one query."""
        try:
            return cast(list[Row], await self._connection.fetch(render(sql), *args))
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            raise translate(error, self._connection) from error

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement; the number of rows changed (0 for DDL)."""
        try:
            status: str = await self._connection.execute(render(sql), *args)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            raise translate(error, self._connection) from error
        count = status.rsplit(" ", 1)[-1]
        return int(count) if count.isdigit() else 0

    async def fetch_rows(
        self, sql: str, columns: Sequence[tuple[str, ColumnType]], rows: Sequence[Row], *args: Any
    ) -> list[Row]:
        """One query over a table of `rows`, as arrays."""
        if not rows:
            return []
        return await self.fetch(_render_rows(sql, tuple(columns), len(args)), *args, *zip(*rows, strict=True))

    async def execute_rows(
        self, sql: str, columns: Sequence[tuple[str, ColumnType]], rows: Sequence[Row], *args: Any
    ) -> int:
        """One statement over a table of `rows`, as arrays."""
        if not rows:
            return 0
        return await self.execute(_render_rows(sql, tuple(columns), len(args)), *args, *zip(*rows, strict=True))

    async def now_ms(self) -> int:
        """The server's clock at this statement, not at the transaction's start."""
        [(now,)] = await self.fetch("SELECT {now_ms}")
        return int(now)

    async def version(self) -> None:
        """PostgreSQL doesn't tell."""
