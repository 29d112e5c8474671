"""Fair shares, growing pauses and giving way, as functions over values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.jobs.pace import BUSY_ALL, BUSY_FIRST, LAG_ALL_MS, load_of, rest_ms, share_of
from broker.jobs.port import Load
from broker.jobs.schedule import Shares, retry_ms
from catalog.jobs import JobKey

KEYS = [JobKey("a"), JobKey("b", "1"), JobKey("b", "2"), JobKey("c")]
LONGEST_MS = 500.0


@dataclass(frozen=True)
class Step:
    """Who wants a turn, and how long the turn takes that follows."""

    wanting: frozenset[JobKey]
    ms: float


steps = st.lists(
    st.builds(
        Step, st.frozensets(st.sampled_from(KEYS), min_size=1), st.floats(0, LONGEST_MS, allow_nan=False, width=16)
    ),
    max_size=80,
)


@given(steps)
def test_no_job_starves_another(history: list[Step]) -> None:
    """While a job wants turns, no other one works for longer than it did, but for one turn of each."""
    shares = Shares()
    since: dict[JobKey, dict[JobKey, float]] = {}
    for step in history:
        for key in KEYS:
            if key not in step.wanting:
                since.pop(key, None)
            elif key not in since:
                since[key] = dict.fromkeys(KEYS, 0.0)
        picked = shares.pick(sorted(step.wanting))
        assert picked in step.wanting
        shares.worked(picked, step.ms)
        for key, worked in since.items():
            worked[picked] += max(step.ms, 0.1)
            for other in KEYS:
                assert worked[other] <= worked[key] + 2 * LONGEST_MS + 1e-6, (key, other)


@given(st.lists(st.sampled_from([1.0, 10.0, 100.0]), min_size=len(KEYS), max_size=len(KEYS)))
def test_all_that_always_want_turns_get_as_much_time(lengths: list[float]) -> None:
    shares = Shares()
    total = dict.fromkeys(KEYS, 0.0)
    while sum(total.values()) < 20_000:
        key = shares.pick(KEYS)
        total[key] += lengths[KEYS.index(key)]
        shares.worked(key, lengths[KEYS.index(key)])
    assert max(total.values()) - min(total.values()) <= 100


def test_turns_of_no_length_go_around() -> None:
    shares = Shares()
    seen = []
    for _ in range(8):
        seen.append(shares.pick(KEYS))
        shares.worked(seen[-1], 0.0)
    assert seen == KEYS * 2


def test_who_was_away_has_saved_nothing_up() -> None:
    shares, (first, second, *_) = Shares(), KEYS
    shares.worked(shares.pick([first, second]), 100)
    for _ in range(50):
        assert shares.pick([first]) == first
        shares.worked(first, 100)
    turns = []
    for _ in range(6):
        turns.append(shares.pick([first, second]))
        shares.worked(turns[-1], 100)
    assert sorted(turns[:2]) == [first, second], "not fifty turns of the second one"


@pytest.mark.parametrize(
    ("failures", "wait_ms"), [(1, 500), (2, 1000), (3, 2000), (6, 16_000), (7, 30_000), (10_000, 30_000)]
)
def test_waits_after_failures_double_up_to_a_bound(failures: int, wait_ms: int) -> None:
    assert retry_ms(failures, 500, 30_000) == wait_ms


@given(st.floats(0, 1), st.floats(0.01, 1))
def test_jobs_give_way_evenly_and_never_wholly(busy: float, share_min: float) -> None:
    share = share_of(Load(busy), share_min)
    assert share_min - 1e-9 <= share <= 1
    assert (share == 1) == (busy <= BUSY_FIRST or share_min == 1) or share == pytest.approx(1)
    if busy >= BUSY_ALL:
        assert share == pytest.approx(share_min)
    assert share_of(Load(min(1.0, busy + 0.1)), share_min) <= share


def test_rests_make_the_share() -> None:
    assert rest_ms(50, 1.0, 1000) == 0
    assert rest_ms(50, 0.1, 1000) == pytest.approx(450)
    assert rest_ms(5000, 0.01, 1000) == 1000


def test_an_agent_is_loaded_by_its_cpu_time_or_by_what_makes_it_late() -> None:
    assert load_of(0.4, []) == Load(0.4)
    assert load_of(1.7, [0.0]) == Load(1.0)
    assert load_of(0.1, [0.0, 0.1, 90.0, 0.1, 0.2]).busy == pytest.approx(0.1), "late once is chance"
    assert load_of(0.1, [LAG_ALL_MS] * 5) == Load(BUSY_ALL)
