"""What strikes: rates, patterns, budgets, durations, and rules that are kept over a change of the others."""

from __future__ import annotations

import random

import pytest

from broker.faults.table import FaultTable
from schemas.fault_points import POINTS, FaultRule, WrongFault


def strikes(table: FaultTable, point: str, count: int, subject: str = "x", now_s: float = 0.0) -> int:
    return sum(table.strike(point, subject, now_s) is not None for _ in range(count))


def test_nothing_strikes_and_nothing_is_drawn_without_a_rule() -> None:
    rng = random.Random(1)
    state = rng.getstate()
    table = FaultTable(rng)
    assert strikes(table, "put_refused", 100) == 0
    table.add(FaultRule("get_refused", 0.5))
    assert strikes(table, "put_refused", 100) == 0
    assert rng.getstate() == state


def test_the_rate_is_a_share_and_one_is_always() -> None:
    table = FaultTable(random.Random(2))
    table.add(FaultRule("put_refused", 0.25))
    table.add(FaultRule("get_refused", 1.0))
    assert 200 < strikes(table, "put_refused", 1000) < 300
    assert strikes(table, "get_refused", 1000) == 1000
    assert table.fired["get_refused"] == 1000


def test_a_budget_ends_and_a_pattern_chooses() -> None:
    table = FaultTable(random.Random(3))
    table.add(FaultRule("put_refused", times=3, pattern="*/segments/*"))
    assert strikes(table, "put_refused", 5, "c/tables/1") == 0
    assert strikes(table, "put_refused", 5, "c/segments/1") == 3


def test_a_duration_ends() -> None:
    table = FaultTable(random.Random(4))
    table.add(FaultRule("put_refused"), until_s=10.0)
    assert strikes(table, "put_refused", 2, now_s=9.9) == 2
    assert strikes(table, "put_refused", 2, now_s=10.0) == 0


def test_the_first_rule_that_strikes_decides() -> None:
    table = FaultTable(random.Random(5))
    table.add(FaultRule("put_slow", delay_ms=1))
    table.add(FaultRule("put_slow", delay_ms=2, times=1), first=True)
    first, second = table.strike("put_slow"), table.strike("put_slow")
    assert first is not None
    assert second is not None
    assert (first.delay_ms, second.delay_ms) == (2, 1)


def test_a_rule_that_stays_keeps_what_is_left_of_its_budget() -> None:
    table = FaultTable(random.Random(6))
    rule = FaultRule("put_refused", times=5, number=7)
    table.replace([(rule, 100.0)])
    assert strikes(table, "put_refused", 2) == 2
    table.replace([(rule, 50.0), (FaultRule("get_refused", number=8), 100.0)])
    assert strikes(table, "put_refused", 10) == 3
    assert table.fired_by(7) == 5
    table.replace([])
    assert not table.armed("put_refused")
    assert table.fired["put_refused"] == 5


def test_each_strike_is_told() -> None:
    told: list[str] = []
    table = FaultTable(random.Random(7), told.append)
    table.add(FaultRule("db_refused", times=2))
    strikes(table, "db_refused", 9)
    assert told == ["db_refused", "db_refused"]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        (FaultRule("put_eaten"), "put_eaten"),
        (FaultRule("put_slow", rate=0.0), "rate 0"),
        (FaultRule("put_slow", rate=1.5), "rate 1.5"),
        (FaultRule("put_slow", pattern=""), "pattern"),
        (FaultRule("put_slow", delay_ms=0), "delay"),
        (FaultRule("put_slow", times=0), "0 times"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: FaultRule, names: str) -> None:
    with pytest.raises(WrongFault, match=names):
        rule.checked()


def test_every_point_says_what_it_does() -> None:
    assert all(point.does.endswith(".") for point in POINTS.values())
    assert {point.place for point in POINTS.values()} == {"store", "database", "network"}
