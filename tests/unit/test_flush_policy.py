"""Accumulator and flush policy: what is gathered, and when it goes."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from broker.ingest.accumulator import Accumulator
from broker.ingest.flush_policy import BufferState, FlushLimits, plan_flush
from broker.services import Append
from tests.data_path import append_of, batch_of

LIMITS = FlushLimits(interval_s=0.25, interval_min_s=0.1, bytes_max=1000, shards_max=10, uploads_max=4, eager_flushes=2)
STATE = BufferState(bytes=10, shards=1, first_s=100.0, last_start_s=99.0, uploads=0, flushes=0)
BATCHES = [batch_of(bytes([n]) * n) for n in range(1, 20)]


def test_nothing_is_never_flushed() -> None:
    assert plan_flush(STATE._replace(bytes=0), 200.0, LIMITS) == (False, "wait", None)


def test_a_full_buffer_goes_whatever_is_in_flight() -> None:
    busy = STATE._replace(uploads=4, flushes=9)
    assert plan_flush(busy._replace(bytes=1000), 100.0, LIMITS).reason == "bytes"
    assert plan_flush(busy._replace(shards=10), 100.0, LIMITS).reason == "shards"


def test_the_interval_counts_from_the_first_byte() -> None:
    waiting = STATE._replace(flushes=2)
    assert plan_flush(waiting, 100.2, LIMITS) == (False, "wait", 100.25 - 100.2)
    assert plan_flush(waiting, 100.25, LIMITS).reason == "interval"


def test_eager_while_few_are_on_their_way_and_the_minimum_has_passed() -> None:
    assert plan_flush(STATE, 100.0, LIMITS).reason == "eager"
    recent = STATE._replace(last_start_s=99.95)
    plan = plan_flush(recent, 100.0, LIMITS)
    assert not plan.flush
    assert plan.wait_s is not None
    assert abs(plan.wait_s - 0.05) < 1e-9
    assert not plan_flush(STATE._replace(flushes=2), 100.0, LIMITS).flush


def test_with_all_uploads_taken_the_buffer_waits_for_one() -> None:
    assert plan_flush(STATE._replace(uploads=4, flushes=4), 300.0, LIMITS) == (False, "wait", None)
    assert not plan_flush(STATE._replace(uploads=4, draining=True), 100.0, LIMITS).flush


def test_draining_does_not_wait() -> None:
    assert plan_flush(STATE._replace(flushes=3, draining=True), 100.0, LIMITS).reason == "drain"


@given(
    st.builds(
        BufferState,
        bytes=st.integers(0, 2000),
        shards=st.integers(0, 20),
        first_s=st.floats(100, 101),
        last_start_s=st.floats(90, 101),
        uploads=st.integers(0, 6),
        flushes=st.integers(0, 6),
        draining=st.booleans(),
    ),
    st.floats(0, 1),
)
def test_a_wait_ends_in_a_flush(state: BufferState, later: float) -> None:
    """Whoever sleeps as long as the plan says gets a flush then, and the interval is never overslept."""
    now_s = state.first_s + later
    plan = plan_flush(state, now_s, LIMITS)
    if plan.wait_s is not None:
        assert plan_flush(state, now_s + plan.wait_s + 1e-9, LIMITS).flush
        assert now_s + plan.wait_s <= state.first_s + LIMITS.interval_s + 1e-6
    elif not plan.flush:
        assert state.bytes == 0 or state.uploads >= LIMITS.uploads_max


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 4), st.sampled_from(BATCHES)), max_size=5
        ),
        max_size=10,
    ),
    st.integers(1, 4),
)
def test_gathered_in_order_and_counted_exactly(requests: list[list[tuple[int, int, int, bytes]]], lost: int) -> None:
    accumulator = Accumulator()
    model: dict[tuple[int, int], list[Append]] = defaultdict(list)
    for at, request in enumerate(requests):
        items = [append_of(b, topic=t, shard=s, connection=c) for t, s, c, b in request]
        assert accumulator.add(items, float(at)) == sum(len(item.records) for item in items)
        for item in items:
            model[item.topic, item.shard].append(item)
    assert accumulator.shards == len(model)
    refused = accumulator.remove(lambda item: item.connection == lost)
    assert all(item.connection == lost for item in refused)
    kept = {key: [i for i in items if i.connection != lost] for key, items in sorted(model.items())}
    assert accumulator.bytes == sum(len(i.records) for items in kept.values() for i in items)
    assert accumulator.take() == [items for items in kept.values() if items]
    assert (accumulator.bytes, accumulator.shards, accumulator.take()) == (0, 0, [])
