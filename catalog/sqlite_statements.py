"""How the port's SQL runs on one SQLite connection: rendering of tokens and rows, driving of bodies, translation of errors.

Shared by the threaded `SqliteDatabase` and the simulation's `InlineDatabase`, so that both run the same statements.
Rows of `fetch_rows` travel as bound values where they are few, else as one JSON array (`json_each`); rows of `execute_rows`
as one prepared statement run row by row in C, which is two to three times faster.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from catalog.database import ColumnType, CommitUnknown, DatabaseError, Row, UniqueViolation, Unreachable

T = TypeVar("T")
_PLACEHOLDER = re.compile(r"\$(\d+)")
_FOR_UPDATE = re.compile(r"\{for_update(:\w+)?\}")
_LONE_ROWS = re.compile(r" FROM \{rows\} AS r(?= WHERE\b|\)|$)")
_ROW_COLUMN = re.compile(r"\br\.(\w+)")
_BOUND_ROWS_MAX = 128
"""Up to this many rows are bound one by one: each count is a statement of its own in SQLite's cache."""
_NOTHING_COMMITTED = ("locked", "locking", "busy", "unable to open", "disk i/o", "full", "readonly")


@lru_cache(maxsize=1024)
def render(sql: str) -> str:
    """SQL with SQLite's placeholders and tokens; `{rows}` stays."""
    sql = _FOR_UPDATE.sub("", _PLACEHOLDER.sub(r"?\1", sql))
    tokens = {"{now_ms}": "neve_now_ms()", "{blob}": "BLOB", "{clustered}": "WITHOUT ROWID", "{hot}": "WITHOUT ROWID"}
    for token, text in tokens.items():
        sql = sql.replace(token, text)
    return sql


@lru_cache(maxsize=1024)
def _render_json_rows(sql: str, columns: tuple[tuple[str, ColumnType], ...], args: int) -> str:
    if any(kind == "blob" for _, kind in columns):
        raise DatabaseError("fetch_rows carries no blobs on SQLite; use execute_rows")
    picks = ", ".join(f"json_extract(value, '$[{i}]') AS {name}" for i, (name, _) in enumerate(columns))
    return render(sql).replace("{rows}", f"(SELECT {picks} FROM json_each(?{args + 1}))")


@lru_cache(maxsize=1024)
def _render_bound_rows(sql: str, columns: tuple[tuple[str, ColumnType], ...], args: int, rows: int) -> str:
    width = len(columns)
    tuples = ", ".join(
        "(" + ", ".join(f"?{args + 1 + row * width + i}" for i in range(width)) + ")" for row in range(rows)
    )
    picks = ", ".join(f"column{i + 1} AS {name}" for i, (name, _) in enumerate(columns))
    return render(sql).replace("{rows}", f"(SELECT {picks} FROM (VALUES {tuples}))")


@lru_cache(maxsize=1024)
def _render_single_row(sql: str, columns: tuple[tuple[str, ColumnType], ...], args: int) -> str:
    """Where the rows stand alone in their FROM, their columns become parameters: an UPDATE needs no second table then."""
    numbers = {name: args + 1 + i for i, (name, _) in enumerate(columns)}
    plain, found = _LONE_ROWS.subn("", sql)
    if found == 1 and all(name in numbers for name in _ROW_COLUMN.findall(plain)):
        return render(_ROW_COLUMN.sub(lambda column: f"?{numbers[column[1]]}", plain))
    picks = ", ".join(f"?{number} AS {name}" for name, number in numbers.items())
    return render(sql).replace("{rows}", f"(SELECT {picks})")


def translate(error: sqlite3.Error) -> DatabaseError:
    """The port's error for one of SQLite's."""
    message = str(error)
    if isinstance(error, sqlite3.IntegrityError) and message.startswith("UNIQUE"):
        return UniqueViolation(message)
    if isinstance(error, sqlite3.OperationalError) and any(word in message.lower() for word in _NOTHING_COMMITTED):
        return Unreachable(f"SQLite refused: {message}")
    return DatabaseError(f"SQLite: {message}")


def drive(awaitable: Awaitable[T]) -> T:
    """Run a body that awaits nothing but its transaction to its end, without an event loop."""
    steps = awaitable.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    steps.close()
    raise RuntimeError("a database body awaited something other than its transaction; on SQLite bodies can't suspend")


class SqliteTransaction:
    """The port's transaction over one connection inside BEGIN ... COMMIT. Its methods never suspend."""

    def __init__(self, connection: sqlite3.Connection, now_ms: Callable[[], int]) -> None:
        self._connection = connection
        self._now_ms = now_ms

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """All rows of one query."""
        return self._run(render(sql), args).fetchall()

    async def execute(self, sql: str, *args: Any) -> int:
        """Run one statement; the number of rows changed."""
        return self._run(render(sql), args).rowcount

    async def fetch_rows(
        self, sql: str, columns: Sequence[tuple[str, ColumnType]], rows: Sequence[Row], *args: Any
    ) -> list[Row]:
        """One query over a table of `rows`, bound or as JSON."""
        if not rows:
            return []
        if len(rows) <= _BOUND_ROWS_MAX:
            sql = _render_bound_rows(sql, tuple(columns), len(args), len(rows))
            return self._run(sql, (*args, *(value for row in rows for value in row))).fetchall()
        text = json.dumps([tuple(row) for row in rows], ensure_ascii=False, separators=(",", ":"))
        return self._run(_render_json_rows(sql, tuple(columns), len(args)), (*args, text)).fetchall()

    async def execute_rows(
        self, sql: str, columns: Sequence[tuple[str, ColumnType]], rows: Sequence[Row], *args: Any
    ) -> int:
        """One statement per row, prepared once."""
        if not rows:
            return 0
        rendered = _render_single_row(sql, tuple(columns), len(args))
        try:
            return self._connection.executemany(rendered, [(*args, *row) for row in rows] if args else rows).rowcount
        except sqlite3.Error as error:
            raise translate(error) from error

    async def now_ms(self) -> int:
        """The injected clock."""
        return self._now_ms()

    async def version(self) -> Hashable | None:
        """SQLite counts what other connections committed, and rows that this one has changed, rolled back or not."""
        others = self._run("PRAGMA data_version", ()).fetchone()[0]
        return others, self._connection.total_changes

    def _run(self, sql: str, args: tuple[Any, ...]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, args)
        except sqlite3.Error as error:
            raise translate(error) from error


def connect(
    path: Path | str, now_ms: Callable[[], int], *, synchronous: Literal["FULL", "OFF"], busy_timeout_ms: int
) -> sqlite3.Connection:
    """A connection in WAL mode. Raises Unreachable where the file can't be opened."""
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=busy_timeout_ms / 1000
        )
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync leaves data in the drive's cache
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("PRAGMA cache_size = -16384")  # KiB, per connection
        connection.create_function("neve_now_ms", 0, now_ms)
        return connection
    except sqlite3.Error as error:
        raise Unreachable(f"can't open the metadata database {path}: {error}") from error


def begin_write(connection: sqlite3.Connection) -> None:
    """Open a write transaction, within the connection's busy timeout."""
    connection.execute("BEGIN IMMEDIATE")


def run_write(
    connection: sqlite3.Connection,
    now_ms: Callable[[], int],
    body: Callable[[SqliteTransaction], Awaitable[T]],
    begin: Callable[[sqlite3.Connection], None] = begin_write,
) -> T:
    """One write transaction: BEGIN IMMEDIATE, the body, COMMIT; rolled back whatever goes wrong before."""
    try:
        begin(connection)
    except sqlite3.Error as error:
        raise translate(error) from error
    try:
        result = drive(body(SqliteTransaction(connection, now_ms)))
    except BaseException:
        _roll_back(connection)
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        # A refused COMMIT leaves the transaction open and rolls back; one that ended with an error may have landed.
        still_open = connection.in_transaction
        if still_open:
            _roll_back(connection)
            raise translate(error) from error
        raise CommitUnknown(f"SQLite failed while committing: {error}") from error
    return result


def run_read(
    connection: sqlite3.Connection, now_ms: Callable[[], int], body: Callable[[SqliteTransaction], Awaitable[T]]
) -> T:
    """One read snapshot: it begins with the body's first query."""
    try:
        connection.execute("BEGIN")
    except sqlite3.Error as error:
        raise translate(error) from error
    try:
        return drive(body(SqliteTransaction(connection, now_ms)))
    finally:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    """Roll back where a transaction is still open. Its own failure is the port's error like any other."""
    try:
        connection.rollback()
    except sqlite3.Error as error:
        raise translate(error) from error
