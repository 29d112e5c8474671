"""What every implementation of the database port does alike: SQLite in threads, SQLite inline, PostgreSQL."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

import catalog
from catalog.database import Columns, Database, DatabaseError, Transaction, UniqueViolation
from catalog.migrate import SchemaTooNew, migrate
from tests.conformance.database_kinds import OpenDatabase

TRIPLE: Columns = (("a", "bigint"), ("b", "integer"), ("c", "text"))
ROWS = [(2**62, 1, "x"), (-(2**62), -1, 'quote " and \\ and é'), (0, 0, "")]


async def make_table(db: Database) -> None:
    async def body(tx: Transaction) -> None:
        await tx.execute(
            "CREATE TABLE t (a BIGINT NOT NULL, b INTEGER NOT NULL, c TEXT, d {blob}, PRIMARY KEY (a)) {hot}"
        )

    await db.transact(body)


async def test_rows_go_in_and_come_out_with_their_types(database: Database) -> None:
    await make_table(database)

    async def body(tx: Transaction) -> list[tuple[object, ...]]:
        insert = "INSERT INTO t (a, b, c, d) SELECT r.a, r.b, r.c, $1 FROM {rows} AS r"
        assert await tx.execute_rows(insert, TRIPLE, ROWS, b"\x00\xff") == 3
        assert await tx.execute_rows(insert, TRIPLE, [], b"") == 0
        return [tuple(row) for row in await tx.fetch("SELECT a, b, c, d FROM t ORDER BY a")]

    assert await database.transact(body) == sorted((*row, b"\x00\xff") for row in ROWS)


async def test_the_version_changes_with_every_write_of_anybody(opened: OpenDatabase) -> None:
    here, there = opened.db, await opened.another()
    await make_table(here)

    async def write(db: Database, a: int) -> None:
        await db.transact(lambda tx: tx.execute("INSERT INTO t (a, b) VALUES ($1, 0)", a))

    async def read(db: Database) -> object:
        return await db.transact(lambda tx: tx.version())

    if await read(here) is None:
        assert opened.kind == "postgresql"
        return
    versions = [await read(here)]
    assert await read(here) == versions[0]
    for number, db in enumerate((here, there, here, there)):
        await write(db, number)
        versions.append(await read(here))
    assert len({*versions}) == 5


async def test_rows_join_tables_and_compare_with_arguments(database: Database) -> None:
    await make_table(database)

    async def body(tx: Transaction) -> list[tuple[object, ...]]:
        await tx.execute_rows("INSERT INTO t (a, b, c) SELECT r.a, r.b, r.c FROM {rows} AS r", TRIPLE, ROWS)
        rows = await tx.fetch_rows(
            "SELECT t.a, t.c, r.b FROM {rows} AS r JOIN t ON t.a = r.a AND t.c = r.c WHERE t.b >= $1 ORDER BY t.a",
            TRIPLE,
            [(2**62, 10, "x"), (0, 20, "other"), (-(2**62), 30, ROWS[1][2])],
            0,
        )
        assert await tx.fetch_rows("SELECT r.a FROM {rows} AS r", TRIPLE, []) == []
        return [tuple(row) for row in rows]

    assert await database.transact(body) == [(2**62, "x", 10)]


async def test_blobs_travel_as_rows_of_statements(database: Database) -> None:
    await make_table(database)
    columns: Columns = (("a", "bigint"), ("d", "blob"))

    async def body(tx: Transaction) -> list[bytes | None]:
        upsert = (
            "INSERT INTO t (a, b, d) SELECT r.a, $1, r.d FROM {rows} AS r WHERE true "
            "ON CONFLICT (a) DO UPDATE SET d = excluded.d"
        )
        await tx.execute_rows(upsert, columns, [(1, b"one"), (2, b"two")], 7)
        await tx.execute_rows(upsert, columns, [(2, b"\x00"), (3, b"")], 7)
        assert (
            await tx.execute_rows(
                "UPDATE t SET b = r.a FROM {rows} AS r WHERE t.a = r.a", (("a", "bigint"),), [(1,), (9,)]
            )
            == 1
        )
        return [bytes(row[0]) for row in await tx.fetch("SELECT d FROM t ORDER BY a")]

    assert await database.transact(body) == [b"one", b"\x00", b""]


async def test_a_failed_body_leaves_nothing(database: Database) -> None:
    await make_table(database)

    async def failing(tx: Transaction) -> None:
        await tx.execute("INSERT INTO t (a, b) VALUES (1, 1)")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await database.transact(failing)

    async def twice(tx: Transaction) -> None:
        await tx.execute("INSERT INTO t (a, b) VALUES (1, 1)")
        await tx.execute("INSERT INTO t (a, b) VALUES (1, 2)")

    with pytest.raises(UniqueViolation):
        await database.transact(twice)
    with pytest.raises(DatabaseError):
        await database.transact(lambda tx: tx.execute("INSERT INTO nowhere VALUES (1)"))
    assert await database.snapshot(lambda tx: tx.fetch("SELECT a FROM t")) == []


async def test_snapshots_refuse_writes(opened: OpenDatabase) -> None:
    await make_table(opened.db)
    with pytest.raises(DatabaseError):
        await opened.db.snapshot(lambda tx: tx.execute("INSERT INTO t (a, b) VALUES (1, 1)"))
    assert await opened.db.snapshot(lambda tx: tx.fetch("SELECT a FROM t")) == []


async def test_transactions_are_serialised(opened: OpenDatabase) -> None:
    await make_table(opened.db)
    await opened.db.transact(lambda tx: tx.execute("INSERT INTO t (a, b) VALUES (1, 0)"))
    others = [opened.db, await opened.another()]

    async def add_one(tx: Transaction) -> None:
        [(value,)] = await tx.fetch("SELECT b FROM t WHERE a = 1 {for_update}")
        await tx.execute("UPDATE t SET b = $1 WHERE a = 1", value + 1)

    await asyncio.gather(*(others[i % 2].transact(add_one) for i in range(40)))
    assert [tuple(row) for row in await opened.db.snapshot(lambda tx: tx.fetch("SELECT b FROM t"))] == [(40,)]


async def insert_one(tx: Transaction, number: int) -> None:
    await tx.execute("INSERT INTO t (a, b) VALUES ($1, 1)", number)


async def test_snapshot_sees_what_was_committed_before(opened: OpenDatabase) -> None:
    await make_table(opened.db)
    other = await opened.another()
    for number in range(20):
        await opened.db.transact(partial(insert_one, number=number))
        assert len(await other.snapshot(lambda tx: tx.fetch("SELECT a FROM t"))) == number + 1


async def test_the_clock_moves_on_inside_a_transaction(database: Database) -> None:
    async def body(tx: Transaction) -> tuple[int, int]:
        [(in_sql,)] = await tx.fetch("SELECT {now_ms}")
        return in_sql, await tx.now_ms()

    first = await database.transact(body)
    await asyncio.sleep(0.01)
    second = await database.snapshot(body)
    assert 1_600_000_000_000 < first[0] <= first[1] < second[0] <= second[1]


async def test_hints_reach_other_handles(opened: OpenDatabase) -> None:
    other = await opened.another()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await other.listen("tails", heard.put_nowait)
    await opened.db.notify("tails", "1:2")
    await opened.db.notify("elsewhere", "no")
    if opened.kind != "sqlite":  # there, processes on one file poll
        assert await asyncio.wait_for(heard.get(), 5) == "1:2"
    assert heard.empty()


async def test_migrations_are_applied_once_by_whoever_is_first(opened: OpenDatabase) -> None:
    others = [opened.db, *[await opened.another() for _ in range(3)]]
    versions = await asyncio.gather(*(migrate(db) for db in others))
    files = sorted((Path(catalog.__file__).parent / "migrations").glob("*.sql"))
    numbered = [(int(number), name) for number, _, name in (file.stem.partition("_") for file in files)]
    assert set(versions) == {numbered[-1][0]}
    rows = await opened.db.snapshot(lambda tx: tx.fetch("SELECT version, name FROM schema_versions ORDER BY version"))
    assert [tuple(row) for row in rows] == numbered


async def test_a_newer_schema_is_refused(database: Database) -> None:
    await migrate(database)
    await database.transact(lambda tx: tx.execute("INSERT INTO schema_versions VALUES (99, 'future', 0)"))
    with pytest.raises(SchemaTooNew, match="99"):
        await migrate(database)
