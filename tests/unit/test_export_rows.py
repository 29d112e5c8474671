"""Chunks to rows: nothing lost between table and dead letters, timestamps nobody can hold, files that engines read."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import schema_to_pyarrow

from lakehouse.dead_letters import CAUSES
from lakehouse.decode import DecodeLimits, StoredRun, decode_runs
from lakehouse.json_values import Window
from lakehouse.rows import ExportRows, RowBuilder
from lakehouse.schema_for import dead_letter_schema, file_schema, table_schema
from lakehouse.write_parquet import align, write_parquet
from schemas.columns import parse_columns
from schemas.kafka.records import NewRecord, build_batch, wrap_payload
from schemas.row_checksum import checksum_rows

T0 = 1_700_000_000_000
UTC = datetime.UTC


def build(records: Sequence[NewRecord], columns: str = "", window: Window = Window(), extra: bytes = b"") -> ExportRows:
    batch = build_batch(records)
    offset_next = 100 + len(records) + (5 if extra else 0)
    (chunk,) = decode_runs([StoredRun(2, 100, offset_next, batch + extra)])
    return RowBuilder(parse_columns(columns) if columns else (), window).build(chunk)


def test_raw_rows_have_every_column() -> None:
    headers = ((b"h", b"1"), (b"h", None))
    rows = build([NewRecord(T0, b"k", b"\x00v", headers), NewRecord(T0 + 1, None, None)])
    when = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert rows.main.to_pylist() == [
        {
            "_kafka_partition": 2,
            "_kafka_offset": 100,
            "_kafka_timestamp": when,
            "_kafka_timestamp_type": 0,
            "_kafka_key": b"k",
            "_kafka_headers": [{"key": "h", "value": b"1"}, {"key": "h", "value": None}],
            "_kafka_value": b"\x00v",
        },
        {
            "_kafka_partition": 2,
            "_kafka_offset": 101,
            "_kafka_timestamp": when + datetime.timedelta(milliseconds=1),
            "_kafka_timestamp_type": 0,
            "_kafka_key": None,
            "_kafka_headers": [],
            "_kafka_value": None,
        },
    ]
    assert rows.dead.num_rows == 0
    assert rows.checksum == checksum_rows([(2, 100, b"k", b"\x00v"), (2, 101, None, None)])
    assert rows.tombstones.tolist() == [False, True]
    assert (rows.offset_first, rows.offset_next, rows.timestamp_max_ms) == (100, 102, T0 + 1)


def test_rows_that_do_not_fit_go_to_the_dead_letters_whole() -> None:
    records = [
        NewRecord(T0, b"k0", b'{"n": 1}'),
        NewRecord(T0, b"k1", b'{"n": "1"}', ((b"h", b"v"),)),
        NewRecord(T0, None, None),
        NewRecord(T0, b"k3", b""),
        NewRecord(T0, b"k4", b'{"n": 2}'),
    ]
    broken = wrap_payload(b"\x02\x00", record_count=2, last_offset_delta=4, max_timestamp=T0 + 5)
    rows = build(records, "n int", extra=broken)
    assert rows.main.column("_kafka_offset").to_pylist() == [100, 102, 104]
    assert rows.main.column("n").to_pylist() == [1, None, 2]
    assert rows.tombstones.tolist() == [False, True, False]
    dead = rows.dead.to_pylist()
    assert [(row["_kafka_offset"], row["_kafka_offset_next"], row["cause"]) for row in dead] == [
        (101, 102, "type_mismatch"),
        (103, 104, "invalid_json"),
        (105, 110, "broken_batch"),
    ]
    assert dead[0]["_kafka_value"] == b'{"n": "1"}'
    assert dead[0]["_kafka_headers"] == [{"key": "h", "value": b"v"}]
    assert dead[0]["error"] == "'n': string \"1\" is not a value of type int"
    assert dead[2]["_kafka_value"] == broken
    assert dead[2]["_kafka_key"] is None
    assert {row["cause"] for row in dead} <= set(CAUSES)
    assert all(row["schema_id"] is None for row in dead)
    assert rows.checksum == checksum_rows([(2, 100, b"k0", None), (2, 102, None, None), (2, 104, b"k4", None)])
    assert rows.dead_checksum == checksum_rows(
        [(2, 101, b"k1", b'{"n": "1"}'), (2, 103, b"k3", b""), (2, 105, None, broken)]
    )


@pytest.mark.parametrize("columns", ["", "n int"])
@pytest.mark.parametrize(
    ("timestamp_ms", "expected"),
    [
        (10_413_792_000_000, datetime.datetime(2300, 1, 1, tzinfo=UTC)),
        (253_402_300_799_999, datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
        (0, datetime.datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, None),
        (-2, datetime.datetime(1969, 12, 31, 23, 59, 59, 998_000, tzinfo=UTC)),
        (253_402_300_800_000, "dead"),
        (2**63 - 1, "dead"),
        (-(2**63), "dead"),
        (2**63 // 1000, "dead"),
    ],
)
def test_timestamps_of_records(columns: str, timestamp_ms: int, expected: object) -> None:
    rows = build([NewRecord(timestamp_ms, b"k", b'{"n": 1}')], columns)
    if expected == "dead":
        assert rows.main.num_rows == 0
        (letter,) = rows.dead.to_pylist()
        assert letter["cause"] == "timestamp_out_of_range"
        assert str(timestamp_ms) in letter["error"]
        assert letter["_kafka_timestamp"] is None
        assert letter["_kafka_value"] == b'{"n": 1}'
    else:
        assert rows.main.column("_kafka_timestamp").to_pylist() == [expected]
        assert rows.dead.num_rows == 0


def test_the_window_bounds_record_timestamps_too() -> None:
    rows = build([NewRecord(T0, None, b"a"), NewRecord(T0 + 1000, None, b"b")], window=Window(0, (T0 + 1000) * 1000))
    assert rows.main.column("_kafka_value").to_pylist() == [b"a"]
    assert rows.dead.column("_kafka_value").to_pylist() == [b"b"]


def test_a_row_refused_twice_is_one_dead_letter() -> None:
    rows = build([NewRecord(2**62, b"k", b"not json")], "n int")
    assert (rows.main.num_rows, rows.dead.num_rows) == (0, 1)


def test_plain_documents_take_the_fast_path() -> None:
    records = [
        NewRecord(T0, None, json.dumps({"a": n, "s": f"t{n}é", "d": n / 7, "t": "2013-01-01T10:00:00Z"}).encode())
        for n in range(500)
    ]
    rows = build(records, "a int, s string, d double, t timestamptz")
    assert rows.slow_rows == 0
    assert rows.main.column("d").to_pylist() == [n / 7 for n in range(500)]


ALL = (
    "b boolean, i int, l long, f float, d double, m decimal(10, 2), day date, clock time, at timestamp, tz timestamptz, "
    "s string, raw binary, u uuid, j json"
)
DOCUMENT = (
    b'{"b": true, "i": 1, "l": 2, "f": 0.5, "d": 0.1, "m": 1.25, "day": "2024-02-29", "clock": "10:20:30.5", '
    b'"at": "2300-01-01T00:00:00", "tz": "2013-01-01T10:00:00+02:00", "s": "\xc3\xa9", "raw": "AAE=", '
    b'"u": "00112233-4455-6677-8899-aabbccddeeff", "j": {"x": [1]}}'
)


def test_parquet_has_ids_and_statistics_and_reads_back(tmp_path: Path) -> None:
    columns = parse_columns(ALL)
    schema = table_schema(columns)
    rows = build([NewRecord(T0, b"k", DOCUMENT), NewRecord(T0, b"k", b"{}"), NewRecord(T0, None, None)], ALL)
    written = write_parquet(rows.main, file_schema(schema))
    path = tmp_path / "file.parquet"
    path.write_bytes(written.data)
    arrow = pq.ParquetFile(path).schema_arrow
    assert [int(field.metadata[b"PARQUET:field_id"]) for field in arrow] == [field.field_id for field in schema.fields]
    header = arrow.field("_kafka_headers").type.value_field
    assert int(header.metadata[b"PARQUET:field_id"]) == schema.find_field("_kafka_headers.element").field_id
    assert (
        int(header.type.field("key").metadata[b"PARQUET:field_id"])
        == schema.find_field("_kafka_headers.element.key").field_id
    )
    group = written.metadata.row_group(0)
    statistics = {group.column(at).path_in_schema: group.column(at).statistics for at in range(group.num_columns)}
    assert (statistics["_kafka_offset"].min, statistics["_kafka_offset"].max) == (100, 102)
    assert statistics["i"].null_count == 2
    assert group.column(1).compression == "ZSTD"
    with duckdb.connect() as connection:
        names = ", ".join('epoch_us("tz")' if column.name == "tz" else f'"{column.name}"' for column in columns)
        found = connection.sql(f"select {names} from read_parquet('{path}') order by _kafka_offset").fetchall()
    first = list(found[0])
    assert [str(value) if at == 12 else value for at, value in enumerate(first)] == [
        True,
        1,
        2,
        0.5,
        0.1,
        Decimal("1.25"),
        datetime.date(2024, 2, 29),
        datetime.time(10, 20, 30, 500_000),
        datetime.datetime(2300, 1, 1),  # noqa: DTZ001 - a timestamp without a zone
        1_357_027_200_000_000,
        "é",
        b"\x00\x01",
        "00112233-4455-6677-8899-aabbccddeeff",
        '{"x": [1]}',
    ]
    assert found[1] == found[2] == (None,) * 14


def test_the_arrow_schema_is_the_tables_own() -> None:
    schema = table_schema(parse_columns(ALL))
    ours, theirs = file_schema(schema), schema_to_pyarrow(schema)
    assert ours.names == theirs.names
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.metadata == other.metadata
        assert mine.nullable
        plain = str(other.type).replace("large_", "").replace("extension<arrow.uuid>", str(pa.uuid()))
        assert str(mine.type) == plain


def test_dead_letters_fit_their_own_table() -> None:
    rows = build([NewRecord(T0, b"k", b"nothing")], "n int")
    written = write_parquet(rows.dead, file_schema(dead_letter_schema()))
    back = pq.read_table(pa.BufferReader(written.data))
    assert back.column("cause").to_pylist() == ["invalid_json"]
    assert write_parquet(rows.main, file_schema(table_schema(parse_columns("n int")))).rows == 0


def test_a_table_that_others_changed() -> None:
    rows = build([NewRecord(T0, b"k", b"v")]).main
    wider = file_schema(table_schema(parse_columns("n int, m decimal(5, 1)")))
    with pytest.raises(ValueError, match="no column _kafka_value"):
        align(rows, wider)
    aligned = align(rows.drop_columns(["_kafka_value"]), wider)
    assert aligned.column("m").to_pylist() == [None]


def test_empty_chunks_give_empty_tables() -> None:
    broken = wrap_payload(b"", record_count=1, last_offset_delta=0)
    (chunk,) = decode_runs([StoredRun(0, 0, 1, broken)], DecodeLimits())
    rows = RowBuilder(parse_columns("a int")).build(chunk)
    assert (rows.main.num_rows, rows.dead.num_rows, rows.timestamp_max_ms) == (0, 1, -1)
    assert str(rows.checksum) == "0:0000000000000000"
