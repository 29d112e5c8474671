"""Where each record of a decompressed batch lies, what its key is, and how its timestamp is moved. Pure.

Key compaction keeps or drops records and never changes one, so records are copied as the bytes that they are. The checks
are those of `schemas.kafka.records`, and offsets must grow and stay within the batch: what isn't so is a RecordError, and
the batch is left as it is.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.kafka.records import RECORD_BYTES_MIN, RecordError
from schemas.kafka.wire import WireError, read_varint, read_varlong, varint, varlong

_SIGN = 1 << 63
_MASK = (1 << 64) - 1
_new = tuple.__new__  # a NamedTuple's own constructor costs twice as much


class RawRecord(NamedTuple):
    """One record in a payload, at `[first, end)` with its length in front. Deltas as Kafka's format has them."""

    first: int
    end: int
    body_first: int
    """Of the attributes, behind the length."""
    rest_first: int
    """Behind the timestamp delta."""
    timestamp_delta: int
    offset_delta: int
    key: bytes | None
    has_value: bool


def scan_records(payload: bytes, count: int, last_offset_delta: int) -> list[RawRecord]:
    """The records of a batch whose decompressed bytes are `payload`. Raises RecordError."""
    if count < 0 or count * RECORD_BYTES_MIN > len(payload):
        raise RecordError(f"{count} records can't be in {len(payload)} bytes")
    found: list[RawRecord] = []
    at, delta_before = 0, -1
    try:
        for _ in range(count):
            record = _scan(payload, at)
            if not delta_before < record.offset_delta <= last_offset_delta:
                raise RecordError(f"offset delta {record.offset_delta} behind {delta_before}, of {last_offset_delta}")
            found.append(record)
            at, delta_before = record.end, record.offset_delta
    except WireError as error:
        raise RecordError(str(error)) from None
    if at != len(payload):
        raise RecordError(f"{len(payload) - at} bytes follow the last of {count} records")
    return found


def _scan(payload: bytes, first: int) -> RawRecord:
    size, body_first = _varint(payload, first)
    end = body_first + size
    if size < RECORD_BYTES_MIN - 1 or end > len(payload):
        raise RecordError(
            f"a record of {size} bytes at byte {first} doesn't fit the {len(payload) - body_first} that remain"
        )
    at = body_first + 1
    raw = payload[at]
    timestamp_delta, rest_first = ((raw >> 1) ^ -(raw & 1), at + 1) if raw < 0x80 else read_varlong(payload, at)
    offset_delta, at = _varint(payload, rest_first)
    size, at = _varint(payload, at)
    key = None
    if size >= 0:
        key = payload[at : at + size]
        at += size
    size, at = _varint(payload, at)
    has_value = size >= 0
    if has_value:
        at += size
    if at != end - 1 or payload[at]:  # else no headers, and nothing behind them
        at = _skip_headers(payload, at, end)
        if at != end:
            raise RecordError(f"a record ends at byte {end}, its fields at byte {at}")
    return _new(RawRecord, (first, end, body_first, rest_first, timestamp_delta, offset_delta, key, has_value))


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """The zigzag number at `at`, and where it ends. One or two bytes are the short way here."""
    raw = payload[at] if at < len(payload) else 0x80
    if raw < 0x80:
        return (raw >> 1) ^ -(raw & 1), at + 1
    if at + 1 < len(payload) and (high := payload[at + 1]) < 0x80:
        raw = (raw & 0x7F) | high << 7
        return (raw >> 1) ^ -(raw & 1), at + 2
    return read_varint(payload, at)


def _skip_headers(payload: bytes, at: int, end: int) -> int:
    if at >= end:
        raise RecordError(f"a key or a value reaches behind its record, which ends at byte {end}")
    count, at = read_varint(payload, at)
    if not 0 <= 2 * count <= end - at:
        raise RecordError(f"{count} headers can't be in {end - at} bytes")
    for _ in range(count):
        size, at = read_varint(payload, at)
        if size < 0:
            raise RecordError("a header key is null")
        size_value, at = read_varint(payload, at + size)
        at += max(size_value, 0)
        if at > end:
            raise RecordError(f"a header reaches behind its record, which ends at byte {end}")
    return at


def moved(payload: bytes, record: RawRecord, by_ms: int) -> bytes:
    """The record's bytes for a base timestamp that is `by_ms` later than the one it was written for."""
    delta = varlong(((record.timestamp_delta - by_ms + _SIGN) & _MASK) - _SIGN)
    rest = payload[record.rest_first : record.end]
    return b"".join(
        (varint(1 + len(delta) + len(rest)), payload[record.body_first : record.body_first + 1], delta, rest)
    )
