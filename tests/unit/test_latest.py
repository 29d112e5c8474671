"""Last value per (partition, key) against a dictionary."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.latest import (
    LatestLimits,
    TooManyKeys,
    add_changes,
    last_per_key,
    merge,
    nothing_changes,
    read_bounded,
    with_tombstones,
)

LIMITS, TEN = LatestLimits(100, 1 << 20), LatestLimits(10, 1 << 20)

SCHEMA = pa.schema(
    [
        ("_kafka_partition", pa.int32()),
        ("_kafka_offset", pa.int64()),
        ("_kafka_key", pa.binary()),
        ("text", pa.string()),
    ]
)
Row = tuple[int, int, bytes, str | None]


def table(rows: list[Row]) -> pa.Table:
    columns: list[Sequence[object]] = [[row[index] for row in rows] for index in range(4)]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


def changes(rows: list[Row]) -> pa.Table:
    return with_tombstones(table(rows), np.array([row[3] is None for row in rows], dtype=np.bool_))


def model(rows: list[Row]) -> dict[tuple[int, bytes], tuple[int, str]]:
    found: dict[tuple[int, bytes], tuple[int, str]] = {}
    for partition, offset, key, text in sorted(rows, key=lambda row: row[1]):
        found.pop((partition, key), None)
        if text is not None:
            found[(partition, key)] = (offset, text)
    return found


def content(rows: pa.Table) -> dict[tuple[int, bytes], tuple[int, str]]:
    found = {}
    for row in rows.to_pylist():
        key = (row["_kafka_partition"], row["_kafka_key"])
        assert key not in found
        found[key] = (row["_kafka_offset"], row["text"])
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([b"", b"a", b"b", b"\xff\x00"]), st.none() | st.text(max_size=3)),
        max_size=40,
    ),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_chunk_by_chunk_equals_the_model(records: list[tuple[int, bytes, str | None]], cuts: list[int]) -> None:
    rows: list[Row] = [(partition, offset, key, text) for offset, (partition, key, text) in enumerate(records)]
    current = table([])
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for first, next_ in itertools.pairwise(bounds):
        newest = last_per_key(changes(rows[first:next_]))
        if nothing_changes(current, newest):
            assert content(merge(current, newest, LIMITS)) == content(current)
        current = merge(current, newest, LIMITS)
        assert content(current) == model(rows[:next_])
        # the same rows once more change nothing
        assert content(merge(current, newest, LIMITS)) == content(current)


def test_rows_in_any_order_give_the_largest_offset() -> None:
    rows: list[Row] = [(0, 5, b"a", "five"), (0, 1, b"a", "one"), (1, 3, b"a", "other partition"), (0, 4, b"a", None)]
    assert content(merge(table([]), changes(rows), TEN)) == {(0, b"a"): (5, "five"), (1, b"a"): (3, "other partition")}


def test_more_keys_than_allowed() -> None:
    rows: list[Row] = [(0, offset, str(offset).encode(), "x") for offset in range(11)]
    with pytest.raises(TooManyKeys, match="latest_keys_max"):
        merge(table([]), changes(rows), TEN)
    tombstone: Row = (0, 11, b"3", None)
    assert merge(table([]), changes([*rows, tombstone]), TEN).num_rows == 10
    first = add_changes(None, changes(rows[:10]), TEN)
    with pytest.raises(TooManyKeys, match="11 keys"):
        add_changes(first, changes(rows[10:]), TEN)
    assert add_changes(first, changes([tombstone, *rows[10:]]), TEN).num_rows == 11


def test_more_bytes_than_allowed() -> None:
    rows: list[Row] = [(0, offset, str(offset).encode(), "x" * 1000) for offset in range(8)]
    small = LatestLimits(100, 5000)
    with pytest.raises(TooManyKeys, match="latest_bytes_max"):
        add_changes(None, changes(rows), small)
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table(rows).to_batches(max_chunksize=1):
            read.append(1)
            yield batch

    with pytest.raises(TooManyKeys, match="latest_bytes_max"):
        read_bounded(batches(), SCHEMA, small)
    assert len(read) <= 5, "no further than the bound"
    assert read_bounded(batches(), SCHEMA, LIMITS).num_rows == 8
