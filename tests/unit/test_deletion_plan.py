"""How far retention goes, against Kafka's rules: oldest first, the first that stays ends it, the export holds back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.deletion.plan import Pin, Policy, expired, policy_of, unpinned
from catalog.retained import OldExtent
from schemas.settings import Settings

NOW_MS = 1_000_000


def extents(*ages_ms: int, size: int = 100) -> list[OldExtent]:
    """One for each age, ten records each, committed when their records are from."""
    return [OldExtent(10 * (at + 1), NOW_MS - age, NOW_MS - age, size) for at, age in enumerate(ages_ms)]


@pytest.mark.parametrize(
    ("config", "policy"),
    [
        ({}, Policy(604_800_000, -1)),
        ({"retention.ms": "-1"}, None),
        ({"retention.ms": "-1", "retention.bytes": "0"}, Policy(-1, 0)),
        ({"cleanup.policy": "compact"}, None),
        ({"cleanup.policy": ""}, None),
        ({"cleanup.policy": "compact,delete", "retention.ms": "5"}, Policy(5, -1)),
    ],
)
def test_the_policy_of_a_topic(config: dict[str, str], policy: Policy | None) -> None:
    assert policy_of(config, {}) == policy


def test_a_broker_setting_stands_in() -> None:
    assert policy_of({}, {"log.retention.ms": "7"}) == Policy(7, -1)
    assert policy_of({"retention.ms": "9"}, {"log.retention.ms": "7"}) == Policy(9, -1)


@pytest.mark.parametrize(
    ("ages_ms", "count"),
    [
        ((101, 50), 1),
        ((100, 50), 0),  # older than, not as old as
        ((500, 400, 300), 3),
        ((500, 10, 500), 1),  # what lies behind a newer one stays
        ((-5, 500), 0),  # a record from the future holds back
    ],
)
def test_by_age(ages_ms: tuple[int, ...], count: int) -> None:
    assert expired(extents(*ages_ms), policy=Policy(100, -1), now_ms=NOW_MS, log_bytes=0) == count


@pytest.mark.parametrize(
    ("log_bytes", "keep_bytes", "count"),
    [(300, 300, 0), (300, 201, 0), (300, 200, 1), (300, 101, 1), (300, 100, 2), (300, 0, 3), (1000, 900, 1)],
)
def test_by_size(log_bytes: int, keep_bytes: int, count: int) -> None:
    assert expired(extents(0, 0, 0), policy=Policy(-1, keep_bytes), now_ms=NOW_MS, log_bytes=log_bytes) == count


def test_by_either() -> None:
    policy = Policy(100, 150)
    assert expired(extents(500, 0, 0), policy=policy, now_ms=NOW_MS, log_bytes=300) == 1
    assert expired(extents(500, 500, 0), policy=policy, now_ms=NOW_MS, log_bytes=300) == 2
    assert expired(extents(0, 500, 0), policy=policy, now_ms=NOW_MS, log_bytes=300) == 2


@given(
    st.lists(st.tuples(st.integers(-200, 400), st.integers(1, 50)), max_size=8),
    st.integers(0, 300),
    st.integers(0, 400),
)
def test_what_stays_is_what_was_asked_for(log: list[tuple[int, int]], keep_ms: int, keep_bytes: int) -> None:
    rows = [OldExtent(at + 1, NOW_MS - age, NOW_MS - age, size) for at, (age, size) in enumerate(log)]
    total = sum(size for _, size in log)
    count = expired(rows, policy=Policy(keep_ms, keep_bytes), now_ms=NOW_MS, log_bytes=total)
    for at, one in enumerate(rows[:count]):
        left = sum(row.bytes for row in rows[at + 1 :])
        assert NOW_MS - one.timestamp_ms > keep_ms or left >= keep_bytes
    if count < len(rows):
        left = sum(row.bytes for row in rows[count + 1 :])
        assert NOW_MS - rows[count].timestamp_ms <= keep_ms
        assert left < keep_bytes


@pytest.mark.parametrize(
    ("exported", "pin_ms", "pin_bytes", "count"),
    [
        (30, 1000, 1000, 3),  # all are in the tables
        (20, 1000, 1000, 2),
        (15, 1000, 1000, 1),  # in part is not
        (0, 1000, 1000, 0),
        (0, 350, 1000, 2),  # waited long enough
        (0, 0, 1000, 3),
        (0, 1000, 250, 1),  # too much: the oldest go until the rest fits
        (0, 1000, 0, 3),
        (20, 1000, 0, 3),
    ],
)
def test_the_export_holds_back_for_a_while(exported: int, pin_ms: int, pin_bytes: int, count: int) -> None:
    rows = extents(500, 400, 300)
    pin = Pin(exported, pin_ms, pin_bytes, 100 * (3 - exported // 10))
    assert unpinned(rows, pin=pin, now_ms=NOW_MS) == count


def test_objects_are_not_deleted_while_a_fetch_may_be_at_them() -> None:
    with pytest.raises(ValueError, match="object_delete_delay_ms is 5000: it must be at least twice fetch_read_ms"):
        Settings(object_delete_delay_ms=5_000)
    assert Settings(object_delete_delay_ms=5_000, fetch_read_ms=2_500).object_delete_delay_ms == 5_000
