"""A batch is taken or refused with the code Kafka gives."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.kafka.batch import HEADER, read_header
from schemas.kafka.check_batch import RefusedBatch, check_batch
from schemas.kafka.errors import ErrorCode
from schemas.kafka.records import NewRecord, build_batch, wrap_payload

NOW_MS = 1_700_000_000_000
RECORDS = [NewRecord(NOW_MS, b"key", b"value"), NewRecord(NOW_MS + 5, None, b"x" * 50)]
PAYLOAD = b"".join(b"\x0c\0\0" + bytes((2 * at,)) + b"\1\1\0" for at in range(3))


def check(batch: bytes | bytearray, **options: Any) -> Any:
    settings = {"version": 9, "max_bytes": 1_000_000, "now_ms": NOW_MS} | options
    return check_batch(memoryview(batch), **settings)


def code(batch: bytes | bytearray, **options: Any) -> ErrorCode:
    with pytest.raises(RefusedBatch) as caught:
        check(batch, **options)
    return caught.value.code


def wrapped(**fields: Any) -> bytes:
    usual = {"last_offset_delta": 2, "record_count": 3, "base_timestamp": NOW_MS, "max_timestamp": NOW_MS}
    return wrap_payload(PAYLOAD, **(usual | fields))


@pytest.mark.parametrize("codec", range(5))
def test_good_batches_are_taken(codec: int) -> None:
    batch = build_batch(RECORDS, codec=codec, producer_id=7, producer_epoch=1, base_sequence=0)
    header = check(batch)
    assert header == read_header(batch)
    assert (header.record_count, header.codec, header.producer_id) == (2, codec, 7)
    assert check(wrapped()).record_count == 3
    assert check(
        build_batch(RECORDS, attributes=0x10, producer_id=7, producer_epoch=0, base_sequence=9)
    ).is_transactional


def test_a_highly_compressed_batch_is_taken() -> None:
    for codec in range(1, 5):
        batch = build_batch([NewRecord(NOW_MS, None, None)] * 20_000, codec=codec)
        assert check(batch).record_count == 20_000


def test_damage_is_corrupt() -> None:
    batch = bytearray(build_batch(RECORDS))
    for at in range(21, len(batch)):
        damaged = bytearray(batch)
        damaged[at] ^= 1
        assert code(damaged) in (ErrorCode.CORRUPT_MESSAGE, ErrorCode.INVALID_RECORD)
    batch[-1] ^= 1
    assert code(batch) == ErrorCode.CORRUPT_MESSAGE
    batch[-1] ^= 1
    batch[17] ^= 1
    assert code(batch) == ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize(("magic", "wanted"), [(-1, 2), (0, 87), (1, 87), (3, 2), (127, 2)])
def test_other_magic_numbers(magic: int, wanted: int) -> None:
    assert code(wrapped(magic=magic)) == wanted


@pytest.mark.parametrize(
    ("length", "wanted"), [(-1, 2), (0, 2), (13, 2), (14, 2), (48, 2), (10_000, 87), (2**31 - 1, 87)]
)
def test_lengths_that_lie(length: int, wanted: int) -> None:
    batch = bytearray(wrapped())
    batch[8:12] = length.to_bytes(4, "big", signed=True)
    assert code(batch) == wanted


def test_not_exactly_one_batch() -> None:
    batch = wrapped()
    assert code(batch + batch) == ErrorCode.INVALID_RECORD
    assert code(batch + b"12345") == ErrorCode.INVALID_RECORD
    for end in range(len(batch)):
        assert code(batch[:end]) == ErrorCode.INVALID_RECORD


def test_counts() -> None:
    assert code(wrapped(record_count=2)) == ErrorCode.INVALID_RECORD
    assert code(wrapped(record_count=0, last_offset_delta=-1)) == ErrorCode.INVALID_RECORD
    assert code(wrapped(record_count=-3, last_offset_delta=-4)) == ErrorCode.INVALID_RECORD
    assert code(build_batch([])) == ErrorCode.INVALID_RECORD
    most = 2**31 - 1
    for codec in range(5):
        assert (
            code(wrapped(record_count=most, last_offset_delta=most - 1, attributes=codec)) == ErrorCode.INVALID_RECORD
        )


def test_attributes() -> None:
    assert code(wrapped(attributes=0x20)) == ErrorCode.INVALID_RECORD
    assert code(wrapped(attributes=0x08)) == ErrorCode.INVALID_TIMESTAMP
    assert code(wrapped(attributes=0x08), append_time=True) == ErrorCode.INVALID_TIMESTAMP
    assert code(wrapped(attributes=0x40)) == ErrorCode.INVALID_RECORD
    assert code(wrapped(attributes=0x10)) == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    for codec in (5, 6, 7):
        assert code(wrapped(attributes=codec)) == ErrorCode.INVALID_RECORD
    for version in (3, 6):
        assert code(build_batch(RECORDS, codec=4), version=version) == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    assert check(build_batch(RECORDS, codec=4), version=7)
    assert check(build_batch(RECORDS, codec=3), version=3)


def test_producer_id_needs_a_sequence() -> None:
    assert code(wrapped(producer_id=1, producer_epoch=0)) == ErrorCode.INVALID_RECORD
    assert code(wrapped(producer_id=1, producer_epoch=0, base_sequence=-2)) == ErrorCode.INVALID_RECORD
    assert check(wrapped(producer_id=1, producer_epoch=0, base_sequence=0))


def test_base_offset_must_be_zero() -> None:
    assert code(wrapped(base_offset=5)) == ErrorCode.INVALID_RECORD


def test_size_comes_before_the_checksum() -> None:
    batch = bytearray(wrapped())
    assert check(batch, max_bytes=len(batch))
    batch[-1] ^= 1
    assert code(batch, max_bytes=len(batch) - 1) == ErrorCode.MESSAGE_TOO_LARGE


def test_timestamps_outside_the_window() -> None:
    hour = 3_600_000
    assert check(wrapped(max_timestamp=NOW_MS + hour))
    assert code(wrapped(max_timestamp=NOW_MS + hour + 1)) == ErrorCode.INVALID_TIMESTAMP
    assert code(wrapped(base_timestamp=NOW_MS + hour + 1)) == ErrorCode.INVALID_TIMESTAMP
    assert code(wrapped(base_timestamp=2**63 - 1)) == ErrorCode.INVALID_TIMESTAMP
    assert check(wrapped(base_timestamp=-(2**63), max_timestamp=0))
    assert check(wrapped(max_timestamp=NOW_MS + hour + 1), append_time=True)
    assert code(wrapped(base_timestamp=NOW_MS - 11), before_max_ms=10) == ErrorCode.INVALID_TIMESTAMP
    assert check(wrapped(base_timestamp=NOW_MS - 10), before_max_ms=10)
    assert check(wrapped(base_timestamp=-1, max_timestamp=-1), before_max_ms=10)


def test_header_sizes_agree() -> None:
    assert HEADER.size == 61
