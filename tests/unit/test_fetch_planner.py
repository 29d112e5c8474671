"""Plans of Fetch answers and the bytes cut from them, against a model that walks batch by batch (KIP-74)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.fetch.planner import ShardView, freeze, plan_fetch
from broker.fetch.spans import BadExtent, make_span
from broker.services import FetchPart
from catalog.sequence import Extent
from schemas.kafka.batch import LOG_OVERHEAD_BYTES, TIMESTAMP_TYPE_BIT, read_header
from schemas.kafka.records import decode_batch
from tests.data_path import batch_of


def layout(sizes: list[list[int]], shard: int = 0) -> list[Extent]:
    """One extent per list; each number is the bytes of a batch with one offset."""
    extents, offset = [], 0
    for batches in sizes:
        extents.append(Extent(1, shard, offset, offset + len(batches), 1, 0, sum(batches), len(batches), 0, -1))
        offset += len(batches)
    return extents


def view_of(extents: list[Extent], offset: int) -> ShardView:
    end = extents[-1].offset_next if extents else 0
    at = next((n for n, extent in enumerate(extents) if extent.offset_next > offset), len(extents))
    return ShardView(end, 0, extents, at, len(extents))


def test_the_first_partition_with_anything_gets_a_batch_whatever_the_limits() -> None:
    parts = [FetchPart(1, shard, 0, 1) for shard in range(3)]
    views = [view_of([], 0), view_of(layout([[100], [100]]), 0), view_of(layout([[100]]), 0)]
    planned, _ = plan_fetch(parts, views, 1)
    assert [(len(plan.extents), plan.whole_first) for plan in planned] == [(0, False), (1, True), (0, False)]


def test_errors_take_no_budget() -> None:
    parts = [FetchPart(1, 0, 0, 100), FetchPart(1, 1, 0, 100)]
    views = [ShardView(-1, -1, (), 0, 0, 3), view_of(layout([[100]]), 0)]
    planned, total = plan_fetch(parts, views, 100)
    assert (planned[0].error, planned[0].high_watermark, total) == (3, -1, 100)
    assert planned[1].whole_first


@given(
    st.lists(
        st.tuples(
            st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), max_size=6),
            st.integers(0, 30),
            st.integers(1, 200),
        ),
        max_size=5,
    ),
    st.integers(1, 400),
)
def test_enough_is_planned_and_not_an_extent_more(
    shards: list[tuple[list[list[int]], int, int]], max_bytes: int
) -> None:
    parts = [FetchPart(1, n, offset, limit) for n, (_, offset, limit) in enumerate(shards)]
    views = [view_of(layout(sizes, n), offset) for n, (sizes, offset, _) in enumerate(shards)]
    planned, total = plan_fetch(parts, views, max_bytes)
    frozen, _ = plan_fetch(parts, [freeze(v, p.max_bytes) for v, p in zip(views, parts, strict=True)], max_bytes)
    assert [list(p.extents) for p in planned] == [list(p.extents) for p in frozen]
    left, first = max_bytes, True
    for part, view, plan in zip(parts, views, planned, strict=True):
        available = list(view.extents[view.at : view.end])
        limit = min(part.max_bytes, left)
        if not available or (limit <= 0 and not first):
            assert list(plan.extents) == []
            continue
        assert list(plan.extents) == available[: len(plan.extents)]
        sizes = [extent.byte_length for extent in plan.extents]
        assert sum(sizes[:-1]) < max(limit, 1), "no extent more than the limit needs"
        assert sum(sizes) >= limit or len(sizes) == len(available)
        assert plan.whole_first == first
        first = False
        left -= min(sum(sizes), limit)
    assert total == sum(extent.byte_length for plan in planned for extent in plan.extents)


values = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=3), min_size=1, max_size=6)


def stored(batches: list[bytes], append_ms: int = -1) -> tuple[bytearray, Extent]:
    data = bytearray(b"".join(batches))
    count = sum(read_header(batch).last_offset_delta + 1 for batch in batches)
    return data, Extent(1, 0, 500, 500 + count, 9, 0, len(data), len(batches), 0, append_ms)


@given(values, st.integers(0, 40), st.integers(0, 600), st.booleans(), st.sampled_from([-1, 123456]))
def test_a_cut_is_whole_batches_with_real_offsets(
    content: list[list[bytes]], skip: int, limit: int, whole_first: bool, append_ms: int
) -> None:
    batches = [batch_of(*records) for records in content]
    data, extent = stored(batches, append_ms)
    span = make_span(memoryview(data), extent, verify=True)
    offset = min(500 + skip, extent.offset_next - 1)
    piece, whole = span.cut(offset, limit, whole_first)
    expected: list[tuple[int, bytes]] = []
    at, base, used, cut_short = 0, 500, 0, False
    for records, batch in zip(content, batches, strict=True):
        if base + len(records) > offset and not cut_short:
            if used + len(batch) > limit and not (whole_first and not used):
                cut_short = True
            else:
                expected += [(base + n, value) for n, value in enumerate(records)]
                used += len(batch)
        base += len(records)
    assert whole == (not cut_short)
    found: list[tuple[int, bytes | None]] = []
    while at < len(piece):
        header = read_header(piece, at)
        found += [(r.offset, r.value) for r in decode_batch(piece[at : at + header.size])]
        assert header.leader_epoch == 0
        if append_ms >= 0:
            assert (header.max_timestamp, header.attributes & TIMESTAMP_TYPE_BIT) == (append_ms, TIMESTAMP_TYPE_BIT)
        at += header.size
    assert found == expected
    assert len(piece) == used


@given(values, st.data())
def test_no_damaged_batch_becomes_a_span(content: list[list[bytes]], data: st.DataObject) -> None:
    raw, extent = stored([batch_of(*records) for records in content])
    at = data.draw(st.integers(0, len(raw) - 1).filter(lambda n: not _is_patched(raw, n)))
    raw[at] ^= data.draw(st.integers(1, 255))
    before = bytes(raw)
    with pytest.raises(BadExtent):
        make_span(memoryview(raw), extent, verify=True)
    assert raw == before, "nothing is patched in bytes that are bad"


def _is_patched(raw: bytearray, at: int) -> bool:
    """True for bytes that serving replaces anyway: base offset and leader epoch."""
    start = 0
    while start + LOG_OVERHEAD_BYTES <= at:
        size = read_header(raw, start).size
        if at < start + size:
            break
        start += size
    return at - start < 8 or 12 <= at - start < 16
