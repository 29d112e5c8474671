"""The tail index against a naive model: what it answers is always what the log holds, without a gap."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.fetch.tail_index import TailIndex
from catalog.sequence import Extent

KEY = (1, 0)


def extent(first: int, offset_next: int, shard: int = 0) -> Extent:
    return Extent(1, shard, first, offset_next, first + 1, 0, offset_next - first, 1, 0, -1)


def test_a_gap_sends_the_shard_to_the_database() -> None:
    index = TailIndex(100)
    assert index.commit(extent(0, 5), 0)
    assert not index.commit(extent(7, 9), 0), "another agent committed [5, 7)"
    tail = index.tail(KEY)
    assert tail is not None
    assert not tail.covers(4)
    assert not tail.covers(6)
    assert tail.covers(7)
    assert tail.high_watermark == 9


def test_the_reply_to_an_own_commit_may_come_after_polling_saw_it() -> None:
    index = TailIndex(100)
    index.learn(KEY, 9, 0, [extent(0, 5), extent(5, 9)])
    assert index.commit(extent(5, 9), 0)
    tail = index.tail(KEY)
    assert tail is not None
    assert (tail.high_watermark, len(tail)) == (9, 2)


def test_a_read_that_stops_short_of_the_high_watermark_is_not_the_tail() -> None:
    index = TailIndex(100)
    assert not index.learn(KEY, 9, 0, [extent(0, 5)])
    assert index.tail(KEY) is None


def test_what_a_consumer_was_told_from_the_database_is_not_taken_back() -> None:
    index = TailIndex(100)
    index.learn(KEY, 5, 0, [extent(0, 5)])
    index.seed(KEY, 20, 0, [extent(5, 9)])
    tail = index.tail(KEY)
    assert tail is not None
    assert (tail.high_watermark, tail.seen) == (5, 20)
    assert tail.covers(4)
    assert not tail.covers(5), "there is more, and it isn't known here"
    index.drop(KEY)
    index.commit(extent(9, 12), 0)
    tail = index.tail(KEY)
    assert tail is not None
    assert tail.seen == 20


def test_below_the_log_start_the_database_is_asked() -> None:
    index = TailIndex(100)
    index.learn(KEY, 9, 0, [extent(0, 5), extent(5, 9)])
    index.learn(KEY, 9, 6, [extent(5, 9)])
    tail = index.tail(KEY)
    assert tail is not None
    assert not tail.covers(5)
    assert tail.covers(6)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("own"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("other"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("late own"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("learn"), st.integers(0, 1), st.integers(0, 30)),
        st.tuples(st.just("seed"), st.integers(0, 1), st.integers(0, 30)),
        st.tuples(st.just("stale learn"), st.integers(0, 1), st.integers(0, 30)),
        st.tuples(st.just("short learn"), st.integers(0, 1), st.integers(0, 30)),
        st.tuples(st.just("drop"), st.integers(0, 1), st.just(0)),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 12))
@settings(max_examples=300)
def test_it_only_ever_says_what_the_log_holds(script: list[tuple[str, int, int]], extents_max: int) -> None:
    index = TailIndex(extents_max)
    logs: dict[int, list[Extent]] = {0: [], 1: []}
    late: list[Extent] = []
    stale: dict[int, list[Extent]] = {0: [], 1: []}
    highest = {0: -1, 1: -1}
    for what, shard, number in script:
        log = logs[shard]
        key = (1, shard)
        end = log[-1].offset_next if log else 0
        if what in ("own", "other", "late own"):
            log.append(extent(end, end + number, shard))
            if what == "own":
                for before in late:  # replies arrive in order
                    index.commit(before, 0)
                late = []
                index.commit(log[-1], 0)
            elif what == "late own":
                late.append(log[-1])
        elif what == "drop":
            index.drop(key)
        else:
            if what == "stale learn":
                log = stale[shard]
                end = log[-1].offset_next if log else 0
            known = index.tail(key)
            start = min(number, end) if what != "learn" or known is None else known.high_watermark
            found = [e for e in log if e.offset_next > start]
            if what == "short learn":
                found = found[: len(found) // 2]
                if not found:
                    continue
            (index.seed if what == "seed" else index.learn)(key, end, 0, found)
            highest[shard] = max(highest[shard], end)
            stale[shard] = list(logs[shard])
        check(index, logs, extents_max)
        for number_of_shard in (0, 1):
            tail = index.tail((1, number_of_shard))
            if tail is not None:
                assert tail.seen >= highest[number_of_shard], "what is answered as the high watermark never goes back"
                highest[number_of_shard] = tail.seen


def check(index: TailIndex, logs: dict[int, list[Extent]], extents_max: int) -> None:
    """Whatever the index covers is contiguous and equal to the log."""
    total = 0
    for shard, log in logs.items():
        tail = index.tail((1, shard))
        if tail is None:
            continue
        total += len(tail)
        held = tail.extents[tail.head :]
        assert held == [e for e in log if tail.offset_first <= e.offset_first and e.offset_next <= tail.high_watermark]
        for offset in range(tail.offset_first, tail.high_watermark):
            assert tail.covers(offset)
            found = tail.extents[tail.find(offset)]
            assert found.offset_first <= offset < found.offset_next
        assert tail.find(tail.high_watermark) == len(tail.extents)
        assert not tail.covers(tail.offset_first - 1)
        assert not tail.covers(tail.high_watermark + 1)
    assert total == index.extents <= extents_max
