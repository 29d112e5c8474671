"""The database port on PostgreSQL, over asyncpg: READ COMMITTED write transactions with row locks, REPEATABLE READ snapshots.

Invariants: a server that may lose what it acknowledged (fsync or synchronous_commit off) is refused on every new
connection; a connection lost before COMMIT was sent means nothing happened (`Unreachable`), one lost from then on means
`CommitUnknown`. Serialisation failures and deadlocks run the body again, a bounded number of times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Literal, TypeAlias, TypeVar

import asyncpg

from catalog.database import CommitUnknown, DatabaseError, Transaction, Unreachable, UnsafeDatabase
from catalog.postgres_hints import Hints
from catalog.postgres_statements import CONNECTION_LOST, Conflict, PostgresConnection, PostgresTransaction, translate

T = TypeVar("T")
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
_BEGIN_WRITE = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_RETRY_PAUSE_S = 0.005
STATEMENTS_CACHED = 256
# Statements above the port are sets of point lookups. Planning one costs more than running it, so plans are made once;
# a plan made while a table was empty must not scan it when it has grown.
_PLANNING = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


class PostgresDatabase:
    """The port over one server. Make it with `open`; separate pools keep reads from waiting behind writes."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, writers: Pool, readers: Pool, hints: Hints, *, connect_timeout_s: float, attempts: int) -> None:
        self._writers = writers
        self._readers = readers
        self._hints = hints
        self._connect_timeout_s = connect_timeout_s
        self._attempts = attempts

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        writers: int = 2,
        readers: int = 4,
        connect_timeout_ms: int = 5_000,
        command_timeout_ms: int = 10_000,
        attempts: int = 5,
    ) -> PostgresDatabase:
        """Connect and check the server. Raises Unreachable, UnsafeDatabase."""
        connect_timeout_s, command_timeout_s = connect_timeout_ms / 1000, command_timeout_ms / 1000
        options: dict[str, Any] = {
            "timeout": connect_timeout_s,
            "command_timeout": command_timeout_s,
            "statement_cache_size": STATEMENTS_CACHED,
            "max_cached_statement_lifetime": 0,
            "server_settings": {
                "application_name": "neve",
                **_PLANNING,
                "lock_timeout": str(command_timeout_ms),
                "statement_timeout": str(2 * command_timeout_ms),
                "idle_in_transaction_session_timeout": str(2 * command_timeout_ms),
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        }

        async def make_pool(size: int) -> Pool:
            pool: Pool = await asyncpg.create_pool(
                url, min_size=1, max_size=size, init=_refuse_unsafe, connection_class=PostgresConnection, **options
            )
            return pool

        try:
            write_pool = await make_pool(writers)
            try:
                read_pool = await make_pool(readers)
            except BaseException:
                write_pool.terminate()
                raise
        except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
            raise Unreachable(f"can't connect to the metadata database: {error}") from error
        hints = Hints(lambda: asyncpg.connect(url, **options))
        return cls(write_pool, read_pool, hints, connect_timeout_s=connect_timeout_s, attempts=attempts)

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """Run `body` in one write transaction; again from the start on conflicts."""
        return await self._run_again(self._writers, _BEGIN_WRITE, body)

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `body` in one read snapshot; it begins with the body's first query."""
        return await self._run_again(self._readers, _BEGIN_READ, body)

    async def _run_again(self, pool: Pool, begin: str, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run until there is no conflict, a bounded number of times. A pooled connection found dead counts as one."""
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._run(pool, begin, body)
            except Conflict as conflict:
                if attempt == self._attempts:
                    raise Unreachable(f"gave up after {attempt} attempts: {conflict}") from conflict
                await asyncio.sleep(_RETRY_PAUSE_S * attempt)
        raise AssertionError("unreachable")

    async def _run(self, pool: Pool, begin: str, body: Callable[[Transaction], Awaitable[T]]) -> T:
        try:
            held = await pool.acquire(timeout=self._connect_timeout_s)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            raise Unreachable(f"no connection to the metadata database: {error!r}") from error
        # The pool hands out a proxy that costs Python work per call; the connection behind it is ours until release.
        connection = held._con  # type: ignore[attr-defined]
        assert isinstance(connection, PostgresConnection)
        try:
            return await _run_on(connection, begin, body)
        finally:
            try:
                await pool.release(held)
            except (*CONNECTION_LOST, asyncpg.PostgresError):
                connection.terminate()

    def version(self) -> Hashable | None:
        """See the port: not without asking."""
        return None

    async def notify(self, channel: str, payload: str) -> None:
        """Send a hint; dropped (and counted in `hints_lost`) where the connection is down."""
        await self._hints.notify(channel, payload)

    @property
    def hints_lost(self) -> int:
        """Hints that could not be sent."""
        return self._hints.lost

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """Call `on_payload` for hints of every process, one's own too; reconnects by itself."""
        await self._hints.listen(channel, on_payload)

    async def close(self) -> None:
        """Close all connections; what runs is waited for, up to the connect timeout."""
        await self._hints.close()
        for pool in (self._readers, self._writers):
            try:
                await asyncio.wait_for(pool.close(), self._connect_timeout_s)
            except (*CONNECTION_LOST, asyncpg.PostgresError):
                pool.terminate()


async def _run_on(connection: PostgresConnection, begin: str, body: Callable[[Transaction], Awaitable[T]]) -> T:
    """One transaction on one connection. After anything but a clean end the connection is rolled back or dropped."""
    try:
        await _begin(connection, begin)
        result = await body(PostgresTransaction(connection))
    except Exception as error:
        await _roll_back(connection)
        if isinstance(error, (*CONNECTION_LOST, asyncpg.PostgresError)):
            raise translate(error, connection) from error
        raise
    except BaseException:  # cancelled: a statement may still be running
        connection.terminate()
        raise
    await _commit(connection)
    return result


async def _begin(connection: PostgresConnection, begin: str) -> None:
    """BEGIN. A connection that died in the pool is found here, before anything was done: another one may be tried."""
    try:
        await connection.execute(begin)
    except TimeoutError as error:
        connection.terminate()
        raise Unreachable("the metadata database doesn't answer") from error
    except CONNECTION_LOST as error:
        connection.terminate()
        raise Conflict(f"a pooled connection was dead: {error!r}") from error


async def _commit(connection: PostgresConnection) -> None:
    """COMMIT, telling apart what certainly failed from what nobody knows."""
    try:
        answer = await connection.execute("COMMIT")
    except (asyncpg.TransactionRollbackError, asyncpg.IntegrityConstraintViolationError) as error:
        raise translate(error, connection) from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        connection.terminate()
        raise CommitUnknown(f"the connection was lost while committing: {error!r}") from error
    except BaseException:
        connection.terminate()
        raise
    if answer != "COMMIT":
        raise DatabaseError("the transaction had failed and was rolled back: a body must not swallow database errors")


async def _roll_back(connection: PostgresConnection) -> None:
    if connection.is_closed():
        return
    try:
        await connection.execute("ROLLBACK")
    except (*CONNECTION_LOST, asyncpg.PostgresError):
        connection.terminate()


async def _refuse_unsafe(connection: Any) -> None:
    row = await connection.fetchrow("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
    for name, value in zip(("fsync", "synchronous_commit"), row, strict=True):
        if value == "off":
            raise UnsafeDatabase(
                f"PostgreSQL runs with {name} = off: acknowledged records could be lost; set {name} = on and restart"
            )
