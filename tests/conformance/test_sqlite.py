"""What only SQLite does: several processes on one file, bodies in a thread, flushing; and the inline database's faults."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest

from catalog.commits import CommitStore, Committed
from catalog.database import CommitUnknown, DatabaseError, Transaction, UniqueViolation, Unreachable
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.inline import Fate, InlineDatabase, Operation
from catalog.migrate import migrate
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.sqlite import SqliteDatabase
from catalog.sqlite_statements import SqliteTransaction, run_read, run_write
from catalog.topics import TopicStore

LONG_MS = 600_000
ROOT = Path(__file__).parents[2]

COMMITTER = """
import asyncio, json, sys
from pathlib import Path
from catalog.commits import CommitStore
from catalog.epochs import EpochStore
from catalog.migrate import migrate
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.sqlite import SqliteDatabase

async def main(path, topic, commits):
    db = SqliteDatabase(Path(path))
    await migrate(db)
    lease = await EpochStore(db).issue("child", 600_000)
    store = CommitStore(db, epoch_age_max_ms=600_000)
    told = []
    for number in range(commits):
        batches = tuple(BatchFacts(topic, shard, 10 * shard, 10, 1 + number % 3, 5, False) for shard in range(3))
        [done] = await store.commit([ObjectFacts(lease.epoch << 32 | number, "x", 10, batches)])
        told += [(shard, one.offset, one.offset + 1 + number % 3) for shard, one in enumerate(done.outcomes)]
    await db.close()
    print(json.dumps(told))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


async def test_two_processes_on_one_file_leave_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "neve.db"
    db = SqliteDatabase(path)
    await migrate(db)
    topic = await TopicStore(db).create("t", UUID(int=1), 3, {})
    arguments = (sys.executable, "-c", COMMITTER, str(path), str(topic.topic), "60")
    children = [
        await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT) for _ in range(2)
    ]
    told = []
    for child in children:
        output, _ = await child.communicate()
        assert child.returncode == 0
        told += json.loads(output)
    found = await ExtentStore(db).find_extents([ShardQuery(topic.topic, shard, 0) for shard in range(3)], 1000)
    for shard, snapshot in enumerate(found):
        mine = sorted((first, following) for at, first, following in told if at == shard)
        assert len(mine) == 120
        assert [first for first, _ in mine] == [0, *(following for _, following in mine[:-1])]
        assert snapshot is not None
        assert snapshot.high_watermark == mine[-1][1]
        assert [(p.extent.offset_first, p.extent.offset_next) for p in snapshot.extents] == mine
    await db.close()


async def test_a_body_that_suspends_is_refused_and_rolled_back(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "neve.db")

    async def suspends(tx: Transaction) -> None:
        await tx.execute("CREATE TABLE t (a INTEGER)")
        await asyncio.sleep(0)

    for run in (db.transact, InlineDatabase(lambda: 1).transact):
        with pytest.raises(RuntimeError, match="suspend"):
            await run(suspends)
    with pytest.raises(DatabaseError):
        await db.snapshot(lambda tx: tx.fetch("SELECT a FROM t"))
    await db.close()


async def test_a_file_held_by_another_process_is_unreachable_in_time(tmp_path: Path) -> None:
    path = tmp_path / "neve.db"
    db = SqliteDatabase(path, busy_timeout_ms=50)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable):
        await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    assert len(await db.snapshot(lambda tx: tx.fetch("SELECT 1"))) == 1
    other.execute("ROLLBACK")
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    other.close()
    await db.close()


async def test_a_process_that_writes_all_the_time_leaves_room_for_others(tmp_path: Path) -> None:
    """Its pauses are short: whoever waits in steps of 100 ms, as SQLite does, hardly ever meets one."""
    path, ended = tmp_path / "neve.db", threading.Event()
    db = SqliteDatabase(path)
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))

    def write_on() -> None:
        other = sqlite3.connect(path, isolation_level=None, timeout=10)
        while not ended.is_set():
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.06)
            other.execute("COMMIT")
            time.sleep(0.001)
        other.close()

    busy = threading.Thread(target=write_on)
    busy.start()
    try:
        began_s = time.monotonic()
        for _ in range(15):
            await asyncio.sleep(0.01)  # the other one has the lock again
            await db.transact(lambda tx: tx.execute("INSERT INTO t VALUES (1)"))
        assert time.monotonic() - began_s < 5, "each has waited for a few of the other's writes at most"
    finally:
        ended.set()
        await asyncio.to_thread(busy.join)
        await db.close()


class Unrollable(sqlite3.Connection):
    """A connection whose disk fails while it rolls back."""

    def rollback(self) -> None:
        raise sqlite3.OperationalError("disk I/O error")


async def _ask_nonsense(tx: SqliteTransaction) -> int:
    return await tx.execute("INSERT INTO nothing VALUES (1)")


@pytest.mark.parametrize("run", [run_write, run_read])
def test_a_failing_rollback_is_the_port_s_error_too(run: Callable[..., object]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=Unrollable)
    with pytest.raises(Unreachable):
        run(connection, lambda: 0, _ask_nonsense)
    connection.close()


async def test_a_folder_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        SqliteDatabase(tmp_path / "none" / "neve.db")


async def test_commits_are_flushed_unless_told_otherwise(tmp_path: Path) -> None:
    by_default = SqliteDatabase(tmp_path / "a.db")
    off = SqliteDatabase(tmp_path / "b.db", synchronous="OFF")
    for db, level in ((by_default, 2), (off, 0)):
        assert tuple((await db.transact(lambda tx: tx.fetch("PRAGMA synchronous")))[0]) == (level,)
        assert tuple((await db.snapshot(lambda tx: tx.fetch("PRAGMA journal_mode")))[0]) == ("wal",)
        await db.close()


class Faults:
    """One given fate per write, and a log of the hooks."""

    def __init__(self, *fates: Fate) -> None:
        self.fates = list(fates)
        self.log: list[str] = []

    async def before(self, operation: Operation) -> None:
        await asyncio.sleep(0)
        self.log.append(f"before {operation}")

    def fate(self) -> Fate:
        return self.fates.pop(0)

    async def after(self, operation: Operation) -> None:
        await asyncio.sleep(0)
        self.log.append(f"after {operation}")


@pytest.mark.parametrize(
    ("fate", "error", "landed"),
    [("refused", Unreachable, False), ("lost", CommitUnknown, False), ("reply-lost", CommitUnknown, True)],
)
async def test_injected_faults_and_their_way_out(fate: Fate, error: type[Exception], landed: bool) -> None:
    now = 1_000_000
    db = InlineDatabase(lambda: now)
    await migrate(db)
    topic = await TopicStore(db).create("t", UUID(int=1), 1, {})
    lease = await EpochStore(db).issue("me", LONG_MS)
    faults = Faults(fate, "lands", "lands")
    commits = CommitStore(db.handle(faults), epoch_age_max_ms=LONG_MS)
    facts = ObjectFacts(lease.epoch << 32 | 1, "x", 10, (BatchFacts(topic.topic, 0, 0, 10, 3, 5, True),))
    with pytest.raises(error):
        await commits.commit([facts])
    resolved = (await commits.resolve([facts]))[facts.object_id]
    assert (resolved is not None) == landed
    [done] = await commits.commit([facts])
    assert isinstance(done, Committed)
    assert done.replayed == landed
    assert (done.outcomes[0].offset, done.outcomes[0].append_ms) == (0, now)
    assert faults.log.count("before transact") == 3
    assert faults.log.count("after transact") == (3 if landed else 2)
    await db.close()


async def test_delays_let_others_in_between() -> None:
    db = InlineDatabase(lambda: 1)
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    slow = db.handle(Faults("lands"))
    write: Callable[[Transaction], Awaitable[int]] = lambda tx: tx.execute("INSERT INTO t VALUES (1)")  # noqa: E731
    task = asyncio.create_task(slow.transact(write))
    await db.transact(write)
    assert not task.done()
    await task
    assert len(await slow.snapshot(lambda tx: tx.fetch("SELECT a FROM t"))) == 2
    await slow.close()
    assert len(await db.snapshot(lambda tx: tx.fetch("SELECT a FROM t"))) == 2
    await db.close()


async def _thread(tx: Transaction) -> int:
    await tx.execute("INSERT INTO t VALUES (1)")
    return threading.get_ident()


async def test_small_transactions_need_no_thread_where_nothing_is_flushed(tmp_path: Path) -> None:
    here = threading.get_ident()
    flushed = SqliteDatabase(tmp_path / "a.db")
    unflushed = SqliteDatabase(tmp_path / "b.db", synchronous="OFF")
    for db in (flushed, unflushed):
        await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    assert await unflushed.transact(_thread, small=True) == here
    assert await unflushed.transact(_thread) != here
    assert await flushed.transact(_thread, small=True) != here
    assert await unflushed.snapshot(lambda tx: tx.fetch("SELECT count(*) FROM t")) == [(2,)]
    for db in (flushed, unflushed):
        await db.close()


async def test_a_small_transaction_waits_for_one_in_the_thread(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "neve.db", synchronous="OFF")
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    began, go_on = threading.Event(), threading.Event()

    async def slow(tx: Transaction) -> int:
        await tx.execute("INSERT INTO t VALUES (0)")
        began.set()
        go_on.wait(10)
        return threading.get_ident()

    first = asyncio.create_task(db.transact(slow))
    await asyncio.to_thread(began.wait, 10)
    second = asyncio.create_task(db.transact(_thread, small=True))
    await asyncio.sleep(0.01)
    assert not second.done()
    go_on.set()
    assert await first == await second  # the thread's, one after the other
    assert await db.transact(_thread, small=True) == threading.get_ident()
    await db.close()


async def test_a_small_transaction_waits_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "neve.db"
    db = SqliteDatabase(path, synchronous="OFF")
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(db.transact(_thread, small=True))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    other.execute("COMMIT")
    assert await waiting != threading.get_ident()
    other.close()
    await db.close()


async def test_a_small_transaction_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "neve.db", synchronous="OFF")
    await db.transact(lambda tx: tx.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)"))

    async def twice(tx: Transaction) -> None:
        await tx.execute("INSERT INTO t VALUES (1)")
        await tx.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(UniqueViolation):
        await db.transact(twice, small=True)
    assert await db.transact(_thread, small=True) == threading.get_ident()
    await db.close()
    with pytest.raises(RuntimeError):
        await db.transact(_thread, small=True)
