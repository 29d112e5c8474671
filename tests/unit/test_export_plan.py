"""What settings ask for, when a chunk is due, and what a new lease holder makes of the ledger."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from catalog.exports import LedgerFile
from catalog.extents import PlacedExtent
from catalog.sequence import Extent
from lakehouse.export_plan import Backlog, PlanError, TopicPlan, is_excluded, plan_topic
from lakehouse.ledger_recovery import recover
from lakehouse.log_slice import GAP_BYTES_MAX, group_reads
from schemas.settings import Settings

TABLES = {"main": "topics.t", "history": "topics.t__history", "dlq": "topics.t__dlq"}


def plan(**config: str) -> TopicPlan | None:
    values = {name.replace("__", "."): value for name, value in config.items()}
    return plan_topic(topic=1, topic_id=UUID(int=1), name="t", shards=2, created_ms=0, config=values, tables=TABLES)


def test_kinds_of_tables() -> None:
    found = plan()
    assert found is not None
    assert [(one.kind, one.rows, one.partition_by) for one in found.tables] == [
        ("main", "append", "day(_kafka_timestamp)")
    ]
    assert found.columns is None
    found = plan(cleanup__policy="compact,delete")
    assert found is not None
    assert [(one.kind, one.rows) for one in found.tables] == [("main", "latest"), ("history", "append")]
    found = plan(cleanup__policy="compact", iceberg__kind="append")
    assert found is not None
    assert [(one.kind, one.rows) for one in found.tables] == [("main", "append")]
    found = plan(iceberg__kind="latest", iceberg__history="false")
    assert found is not None
    assert [(one.kind, one.rows) for one in found.tables] == [("main", "latest")]
    assert plan(iceberg__mode="disabled") is None


def test_modes() -> None:
    found = plan(iceberg__columns="id long")
    assert found is not None
    assert found.columns is not None
    found = plan(iceberg__mode="raw", iceberg__columns="id long")
    assert found is not None
    assert found.columns is None
    with pytest.raises(PlanError, match="declare at least one column"):
        plan(iceberg__mode="json")
    with pytest.raises(PlanError, match="registry"):
        plan(iceberg__mode="schema")


def test_excluded_by_default() -> None:
    pattern = Settings().iceberg_exclude
    for name in ("app-store-changelog", "app-x-repartition", "connect-offsets", "__internal"):
        assert is_excluded(pattern, name)
    assert not is_excluded(pattern, "changelog")
    assert not is_excluded("", "__internal")


def test_backlog_is_due_when_full_late_or_idle() -> None:
    backlog = Backlog()
    limits = {"chunk_bytes": 100, "lag_ms": 1000, "idle_ms": 50}
    backlog.see(0, 0, behind=False)
    assert not backlog.is_due(0, bytes_behind=0, **limits)
    backlog.see(10, 5, behind=True)
    assert not backlog.is_due(10, bytes_behind=99, **limits)
    assert backlog.is_due(10, bytes_behind=100, **limits)
    for now in range(20, 1000, 40):
        backlog.see(now, 5 + now, behind=True)
        assert not backlog.is_due(now, bytes_behind=1, **limits)
    assert backlog.is_due(1010, bytes_behind=1, **limits)
    quiet = Backlog()
    quiet.see(0, 5, behind=True)
    quiet.see(40, 5, behind=True)
    assert not quiet.is_due(49, bytes_behind=1, **limits)
    assert quiet.is_due(50, bytes_behind=1, **limits)


def file(number: int, shard: int, first: int, next_: int, chunk: str) -> LedgerFile:
    return LedgerFile(1, "main", shard, first, next_, "p", 1, 1, "", json.dumps({"chunk": chunk}), id=number)


def test_ledger_goes_on_from_the_watermark() -> None:
    pending = [file(1, 0, 0, 5, "a"), file(2, 1, 0, 3, "a"), file(3, 0, 5, 9, "b"), file(4, 1, 3, 4, "c")]
    found = recover({0: 5, 1: 3}, pending, reusable=True)
    assert (found.landed, found.given_up, [one.id for one in found.waiting]) == ((1, 2), (), [3, 4])
    assert found.ends == {0: 9, 1: 4}


def test_ledger_that_does_not_fit_is_given_up() -> None:
    pending = [file(1, 0, 2, 5, "a"), file(2, 1, 0, 3, "a"), file(3, 1, 3, 9, "b")]
    found = recover({0: 1, 1: 0}, pending, reusable=True)
    assert (found.landed, found.given_up, found.waiting) == ((), (1, 2, 3), ())
    assert found.ends == {0: 1, 1: 0}
    assert recover({0: 2}, pending, reusable=False).given_up == (1, 2, 3)


def placed(name: str, first: int, length: int) -> PlacedExtent:
    return PlacedExtent(Extent(1, 0, 0, 1, 1, first, length, 1, 0, -1), name)


def test_neighbours_are_read_with_one_get() -> None:
    far = 300 + GAP_BYTES_MAX + 1
    found = group_reads([placed("b", 0, 9), placed("a", 200, 100), placed("a", 0, 100), placed("a", far, 5)])
    assert found == [("a", [2, 1]), ("a", [3]), ("b", [0])]


def test_a_pattern_of_excluded_topics_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        Settings(iceberg_exclude="(")
