"""Compiled decoding against the plain decoder: equal on what both take, refused alike on what is damaged, never a crash."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.decode import CorruptRun, DecodedChunk, DecodeLimits, StoredRun, decode_runs
from schemas.kafka.batch import CONTROL_BIT, HEADER_BYTES, TIMESTAMP_TYPE_BIT, read_header
from schemas.kafka.records import NewRecord, Record, RecordError, build_batch, decode_batch, wrap_payload
from schemas.kafka.wire import varint

T0 = 1_700_000_000_000
new_records = st.lists(
    st.builds(
        NewRecord,
        timestamp=st.integers(0, 1 << 50),
        key=st.none() | st.binary(max_size=40),
        value=st.none() | st.binary(max_size=200),
        headers=st.lists(
            st.tuples(st.text(max_size=8).map(str.encode), st.none() | st.binary(max_size=8)), max_size=3
        ).map(tuple),
    ),
    min_size=1,
    max_size=20,
)


def rows_of(chunk: DecodedChunk) -> list[Record]:
    """A chunk's rows as the plain decoder shows them."""
    headers = chunk.headers_array().to_pylist()
    columns = (
        chunk.offsets.tolist(),
        chunk.timestamps_ms.tolist(),
        chunk.key_array().to_pylist(),
        chunk.value_array().to_pylist(),
    )
    return [
        Record(
            offset, timestamp, key, value, tuple((header["key"].encode(), header["value"]) for header in row_headers)
        )
        for offset, timestamp, key, value, row_headers in zip(*columns, headers, strict=True)
    ]


def run_of(batches: Sequence[bytes], offset_first: int = 0, append_ms: int = -1) -> StoredRun:
    offset_next = offset_first + sum(read_header(batch).last_offset_delta + 1 for batch in batches)
    return StoredRun(3, offset_first, offset_next, b"".join(batches), append_ms)


def decode_one(batch: bytes, offset: int = 0) -> DecodedChunk:
    (chunk,) = decode_runs([run_of([batch], offset)])
    return chunk


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(new_records, st.integers(0, 4)), min_size=1, max_size=4),
    st.integers(0, 2**40),
    st.integers(1, 9),
)
def test_equal_to_the_plain_decoder(batches: list[tuple[list[NewRecord], int]], first: int, rows_max: int) -> None:
    built = [build_batch(records, codec=codec, base_offset=77) for records, codec in batches]
    expected = []
    offset = first
    for batch in built:
        expected += decode_batch(batch, base_offset=offset)
        offset += read_header(batch).last_offset_delta + 1
    chunks = list(decode_runs([run_of(built, first)], DecodeLimits(rows_max=rows_max)))
    assert [row for chunk in chunks for row in rows_of(chunk)] == expected
    assert all(chunk.rows <= rows_max for chunk in chunks)
    assert [chunk.offset_first for chunk in chunks] == [first, *(chunk.offset_next for chunk in chunks[:-1])]
    assert chunks[-1].offset_next == offset
    for chunk in chunks:
        assert all(chunk.offset_first <= record < chunk.offset_next for record in chunk.offsets.tolist())


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """A payload with a few bytes changed, cut, doubled or replaced by long varints."""
    damaged = bytearray(payload)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        at = rng.randrange(len(damaged) + 1)
        match rng.randrange(5):
            case 0 if at < len(damaged):
                damaged[at] = rng.randrange(256)
            case 1:
                del damaged[at:]
            case 2:
                damaged[at:at] = damaged[at : at + 9]
            case 3:
                damaged[at : at + 1] = rng.choice(
                    [b"\xff" * 5, b"\xff\xff\xff\xff\x0f", b"\xfe\xff\xff\xff\x0f", b"\x80" * 11, b"\x01"]
                )
            case _ if at < len(damaged):
                damaged[at] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def hostile_batches(seed: int, count: int) -> list[bytes]:
    """Batches with a right checksum around damaged records, wrong counts and wrong deltas."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        size = rng.randrange(1, 6)
        records = [
            NewRecord(
                T0 + rng.randrange(99),
                rng.choice([None, b"", b"key"]),
                rng.randbytes(rng.randrange(9)),
                rng.choice([(), ((b"h", None),)]),
            )
            for _ in range(size)
        ]
        payload = mutated(build_batch(records)[HEADER_BYTES:], rng)
        found.append(
            wrap_payload(
                payload,
                attributes=rng.choice([*[0] * 24, 1, 2, 3, 4, 5, 7]),
                last_offset_delta=rng.choice([*[size - 1] * 4, size, 0]),
                base_timestamp=rng.choice([T0, -1, 2**63 - 1, -(2**63)]),
                record_count=rng.choice([*[size] * 12, size - 1, size + 1, 2**31 - 1, -1]),
            )
        )
    return found


def judge(batch: bytes) -> tuple[list[Record] | None, DecodedChunk]:
    """What the plain decoder says (None: refused), with the offset rule that only the exporter has; and the chunk."""
    try:
        expected: list[Record] | None = decode_batch(batch, base_offset=1000)
    except RecordError:
        expected = None
    if expected is not None:
        deltas = [record.offset - 1000 for record in expected]
        if deltas != sorted(set(deltas)) or any(
            not 0 <= delta <= read_header(batch).last_offset_delta for delta in deltas
        ):
            expected = None
    return expected, decode_one(batch, 1000)


def test_hostile_batches_are_read_alike_or_refused_alike() -> None:
    agreed = refused = 0
    for batch in hostile_batches(1, 4000):
        expected, chunk = judge(batch)
        if expected is None:
            refused += 1
            assert chunk.rows == 0, batch.hex()
            (broken,) = chunk.broken
            assert broken.raw == batch
            assert broken.cause in ("broken_batch", "decompression")
            assert broken.error
            assert (broken.offset_first, broken.offset_next) == (1000, chunk.offset_next)
        else:
            agreed += 1
            assert not chunk.broken, (batch.hex(), chunk.broken)
            assert [row._replace(headers=()) for row in rows_of(chunk)] == [
                row._replace(headers=()) for row in expected
            ]
    assert agreed > 300
    assert refused > 300


def test_every_truncation_inside_the_records_is_refused() -> None:
    records = [NewRecord(T0, b"key", b"value" * 3, ((b"h", b"v"), (b"i", None)))] * 3
    payload = build_batch(records)[HEADER_BYTES:]
    for length in range(len(payload)):
        batch = wrap_payload(payload[:length], last_offset_delta=2, record_count=3, base_timestamp=T0)
        assert decode_one(batch).broken


def test_a_broken_batch_does_not_stop_the_next() -> None:
    good = build_batch([NewRecord(T0, b"k", b"v")])
    broken = wrap_payload(b"\x02\x00", record_count=2, last_offset_delta=4, max_timestamp=T0 + 5)
    (chunk,) = decode_runs([run_of([good, broken, good], 10)])
    assert chunk.offsets.tolist() == [10, 16]
    (letter,) = chunk.broken
    assert (letter.offset_first, letter.offset_next, letter.timestamp_ms, letter.timestamp_type) == (11, 16, T0 + 5, 0)
    assert letter.raw == broken


def test_a_count_from_the_wire_allocates_nothing() -> None:
    (chunk,) = decode_runs([run_of([wrap_payload(b"\x00" * 50, record_count=2**31 - 1, last_offset_delta=2**31 - 2)])])
    assert chunk.rows == 0
    assert "2147483647 records can't be in 50 bytes" in chunk.broken[0].error


def test_decompression_is_bounded() -> None:
    batch = build_batch([NewRecord(T0, None, bytes(1_000_000))], codec=4)
    (chunk,) = decode_runs([run_of([batch])], DecodeLimits(decompressed_bytes_max=100_000))
    assert chunk.broken[0].cause == "decompression"
    (chunk,) = decode_runs([run_of([batch])], DecodeLimits(decompressed_bytes_max=1_100_000))
    assert chunk.rows == 1


def test_control_batches_have_no_rows_but_offsets() -> None:
    control = build_batch([NewRecord(T0, b"\0\0\0\1", b"\0\0\0\0\0\0")], attributes=CONTROL_BIT)
    good = build_batch([NewRecord(T0, b"k", b"v")])
    (chunk,) = decode_runs([run_of([good, control, good], 5)])
    assert chunk.offsets.tolist() == [5, 7]
    assert not chunk.broken
    (alone,) = decode_runs([run_of([control], 5)])
    assert (alone.rows, alone.offset_first, alone.offset_next) == (0, 5, 6)


def test_append_time_of_the_extent_wins_over_the_producers() -> None:
    batch = build_batch([NewRecord(T0, None, b"a"), NewRecord(T0 + 9, None, b"b")])
    (chunk,) = decode_runs([run_of([batch], 0, append_ms=T0 + 500)])
    assert chunk.timestamps_ms.tolist() == [T0 + 500] * 2
    assert chunk.timestamp_types.tolist() == [1, 1]
    stamped = build_batch([NewRecord(T0, None, b"a")], attributes=TIMESTAMP_TYPE_BIT, max_timestamp=T0 + 7)
    chunk = decode_one(stamped)
    assert (chunk.timestamps_ms.tolist(), chunk.timestamp_types.tolist()) == ([T0 + 7], [1])


def test_gaps_of_a_compacted_batch_keep_their_offsets() -> None:
    payload = b"".join(varint(len(body)) + body for body in (bytes([0, 0, delta * 2, 1, 1, 0]) for delta in (1, 4)))
    chunk = decode_one(wrap_payload(payload, record_count=2, last_offset_delta=9, base_timestamp=T0), 100)
    assert chunk.offsets.tolist() == [101, 104]
    assert chunk.offset_next == 110


def test_header_keys_that_are_not_utf8_become_replacement_signs() -> None:
    headers = (
        (b"\xff\xfe", b"\xff"),
        (b"caf\xc3\xa9", None),
        (b"\xe9", b""),
        (b"", b"x"),
        (b"\xc3", b""),
        (b"\xa9", b""),
    )
    chunk = decode_one(build_batch([NewRecord(T0, None, None, headers)]))
    assert chunk.headers_array().to_pylist() == [
        [
            {"key": "\ufffd\ufffd", "value": b"\xff"},
            {"key": "café", "value": None},
            {"key": "\ufffd", "value": b""},
            {"key": "", "value": b"x"},
            {"key": "\ufffd", "value": b""},
            {"key": "\ufffd", "value": b""},
        ]
    ]


def test_chunks_close_at_their_bytes() -> None:
    batches = [build_batch([NewRecord(T0, None, bytes(1000))]) for _ in range(10)]
    chunks = list(decode_runs([run_of(batches)], DecodeLimits(bytes_max=2500)))
    assert [chunk.rows for chunk in chunks] == [3, 3, 3, 1]


def test_runs_join_and_must_follow_each_other() -> None:
    batch = build_batch([NewRecord(T0, None, b"v")])
    (chunk,) = decode_runs([run_of([batch], 0), run_of([batch, batch], 5)])
    assert chunk.offsets.tolist() == [0, 5, 6]
    with pytest.raises(ValueError, match="doesn't follow"):
        list(decode_runs([run_of([batch], 5), run_of([batch], 0)]))
    assert list(decode_runs([])) == []


def test_damage_in_storage_is_not_skipped() -> None:
    batch = build_batch([NewRecord(T0, None, b"v")])
    flipped = bytearray(batch)
    flipped[-1] ^= 1
    old = bytearray(batch)
    old[16] = 1
    cases = [
        (StoredRun(0, 0, 1, bytes(flipped)), "checksum"),
        (StoredRun(0, 0, 1, bytes(old)), "magic 1"),
        (StoredRun(0, 0, 1, batch[:-1]), "batch length"),
        (StoredRun(0, 0, 1, batch + b"\0" * 7), "can't hold"),
        (StoredRun(0, 0, 2, batch), "should end at offset 2"),
        (StoredRun(0, 0, 1, batch + batch), "leaves the run"),
    ]
    for run, message in cases:
        with pytest.raises(CorruptRun, match=message):
            list(decode_runs([run]))
