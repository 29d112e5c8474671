"""Jobs leave the one write lock of a SQLite file to others most of the time; reads and PostgreSQL wait for nobody."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import Any

import pytest

from broker.jobs.polite_database import REST_MAX_S, PoliteDatabase, polite
from catalog.database import Transaction, Unreachable
from catalog.inline import InlineDatabase


class At:
    """A clock that sleeping moves."""

    s = 100.0

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> At:
    clock = At()

    async def sleep(seconds: float) -> None:
        clock.s += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return clock


async def test_the_lock_is_left_alone_after_each_write(clock: At) -> None:
    database = PoliteDatabase(InlineDatabase(lambda: 0), clock, 0.1)
    began: list[float] = []

    async def write(tx: Transaction, takes_s: float) -> str:
        began.append(clock.s)
        clock.s += takes_s
        return "written"

    for takes_s in (0.02, 0.0, 5.0, 0.0):
        assert await database.transact(functools.partial(write, takes_s=takes_s)) == "written"
    gaps = [later - before for before, later in itertools.pairwise(began)]
    assert gaps == pytest.approx([0.02 * 10, 0.0, 5.0 + REST_MAX_S])
    at_s = clock.s
    assert await database.snapshot(lambda tx: tx.fetch("SELECT 1")) == [(1,)]
    assert clock.s == at_s, "reads take no lock"


async def test_a_write_that_failed_rests_too(clock: At) -> None:
    database = PoliteDatabase(InlineDatabase(lambda: 0), clock, 0.1)

    async def fails(_: Transaction) -> None:
        clock.s += 0.05
        raise Unreachable("no")

    async def nothing(_: Transaction) -> None:
        pass

    with pytest.raises(Unreachable):
        await database.transact(fails)
    at_s = clock.s
    await database.transact(nothing)
    assert clock.s - at_s == pytest.approx(0.05 * 9)


def test_only_a_database_with_one_write_lock_is_treated_so() -> None:
    class Postgres:
        dialect = "postgresql"

    server: Any = Postgres()
    assert polite(server, At(), 0.1) is server
    assert isinstance(polite(InlineDatabase(lambda: 0), At(), 0.1), PoliteDatabase)
