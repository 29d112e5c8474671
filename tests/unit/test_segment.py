"""Segment objects: what is built is read back, and no damaged byte goes unseen."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.segment import (
    Run,
    SegmentError,
    batches_of,
    build_segment,
    head_bytes,
    parse_segment,
    summarize,
    verify_run,
)
from tests.data_path import batch_of

Shards = dict[tuple[int, int], list[bytes]]
shards = st.dictionaries(
    st.tuples(st.integers(0, 2**40), st.integers(0, 2**31 - 1)),
    st.lists(st.binary(min_size=1, max_size=30).map(lambda value: batch_of(value, value)), min_size=1, max_size=4),
    max_size=6,
)


def runs_of(content: Shards) -> list[Run]:
    return [
        Run(topic, UUID(int=topic), shard, [memoryview(b) for b in batches], len(batches), 2 * len(batches), -5, 1001)
        for (topic, shard), batches in sorted(content.items())
    ]


def built(content: Shards) -> bytes:
    return b"".join(build_segment("cluster", 2**40, 2**32 - 1, runs_of(content)).parts)


@given(shards)
def test_what_is_built_is_read_back(content: Shards) -> None:
    segment = build_segment("cluster", 2**40, 2**32 - 1, runs_of(content))
    data = b"".join(segment.parts)
    assert segment.bytes == len(data)
    parsed = parse_segment(data, len(data))
    assert (parsed.cluster_id, parsed.agent_epoch, parsed.sequence) == ("cluster", 2**40, 2**32 - 1)
    assert [(run.byte_first, run.byte_length) for run in parsed.runs] == segment.run_bytes
    for run, (key, batches) in zip(parsed.runs, sorted(content.items()), strict=True):
        assert (run.topic, run.shard) == key
        assert run.topic_id == UUID(int=key[0])
        verify_run(run, data, run.byte_first)
        assert data[run.byte_first : run.byte_first + run.byte_length] == b"".join(batches)
        assert [header.size for _, header in batches_of(run, data, run.byte_first)] == [len(b) for b in batches]
    assert summarize(data)["batches"] == sum(map(len, content.values()))


def test_batches_are_not_copied() -> None:
    batch = memoryview(batch_of(b"x"))
    assert build_segment("c", 1, 1, [Run(1, UUID(int=1), 0, [batch], 1, 1, 0, 0)]).parts[1] is batch


@given(shards.filter(bool), st.data())
@settings(max_examples=60)
def test_any_changed_byte_is_seen(content: Shards, data: st.DataObject) -> None:
    whole = bytearray(built(content))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SegmentError):
        summarize(bytes(whole))


@given(shards, st.data())
@settings(max_examples=60)
def test_any_truncation_is_seen(content: Shards, data: st.DataObject) -> None:
    whole = built(content)
    with pytest.raises(SegmentError):
        summarize(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_header_longer_than_object_or_limit_is_not_read() -> None:
    prefix = b"NEVESEG1" + (1000).to_bytes(4, "big")
    assert head_bytes(prefix, 1016) == 1016
    with pytest.raises(SegmentError, match="fit"):
        head_bytes(prefix, 1015)
    with pytest.raises(SegmentError, match="fit"):
        head_bytes(prefix, 10_000, header_bytes_max=999)
    with pytest.raises(SegmentError, match="not a segment"):
        head_bytes(b"NEVESEG2" + prefix[8:], 10_000)


@given(st.binary(max_size=200))
def test_garbage_is_an_error_and_nothing_else(garbage: bytes) -> None:
    with pytest.raises(SegmentError):
        summarize(garbage)
    with pytest.raises(SegmentError):
        summarize(b"NEVESEG1" + garbage)
