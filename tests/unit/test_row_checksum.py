"""The row checksum: three implementations agree, and it shows what it is there to show."""

from __future__ import annotations

from hashlib import md5

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.arrow_spans import binary_array
from lakehouse.row_hash import checksum_spans
from schemas.row_checksum import RowChecksum, checksum_rows, parse_checksum, row_hash, sql_sum

Row = tuple[int, int, bytes | None, bytes | None]

lengths = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 40, 41, 42, 43, 44, 45, 46, 47, 48, 55, 56, 63, 64, 65, 119, 120]),
    st.integers(0, 400),
)
blobs = lengths.flatmap(lambda length: st.none() if length is None else st.binary(min_size=length, max_size=length))
offsets = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))


def compiled(rows: list[Row], with_value: bool) -> RowChecksum:
    slab = bytearray()
    spans = np.empty((2, len(rows), 2), dtype=np.int32)
    for number, row in enumerate(rows):
        for place, blob in enumerate(row[2:]):
            assert blob is None or isinstance(blob, bytes)
            spans[place, number] = (len(slab), -1 if blob is None else len(blob))
            slab += blob or b""
    return checksum_spans(
        rows[0][0] if rows else 0,
        np.array([row[1] for row in rows], dtype=np.int64),
        np.frombuffer(bytes(slab), dtype=np.uint8),
        spans[0],
        spans[1],
        with_value,
    )


def by_duckdb(rows: list[Row], with_value: bool) -> RowChecksum:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    kinds = [pa.int32(), pa.int64(), pa.binary(), pa.binary()]
    names = ["_kafka_partition", "_kafka_offset", "_kafka_key", "_kafka_value"]
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=names)
    with duckdb.connect() as connection:
        connection.register("rows", table)
        answer = connection.sql(f"select {sql_sum(with_value)} from rows").fetchone()
    assert answer is not None
    return RowChecksum(*answer)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1), st.lists(st.tuples(offsets, blobs, blobs), max_size=12), st.booleans())
def test_three_implementations_agree(
    partition: int, rest: list[tuple[int, bytes | None, bytes | None]], with_value: bool
) -> None:
    rows: list[Row] = [(partition, *row) for row in rest]
    expected = checksum_rows((p, o, key, value if with_value else None) for p, o, key, value in rows)
    assert compiled(rows, with_value) == expected
    assert by_duckdb(rows, with_value) == expected


def test_the_message_is_what_the_definition_says() -> None:
    assert row_hash(3, 17, b"k", None) == int.from_bytes(md5(b"3:17:1:-:k").digest()[:8], "little")
    assert row_hash(3, 17, None, b"vv") == int.from_bytes(md5(b"3:17:-:2:vv").digest()[:8], "little")


@pytest.mark.parametrize(
    "other",
    [
        (0, 1, b"k", b"w"),
        (0, 2, b"k", b"v"),
        (1, 1, b"k", b"v"),
        (0, 1, None, b"v"),
        (0, 1, b"kv", b""),
        (0, 1, b"k", None),
    ],
)
def test_another_row_has_another_hash(other: Row) -> None:
    assert row_hash(0, 1, b"k", b"v") != row_hash(*other)


def test_null_is_not_empty() -> None:
    assert row_hash(0, 0, None, None) != row_hash(0, 0, b"", None) != row_hash(0, 0, None, b"")


def test_disjoint_sets_add_up_in_any_order() -> None:
    rows: list[Row] = [(0, offset, b"k", bytes([offset])) for offset in range(50)]
    whole = checksum_rows(rows)
    assert checksum_rows(rows[30:]) + checksum_rows(rows[:30]) == whole
    assert checksum_rows([*rows, rows[3]]) != whole
    assert parse_checksum(str(whole)) == whole


def test_spans_outside_the_slab_are_refused() -> None:
    spans = np.array([[0, 5]], dtype=np.int32)
    nothing = np.array([[0, -1]], dtype=np.int32)
    with pytest.raises(AssertionError, match="outside"):
        checksum_spans(0, np.array([1], dtype=np.int64), np.zeros(4, dtype=np.uint8), spans, nothing, True)
    assert binary_array(np.zeros(5, dtype=np.uint8), spans).to_pylist() == [bytes(5)]
