"""The database port with faults: what was committed after each way of not answering, on the inline and the threaded SQLite."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.faults.database import FaultyDatabase, subject_of
from broker.faults.table import FaultTable
from catalog.database import CommitUnknown, Database, Transaction, Unreachable
from catalog.inline import InlineDatabase
from catalog.sqlite import SqliteDatabase
from schemas.fault_points import FaultRule


class Notes:
    """A store with one table, as those of the catalog are written."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, note: str) -> int:
        async def body(tx: Transaction) -> int:
            return await tx.execute("INSERT INTO notes (note) VALUES ($1)", note)

        return await self._db.transact(body)

    async def all(self) -> list[str]:
        rows = await self._db.snapshot(lambda tx: tx.fetch("SELECT note FROM notes ORDER BY note"))
        return [str(note) for (note,) in rows]


@pytest.fixture(params=["inline", "threads"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    made: Database
    if request.param == "inline":
        made = InlineDatabase(lambda: 0)
    else:
        made = SqliteDatabase(tmp_path / "x.db", synchronous="OFF", busy_timeout_ms=1000, readers=1)
    await made.transact(lambda tx: tx.execute("CREATE TABLE notes (note TEXT)"))
    yield made
    await made.close()


class Rig:
    """A faulty database with its table, and the notes as they really are."""

    def __init__(self, inner: Database) -> None:
        self.table = FaultTable(random.Random(1))
        self.slept: list[float] = []
        self.faulty = FaultyDatabase(inner, random.Random(1), self.table.strike, self._sleep)
        self.notes = Notes(self.faulty)
        self.real = Notes(inner)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0.01)


async def test_without_rules_it_is_the_database(database: Database) -> None:
    rig = Rig(database)
    assert await rig.notes.add("a") == 1
    assert await rig.notes.all() == ["a"]
    assert rig.faulty.dialect == database.dialect
    assert rig.slept == []


@pytest.mark.parametrize(
    ("point", "error", "committed"),
    [
        ("db_refused", Unreachable, []),
        ("db_reply_lost", CommitUnknown, ["a"]),
        ("db_request_lost", CommitUnknown, []),
    ],
)
async def test_what_is_committed_after_a_fault(
    database: Database, point: str, error: type[Exception], committed: list[str]
) -> None:
    rig = Rig(database)
    rig.table.add(FaultRule(point, times=1))
    with pytest.raises(error):
        await rig.notes.add("a")
    assert await rig.real.all() == committed
    await rig.notes.add("b")
    assert await rig.real.all() == [*committed, "b"]


async def test_a_late_commit_lands_when_nobody_waits_any_more(database: Database) -> None:
    rig = Rig(database)
    rig.table.add(FaultRule("db_landed_late", times=1, delay_ms=500))
    with pytest.raises(CommitUnknown):
        await rig.notes.add("a")
    assert await rig.real.all() == []
    async with asyncio.timeout(5):
        while await rig.real.all() != ["a"]:  # noqa: ASYNC110  what lands is in the database alone
            await asyncio.sleep(0.01)
    assert rig.slept
    assert 0 <= rig.slept[0] <= 0.5


async def test_slow_waits_and_then_answers(database: Database) -> None:
    rig = Rig(database)
    rig.table.add(FaultRule("db_slow", delay_ms=200))
    assert await rig.notes.add("a") == 1
    assert await rig.notes.all() == ["a"]
    assert len(rig.slept) == 2


async def test_a_pattern_chooses_the_operation(database: Database) -> None:
    rig = Rig(database)
    rig.table.add(FaultRule("db_refused", pattern="Notes.all"))
    await rig.notes.add("a")
    with pytest.raises(Unreachable, match=r"Notes\.all"):
        await rig.notes.all()


async def test_a_lost_hint_is_not_sent(database: Database) -> None:
    told: list[str] = []

    class Telling(FaultyDatabase):
        async def notify(self, channel: str, payload: str) -> None:
            told.append(payload)

    rig = Rig(Telling(database, random.Random(1), lambda _point, _subject: None))
    rig.table.add(FaultRule("hint_lost", times=1, pattern="commits"))
    for payload in ("1", "2"):
        await rig.faulty.notify("commits", payload)
    assert told == ["2"]


def test_subjects_are_methods_of_stores() -> None:
    assert subject_of(Notes.add) == f"{Notes.__name__}.add"
    assert subject_of(lambda tx: tx) == "test_subjects_are_methods_of_stores"
