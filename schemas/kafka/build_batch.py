"""Builds record batches (magic 2) from records, for tools and tests; clients build their own.

The header is filled as a client would fill it, or as the caller says: hostile values are allowed, and the checksum is
always right for what stands there.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from schemas.kafka.batch import CRC_COVERS_FROM, HEADER, HEADER_BYTES, LOG_OVERHEAD_BYTES
from schemas.kafka.compression import compress
from schemas.kafka.wire import varint, varlong

_U32 = Struct(">I")


class NewRecord(NamedTuple):
    """A record to be put into a batch; `timestamp` in ms."""

    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Sequence[tuple[bytes, bytes | None]] = ()


def encode_record(record: NewRecord, *, timestamp_delta: int, offset_delta: int) -> bytes:
    """One record with its length in front."""
    parts = [b"\0", varlong(timestamp_delta), varint(offset_delta), _nullable(record.key), _nullable(record.value)]
    parts.append(varint(len(record.headers)))
    for key, value in record.headers:
        parts += (varint(len(key)), key, _nullable(value))
    body = b"".join(parts)
    return varint(len(body)) + body


def _nullable(value: bytes | None) -> bytes:
    return b"\1" if value is None else varint(len(value)) + value


def build_batch(
    records: Sequence[NewRecord],
    *,
    base_offset: int = 0,
    codec: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
    max_timestamp: int | None = None,
    xerial: bool = True,
) -> bytes:
    """A batch of these records, compressed with `codec`. `attributes` are or-ed to the codec; `max_timestamp` is the
    records' own unless given, as it is for LogAppendTime."""
    base_timestamp = records[0].timestamp if records else -1
    latest = max((record.timestamp for record in records), default=-1)
    payload = b"".join(
        encode_record(record, timestamp_delta=record.timestamp - base_timestamp, offset_delta=at)
        for at, record in enumerate(records)
    )
    return wrap_payload(
        compress(codec, payload, xerial=xerial),
        base_offset=base_offset,
        attributes=attributes | codec,
        last_offset_delta=len(records) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=latest if max_timestamp is None else max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=len(records),
    )


def wrap_payload(
    payload: bytes,
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    magic: int = 2,
    attributes: int = 0,
    last_offset_delta: int = 0,
    base_timestamp: int = 0,
    max_timestamp: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    record_count: int = 1,
) -> bytes:
    """A batch of these header fields around bytes that may be anything, with the checksum that belongs to them."""
    batch = bytearray(HEADER_BYTES)
    HEADER.pack_into(
        batch,
        0,
        base_offset,
        HEADER_BYTES - LOG_OVERHEAD_BYTES + len(payload),
        leader_epoch,
        magic,
        0,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count,
    )
    batch += payload
    _U32.pack_into(batch, CRC_COVERS_FROM - 4, crc32c(memoryview(batch)[CRC_COVERS_FROM:]))
    return bytes(batch)
