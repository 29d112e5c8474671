"""Which extents are merged: rules by example, bounds by chance, and a week of flushes every 250 ms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.compaction.plan import AGE_SHARE, Group, MergeLimits, final_until, plan_merges
from catalog.compaction import SettledExtent
from catalog.sequence import Extent

LIMITS = MergeLimits(extent_bytes=1000, extents_min=4, extents_crowd=10, extents_max=50, span_ms=1000)
DEFAULTS = MergeLimits(4 * 1024 * 1024, 8, 64, 4096, 600_000)
"""Of an agent."""
NOW_MS = 1_000_000


def extents_of(*sizes: int, times: Sequence[int] | None = None) -> list[SettledExtent]:
    """Adjacent extents of these sizes, of ten offsets each."""
    return [
        SettledExtent(
            Extent(1, 0, 10 * at, 10 * at + 10, at, 0, size, 1, 0, -1), "o", NOW_MS if times is None else times[at]
        )
        for at, size in enumerate(sizes)
    ]


def plan(*sizes: int, times: Sequence[int] | None = None, now_ms: int = NOW_MS) -> list[Group]:
    return plan_merges(extents_of(*sizes, times=times), now_ms, LIMITS)


def test_few_wait_for_more() -> None:
    assert plan() == []
    assert plan(5, 5, 5) == []
    assert plan(5, 5, 5, 5) == [(0, 4)]


def test_a_large_one_is_not_rewritten_for_a_few_small_ones() -> None:
    assert plan(500, 5, 5, 5) == []
    assert plan(500, 5, 5, 5, 5) == [(1, 5)]
    assert plan(5, 5, 5, 5, 500, 5, 5) == [(0, 4)]
    assert plan(20, 5, 5, 5, 5) == [(0, 5)], "half of the whole is not too large"


def test_many_are_merged_whatever_their_sizes() -> None:
    assert plan(500, *[5] * 9) == [(1, 10)], "those that can be merged by themselves come first"
    assert plan(900, 1, 2, 4, 8, 20, 9, 1, 1, 30) == [(1, 10)]
    fractal = (1, 1, 20, 1, 1, 300, 1, 1, 20, 1)
    assert plan(*fractal) == [(0, 10)]
    assert plan(*fractal[1:]) == []


def test_no_extent_becomes_larger_than_a_reader_should_load() -> None:
    assert plan(*[300] * 7) == [(0, 3), (3, 6)]
    assert plan(600, 600, 600) == []
    assert plan(5000, 5000, 1, 1, 1, 1) == [(2, 6)]


def test_a_full_one_needs_no_company() -> None:
    assert plan(450, 450, 450) == [(0, 2)]


def test_a_merged_extent_spans_a_bounded_time_or_a_share_of_its_age() -> None:
    times = [NOW_MS - 8000, NOW_MS - 7000, NOW_MS - 3100, NOW_MS - 2900, NOW_MS - 2800, NOW_MS - 2200]
    assert plan(*[5] * 6, times=times) == [(2, 6)]
    assert plan(*[5] * 6, times=times, now_ms=NOW_MS + AGE_SHARE * 4000) == [(1, 5)]
    assert plan(*[5] * 6, times=times, now_ms=NOW_MS + AGE_SHARE * 5800) == [(0, 6)]


def test_what_can_not_be_merged_with_what_follows_is_final() -> None:
    assert final_until(extents_of(*[900] * 5), LIMITS) == 2
    assert final_until(extents_of(5, 5, 5), LIMITS) == 0
    assert final_until([], LIMITS) == 0


@st.composite
def shards(draw: st.DrawFn) -> list[SettledExtent]:
    sizes = draw(st.lists(st.sampled_from((1, 3, 10, 40, 120, 300, 499, 501, 990, 1000, 2500)), max_size=120))
    steps = draw(st.lists(st.sampled_from((0, 1, 100, 1500)), min_size=len(sizes), max_size=len(sizes)))
    times, at = [], 0
    for step in steps:
        at += step
        times.append(at)
    return extents_of(*sizes, times=times)


def merged(extents: Sequence[SettledExtent], groups: Sequence[Group]) -> Iterator[SettledExtent]:
    """The extents afterwards."""
    at = 0
    for first, end in groups:
        yield from extents[at:first]
        inputs = [one.extent for one in extents[first:end]]
        size = sum(one.byte_length for one in inputs)
        yield SettledExtent(
            inputs[0]._replace(offset_next=inputs[-1].offset_next, byte_length=size),
            "m",
            max(one.committed_ms for one in extents[first:end]),
        )
        at = end
    yield from extents[at:]


@settings(max_examples=300, deadline=None)
@given(shards())
def test_groups_keep_the_bounds_and_come_to_an_end(extents: list[SettledExtent]) -> None:
    now_ms = 1_000_000
    for _round in range(200):
        groups = plan_merges(extents, now_ms, LIMITS)
        if not groups:
            break
        for (_, end), (first, _) in pairwise(groups):
            assert end <= first
        for first, end in groups:
            sizes = [one.extent.byte_length for one in extents[first:end]]
            assert 2 <= len(sizes) <= LIMITS.extents_max
            assert sum(sizes) <= LIMITS.extent_bytes
            assert 2 * max(sizes) <= sum(sizes) or len(sizes) >= LIMITS.extents_crowd
        before = len(extents)
        extents = list(merged(extents, groups))
        assert len(extents) < before
    else:
        raise AssertionError("it never ends")
    for at in range(len(extents) - LIMITS.extents_crowd + 1):
        crowd = extents[at : at + LIMITS.extents_crowd]
        spans_ms = crowd[-1].committed_ms - crowd[0].committed_ms
        small = sum(one.extent.byte_length for one in crowd) <= LIMITS.extent_bytes
        assert not (small and spans_ms <= LIMITS.span_ms), "a crowd of small neighbours is left"


@pytest.mark.parametrize(("flush_bytes", "days"), [(120, 1), (2_000, 7), (40_000, 1)])
def test_a_week_of_flushes_stays_bounded(flush_bytes: int, days: int) -> None:
    """Four flushes a second for days, looked at every two minutes, as the job does it."""
    minutes, step = days * 24 * 60, 2
    per_step = 4 * 60 * step
    final_rows, final_bytes, offset, rewritten, most = 0, 0, 0, 0, 0
    live: list[SettledExtent] = []
    for minute in range(0, minutes, step):
        now_ms = minute * 60_000
        for at in range(per_step):
            extent = Extent(1, 0, offset, offset + 1, 1, 0, flush_bytes, 1, 0, -1)
            live.append(SettledExtent(extent, "o", now_ms + at * 250))
            offset += 1
        most = max(most, final_rows + len(live))
        while groups := plan_merges(live, now_ms + step * 60_000, DEFAULTS):
            rewritten += sum(one.extent.byte_length for first, end in groups for one in live[first:end])
            live = list(merged(live, groups))
        final = final_until(live, DEFAULTS)
        final_rows += final
        final_bytes += sum(one.extent.byte_length for one in live[:final])
        live = live[final:]
    assert live[-1].extent.offset_next == offset == 4 * 60 * minutes
    whole = final_bytes + sum(one.extent.byte_length for one in live)
    assert whole == offset * flush_bytes
    allowed = per_step + 150 + 3 * whole // DEFAULTS.extent_bytes
    assert most <= allowed, f"{most} rows for {whole} bytes"
    assert rewritten <= 5 * whole, f"every byte was rewritten {rewritten / whole:.1f} times"
    print(flush_bytes, most, final_rows + len(live), rewritten / whole)
