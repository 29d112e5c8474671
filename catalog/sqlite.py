"""The database port on one SQLite file: WAL, one writer thread, a few reader threads.

Several processes may share the file: writers wait for each other up to the busy timeout, readers never wait. With
`synchronous=FULL` a commit is on disk before it is answered; `OFF` (for `fsync=never`) can lose acknowledged records.
A small transaction is then a few copies into the page cache: the loop runs it itself, because the way to a thread and
back takes longer.

Invariant: at most one write transaction of this process is open, and it runs from BEGIN to COMMIT in one thread: the
writer thread, or the loop's while the writer thread is idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, TypeVar

from catalog.database import Transaction
from catalog.sqlite_statements import begin_write, connect, run_read, run_write
from catalog.threads import Threads

T = TypeVar("T")
BUSY_PAUSE_MS = 2
"""Between two tries for the write lock. SQLite's own waiting pauses ever longer, up to 100 ms: beside a process that
writes one transaction after another it would hardly ever meet a free moment."""


def _system_now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Busy(Exception):
    """Another process is writing."""


class SqliteDatabase:
    """The port over a file. Open it on any thread; use it from one event loop."""

    dialect: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(
        self,
        path: Path | str,
        *,
        synchronous: Literal["FULL", "OFF"] = "FULL",
        busy_timeout_ms: int = 10_000,
        readers: int = 4,
        now_ms: Callable[[], int] = _system_now_ms,
    ) -> None:
        self._now_ms = now_ms
        self._closed = False

        def open_connection() -> sqlite3.Connection:
            return connect(path, now_ms, synchronous=synchronous, busy_timeout_ms=busy_timeout_ms)

        self._busy_timeout_s = busy_timeout_ms / 1000
        self._flushes = synchronous == "FULL"
        self._writer = open_connection()
        self._writer.execute(f"PRAGMA busy_timeout = {BUSY_PAUSE_MS}").fetchall()
        self._watcher = open_connection()
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(readers):
            connection = open_connection()
            connection.execute("PRAGMA query_only = ON")
            self._readers.put(connection)
        self._reader_count = readers
        self._write_thread = Threads(1, "neve-sqlite-write")
        self._read_threads = Threads(readers, "neve-sqlite-read")

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """Run `body` in one serialised write transaction, wholly inside one thread."""
        if small and not self._flushes and not self._closed and self._write_thread.idle:
            with contextlib.suppress(_Busy):  # then the writer thread waits for the other process
                return run_write(self._writer, self._now_ms, body, _begin_now)
        return await self._write_thread.call(run_write, self._writer, self._now_ms, body, self._begin)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Try for the write lock, in short steps, for as long as the busy timeout says."""
        until_s = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                return begin_write(connection)
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= until_s:
                    raise

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `body` in one consistent read-only snapshot, inside a reader thread."""
        return await self._read_threads.call(self._read, body)

    def _read(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        connection = self._readers.get_nowait()  # as many connections as threads: there is always one
        try:
            return run_read(connection, self._now_ms, body)
        finally:
            self._readers.put(connection)

    def version(self) -> Hashable | None:
        """SQLite's count of what other connections than this one have committed; None where it can't be read now."""
        try:
            row: tuple[int] = self._watcher.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return row[0]

    async def notify(self, channel: str, payload: str) -> None:
        """A no-op: other processes poll."""

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """A no-op: other processes send no hints over SQLite."""

    async def close(self) -> None:
        """Wait for what runs, then close all connections; one in a call that hangs stays open until the process ends."""
        if not self._closed:
            self._closed = True
            ended = [await threads.close() for threads in (self._write_thread, self._read_threads)]
            if all(ended):
                await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for _ in range(self._reader_count):
            self._readers.get_nowait().close()
        self._watcher.close()
        self._writer.close()


def _begin_now(connection: sqlite3.Connection) -> None:
    """Take the write lock, or raise _Busy after BUSY_PAUSE_MS."""
    try:
        begin_write(connection)
    except sqlite3.OperationalError as error:
        if _is_busy(error):
            raise _Busy from error
        raise


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
