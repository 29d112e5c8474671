"""Fair shares, growing pauses and giving way, as functions over values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.jobs.load import SILENT_S, CpuTimes, ToldLoad, busy_between
from broker.jobs.pace import BUSY_ALL, BUSY_FIRST, LAG_ALL_MS, load_of, mostly_ms, rest_ms, share_of
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


def test_clients_are_seen_by_the_cpu_they_take_and_by_how_late_the_agent_is() -> None:
    assert load_of(0.4, 0.0) == Load(0.4)
    assert load_of(1.7, 0.0) == Load(1.0)
    assert load_of(0.1, LAG_ALL_MS) == Load(BUSY_ALL)
    assert load_of(0.1, 1000.0) == Load(1.0)
    assert mostly_ms([]) == 0.0
    assert mostly_ms([0.0, 0.1, 90.0, 0.1, 0.2]) == 0.2, "late once is chance"
    assert mostly_ms([50.0, 60.0, 0.0, 70.0]) == 70.0


def test_cpu_time_of_niced_processes_is_not_the_clients() -> None:
    before = CpuTimes.parsed("cpu  100 50 30 800 20 1 2 3 0 0\ncpu0 1 1 1 1\n")
    assert before == CpuTimes(busy=136, idle=820, niced=50)
    after = CpuTimes(busy=before.busy + 30, idle=before.idle + 20, niced=before.niced + 50)
    assert busy_between(before, after) == pytest.approx(0.3)
    assert busy_between(before, before) == 0.0
    assert busy_between(after, before) == 0.0, "the counters went back"
    for text in ("", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h\n"):
        assert CpuTimes.parsed(text) is None


@dataclass
class At:
    """A clock that stands still."""

    s: float = 0.0

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.s


def test_the_load_is_what_the_agent_tells_and_the_machine_shows() -> None:
    clock, stats = At(), iter([CpuTimes(0, 0, 0), CpuTimes(40, 60, 0), CpuTimes(41, 159, 0), None])
    told = ToldLoad(clock, lambda: next(stats))
    assert told.load() == Load(0.0), "nobody has told anything: there may be no agent here"
    clock.s = 1.0
    assert told.load() == Load(0.4)
    told.heard(b"15.0\n")
    assert told.load().busy == pytest.approx(0.6)
    told.heard(b"nonsense\n")
    assert told.load().busy == pytest.approx(0.6)
    clock.s = 2.0
    assert told.load().busy == pytest.approx(0.6)
    told.heard(b"0.1")
    assert told.load().busy == pytest.approx(0.01)
    clock.s = 2.0 + SILENT_S
    assert told.load() == Load(1.0), "the agent's loop doesn't come to it"
