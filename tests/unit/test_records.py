"""The plain decoder of records: what kio and aiokafka read from the same bytes, and an error for every kind of damage."""

from __future__ import annotations

import random
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.kafka.batch import BatchError, read_header
from schemas.kafka.records import (
    NewRecord,
    Record,
    RecordError,
    build_batch,
    decode_batch,
    encode_record,
    iter_records,
    wrap_payload,
)
from schemas.kafka.wire import varint

LIMIT = 10_000_000
new_records = st.lists(
    st.builds(
        NewRecord,
        timestamp=st.integers(0, 1 << 50),
        key=st.none() | st.binary(max_size=200),
        value=st.none() | st.binary(max_size=2000),
        headers=st.lists(st.tuples(st.binary(max_size=20), st.none() | st.binary(max_size=70)), max_size=4).map(tuple),
    ),
    min_size=1,
    max_size=8,
)


def record_bytes(
    key: bytes = b"\1", value: bytes = b"\1", headers: bytes = b"\0", *, offset_delta: int = 0, extra: bytes = b""
) -> bytes:
    """One record from raw parts (null key, null value, no headers unless told otherwise)."""
    body = b"\0\0" + varint(offset_delta) + key + value + headers + extra
    return varint(len(body)) + body


def decoded(payload: bytes, **fields: Any) -> list[Record]:
    return decode_batch(wrap_payload(payload, **fields), max_bytes=LIMIT)


@settings(max_examples=60, deadline=None)
@given(new_records, st.integers(0, 1 << 40), st.integers(0, 4), st.booleans())
def test_what_was_built_is_read(records: list[NewRecord], base_offset: int, codec: int, xerial: bool) -> None:
    batch = build_batch(records, base_offset=base_offset, codec=codec, xerial=xerial)
    header = read_header(batch)
    assert header.size == len(batch)
    assert (header.record_count, header.last_offset_delta, header.codec) == (len(records), len(records) - 1, codec)
    assert header.max_timestamp == max(record.timestamp for record in records)
    assert decode_batch(batch, max_bytes=LIMIT) == [
        Record(base_offset + at, record.timestamp, record.key, record.value, tuple(record.headers))
        for at, record in enumerate(records)
    ]
    assert decode_batch(batch, max_bytes=LIMIT, base_offset=5)[0].offset == 5


@settings(max_examples=40, deadline=None)
@given(new_records, st.sampled_from([0, 1, 2, 3]))
def test_another_client_writes_what_we_read(records: list[NewRecord], codec: int) -> None:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 24)
    for at, record in enumerate(records):
        headers = [(key.hex(), value) for key, value in record.headers]
        assert builder.append(at, record.timestamp, record.key, record.value, headers) is not None
    wanted = [
        Record(at, record.timestamp, record.key, record.value, tuple((k.hex().encode(), v) for k, v in record.headers))
        for at, record in enumerate(records)
    ]
    assert decode_batch(bytes(builder.build()), max_bytes=LIMIT) == wanted


@settings(max_examples=40, deadline=None)
@given(new_records, st.sampled_from([0, 1, 2, 3]))
def test_another_client_reads_what_we_write(records: list[NewRecord], codec: int) -> None:
    named = [
        record._replace(headers=[(key.hex().encode(), value) for key, value in record.headers]) for record in records
    ]
    theirs = DefaultRecordBatch(build_batch(named, codec=codec, base_offset=9))
    assert theirs.validate_crc()
    assert [(one.offset, one.timestamp, one.key, one.value) for one in theirs] == [
        (9 + at, record.timestamp, record.key, record.value) for at, record in enumerate(records)
    ]


def test_append_time_is_everybodys_timestamp() -> None:
    batch = build_batch([NewRecord(5, b"a", b"b"), NewRecord(9, None, b"c")], attributes=8, max_timestamp=77)
    assert [record.timestamp for record in decode_batch(batch)] == [77, 77]


def test_control_batches_are_read_like_others() -> None:
    batch = build_batch([NewRecord(5, b"\0\0\0\1", b"\0\0\0\0\0\0")], attributes=0x30, producer_id=3, producer_epoch=0)
    assert read_header(batch).is_control
    assert decode_batch(batch) == [Record(0, 5, b"\0\0\0\1", b"\0\0\0\0\0\0", ())]


def test_header_keys_may_be_any_bytes_and_values_null() -> None:
    batch = build_batch([NewRecord(0, None, None, ((b"\xff\xfe", None), (b"", b""), (b"\xff\xfe", b"x")))])
    assert decode_batch(batch)[0].headers == ((b"\xff\xfe", None), (b"", b""), (b"\xff\xfe", b"x"))


def test_sums_wrap_at_64_bits() -> None:
    top = (1 << 63) - 1
    payload = encode_record(NewRecord(0, None, None), timestamp_delta=1, offset_delta=1)
    (record,) = decoded(payload, base_offset=top, base_timestamp=top, last_offset_delta=0)
    assert (record.offset, record.timestamp) == (-(1 << 63), -(1 << 63))
    batch = build_batch([NewRecord(-(1 << 63), None, None), NewRecord(top, None, None)])
    assert [record.timestamp for record in decode_batch(batch)] == [-(1 << 63), top]


def test_any_negative_length_is_null_as_in_kafka() -> None:
    for raw in (b"\1", b"\3", b"\xff\xff\xff\xff\x0f"):
        assert decoded(record_bytes(key=raw))[0].key is None
        assert decoded(record_bytes(value=raw))[0].value is None
        assert decoded(record_bytes(headers=b"\2\0" + raw))[0].headers == ((b"", None),)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 7,
        record_bytes()[:-1],
        record_bytes() + b"\0",
        record_bytes() * 2,
        record_bytes(extra=b"\0"),
        record_bytes(key=b"\x7e"),
        record_bytes(key=b"\xfe\xff\xff\xff\x0f"),
        record_bytes(value=b"\x04a"),
        record_bytes(headers=b"\1"),
        record_bytes(headers=b"\2"),
        record_bytes(headers=b"\2\1\0"),
        record_bytes(headers=b"\xfe\xff\xff\xff\x0f"),
        record_bytes(headers=b"\2\0\x04a"),
        record_bytes(key=b"\xff\xff\xff\xff\xff\1"),
        b"\xfe\xff\xff\xff\x0f" + record_bytes(),
        b"\xff\xff\xff\xff\x0f" + record_bytes(),
        b"\x0a" + record_bytes()[1:],
        b"\x0e" + record_bytes()[1:] + b"\0\0",
    ],
)
def test_damaged_records(payload: bytes) -> None:
    with pytest.raises(RecordError):
        decoded(payload)


@pytest.mark.parametrize("count", [-1, 0, 2, 3, 1 << 30, (1 << 31) - 1])
def test_counts_that_lie(count: int) -> None:
    with pytest.raises(RecordError):
        decoded(record_bytes(), record_count=count)


def test_damaged_compression_is_a_record_error() -> None:
    for codec in range(1, 8):
        with pytest.raises(RecordError):
            decoded(b"neither this nor that", attributes=codec)
        with pytest.raises(RecordError):
            decoded(b"", attributes=codec)


def test_damaged_batches() -> None:
    batch = build_batch([NewRecord(0, b"k", b"v")])
    for damaged in (batch[:-1], batch + b"\0", batch[:20], batch[:-1] + b"\xff", b""):
        with pytest.raises(BatchError):
            decode_batch(damaged)
    with pytest.raises(BatchError, match="magic"):
        decode_batch(wrap_payload(record_bytes(), magic=1))


def test_records_before_the_damage_are_given_out() -> None:
    payload = record_bytes() + record_bytes(offset_delta=1) + record_bytes(key=b"\x7e", offset_delta=2)
    batch = wrap_payload(payload, record_count=3, last_offset_delta=2)
    found: list[int] = []
    with pytest.raises(RecordError):
        found.extend(record.offset for record in iter_records(read_header(batch), batch[61:], max_bytes=LIMIT))
    stream = iter_records(read_header(batch), batch[61:], max_bytes=LIMIT)
    assert [next(stream).offset, next(stream).offset] == [0, 1]


def test_random_damage_never_gets_past_the_checks() -> None:
    """Any mutation under a right checksum gives records or a RecordError: no other exception."""
    rng = random.Random(3)
    records = [NewRecord(at, rng.randbytes(3), rng.randbytes(20), ((b"h", rng.randbytes(4)),)) for at in range(5)]
    payload = build_batch(records)[61:]
    refused = 0
    for _ in range(3000):
        damaged = bytearray(payload)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            decoded(bytes(damaged), record_count=5, last_offset_delta=4)
        except RecordError:
            refused += 1
    assert refused > 500
