"""What only PostgreSQL can do to us: unsafe settings, lost connections, deadlocks, timeouts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import asyncpg
import pytest

from catalog.commits import CommitStore, Committed
from catalog.database import CommitUnknown, Database, DatabaseError, Transaction, Unreachable, UnsafeDatabase
from catalog.epochs import EpochStore
from catalog.migrate import migrate
from catalog.outcomes import pack_outcome
from catalog.postgres import PostgresDatabase
from catalog.sequence import BatchFacts, BatchOutcome, ObjectFacts
from catalog.topics import TopicStore
from tests import counterparts
from tests.conftest import found

LONG_MS = 600_000


@contextlib.asynccontextmanager
async def opened(uri: str, **options: int) -> AsyncIterator[PostgresDatabase]:
    db = await PostgresDatabase.open(uri, **options)
    try:
        yield db
    finally:
        await db.close()


@pytest.fixture
async def db(postgres_uri: str) -> AsyncIterator[PostgresDatabase]:
    async with opened(postgres_uri) as db:
        await db.transact(lambda tx: tx.execute("CREATE TABLE t (a BIGINT PRIMARY KEY, b BIGINT)"))
        await db.transact(lambda tx: tx.execute("INSERT INTO t VALUES (1, 0), (2, 0)"))
        yield db


@pytest.mark.parametrize("option", ["fsync=off", "synchronous_commit=off"])
async def test_servers_that_may_lose_records_are_refused(option: str) -> None:
    with contextlib.ExitStack() as stack:
        server = found(lambda: stack.enter_context(counterparts.postgres([option])))
        with pytest.raises(UnsafeDatabase, match=option.split("=")[0]):
            await PostgresDatabase.open(server.uri())


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable):
        await PostgresDatabase.open(f"postgresql://postgres@127.0.0.1:{counterparts.free_port()}/x")
    assert time.monotonic() - started < 10


async def test_deadlocks_run_the_body_again(db: PostgresDatabase) -> None:
    runs = 0
    both = asyncio.Barrier(2)

    def body(first: int, second: int) -> Callable[[Transaction], object]:
        async def lock_both(tx: Transaction) -> None:
            nonlocal runs
            runs += 1
            await tx.execute("UPDATE t SET b = b + 1 WHERE a = $1", first)
            if runs <= 2:
                await both.wait()
            await tx.execute("UPDATE t SET b = b + 1 WHERE a = $1", second)

        return lock_both

    await asyncio.gather(db.transact(body(1, 2)), db.transact(body(2, 1)))  # type: ignore[arg-type]
    assert runs in (3, 4)  # under load, both sides can find the deadlock before either has ended
    rows = await db.snapshot(lambda tx: tx.fetch("SELECT b FROM t ORDER BY a"))
    assert [row[0] for row in rows] == [2, 2]


async def test_conflicts_without_end_are_given_up(db: PostgresDatabase) -> None:
    runs = 0

    async def conflicting(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        await tx.fetch("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unreachable):
        await db.transact(conflicting)
    assert runs == 5


async def test_slow_statements_end_in_time_and_the_connection_is_usable(postgres_uri: str) -> None:
    async with opened(postgres_uri, command_timeout_ms=200, writers=1) as db:
        with pytest.raises(Unreachable):
            await db.transact(lambda tx: tx.fetch("SELECT pg_sleep(30)"))
        assert len(await db.transact(lambda tx: tx.fetch("SELECT 1"))) == 1


async def test_a_cancelled_body_leaves_nothing(db: PostgresDatabase) -> None:
    inside = asyncio.Event()

    async def body(tx: Transaction) -> None:
        await tx.execute("INSERT INTO t VALUES (9, 9)")
        inside.set()
        await asyncio.sleep(30)

    task = asyncio.create_task(db.transact(body))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(5):
        assert len(await db.transact(lambda tx: tx.fetch("SELECT a FROM t WHERE a = 9"))) == 0


async def test_a_swallowed_error_is_no_commit(db: PostgresDatabase) -> None:
    async def swallow(tx: Transaction) -> None:
        with contextlib.suppress(DatabaseError):
            await tx.execute("INSERT INTO t VALUES (1, 1)")

    with pytest.raises(DatabaseError, match="rolled back"):
        await db.transact(swallow)


class Cutter:
    """A TCP proxy that cuts the connection when the client sends some text: before or after passing it on."""

    def __init__(self) -> None:
        self.text: bytes | None = None
        self.pass_on = False
        self.cuts = 0

    @contextlib.asynccontextmanager
    async def before(self, port: int) -> AsyncIterator[int]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

            async def down() -> None:
                with contextlib.suppress(OSError):
                    while data := await up_reader.read(65536):
                        writer.write(data)
                writer.transport.abort()

            pump = asyncio.create_task(down())
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    if self.text is not None and self.text in data:
                        self.cuts += 1
                        self.text = None
                        pump.cancel()
                        await asyncio.wait([pump])
                        if self.pass_on:
                            up_writer.write(data)
                            await up_writer.drain()
                            await up_reader.read(65536)  # the server has answered; the client never hears of it
                        break
                    up_writer.write(data)
            pump.cancel()
            writer.transport.abort()
            up_writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


@pytest.mark.parametrize(
    ("text", "pass_on", "error", "landed"),
    [
        (b"COMMIT\x00", True, CommitUnknown, True),
        (b"COMMIT\x00", False, CommitUnknown, False),
        (b"INSERT INTO t", True, Unreachable, False),
        (b"BEGIN", False, None, True),  # a connection that died in the pool: another one is taken
    ],
)
async def test_lost_connections(
    db: PostgresDatabase, postgres_uri: str, text: bytes, pass_on: bool, error: type[Exception] | None, landed: bool
) -> None:
    address, _, name = postgres_uri.rpartition("/")
    cutter = Cutter()
    async with (
        cutter.before(int(address.rpartition(":")[2])) as port,
        opened(f"postgresql://postgres@127.0.0.1:{port}/{name}", writers=1) as far,
    ):
        cutter.text, cutter.pass_on = text, pass_on
        with pytest.raises(error) if error else contextlib.nullcontext():
            await far.transact(lambda tx: tx.execute("INSERT INTO t VALUES (5, 5)"))
        assert cutter.cuts == 1
        rows = await far.transact(lambda tx: tx.fetch("SELECT a FROM t WHERE a = 5"))
        assert bool(rows) == landed


async def test_resolve_waits_for_a_commit_still_in_flight(postgres_uri: str) -> None:
    async with opened(postgres_uri) as db:
        await migrate(db)
        topic = await TopicStore(db).create("t", UUID(int=1), 1, {})
        lease = await EpochStore(db).issue("me", LONG_MS)
        facts = ObjectFacts(lease.epoch << 32 | 1, "x", 10, (BatchFacts(topic.topic, 0, 0, 10, 3, 5, False),))
        commits = CommitStore(db, epoch_age_max_ms=LONG_MS)
        raw = await asyncpg.connect(postgres_uri)  # the old connection, of which the agent knows nothing any more
        try:
            await raw.execute("BEGIN")
            await raw.fetch("SELECT 1 FROM epochs WHERE epoch = $1 FOR UPDATE", lease.epoch)
            packed = pack_outcome([BatchOutcome(0, 0, -1, 0)])
            await raw.execute("INSERT INTO objects VALUES ($1, 'x', 10, 5, $2)", facts.object_id, packed)
            resolving = asyncio.create_task(commits.resolve([facts]))
            await asyncio.sleep(0.2)
            assert not resolving.done()
            await raw.execute("COMMIT")
            outcome = (await resolving)[facts.object_id]
        finally:
            await raw.close()
        assert isinstance(outcome, Committed)
        assert outcome.outcomes == (BatchOutcome(0, 0, -1, 0),)


async def test_hints_come_back_after_a_lost_connection(db: PostgresDatabase) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await db.listen("tails", heard.put_nowait)
    await db.notify("tails", "one")
    assert await asyncio.wait_for(heard.get(), 5) == "one"

    await db.transact(
        lambda tx: tx.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    )
    async with asyncio.timeout(10):
        while heard.empty():
            await db.notify("tails", "two")
            await asyncio.sleep(0.05)
    assert heard.get_nowait() == "two"
    for _ in range(5):  # the pools' connections were killed as well
        assert len(await db.snapshot(lambda tx: tx.fetch("SELECT 1"))) == 1


async def test_point_lookups_never_scan(postgres_uri: str) -> None:
    """Plans are made once, on an empty table; they must be right for a full one."""
    async with opened(postgres_uri, writers=1) as db:
        await migrate(db)
        await db.transact(lambda tx: tx.execute("ANALYZE"))
        assert await scans(db) == 0
        topic = await TopicStore(db).create("t", UUID(int=1), 50, {})
        lease = await EpochStore(db).issue("me", LONG_MS)
        commits = CommitStore(db, epoch_age_max_ms=LONG_MS)
        for number in range(10):
            batches = tuple(BatchFacts(topic.topic, s, 10 * s, 10, 1, 5, False, 100 + s, 0, number) for s in range(50))
            await commits.commit([ObjectFacts(lease.epoch << 32 | number, "x", 10, batches)])
        assert await scans(db) == 0


async def scans(db: Database) -> int:
    await db.transact(lambda tx: tx.fetch("SELECT pg_stat_force_next_flush()"))  # at the end of this transaction
    rows = await db.transact(
        lambda tx: tx.fetch(
            "SELECT COALESCE(SUM(seq_tup_read), 0)::bigint FROM pg_stat_user_tables "
            "WHERE relname IN ('extents', 'shards', 'objects', 'producers', 'condemned')"
        )
    )
    return int(rows[0][0])
