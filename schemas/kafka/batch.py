"""Kafka record batches (magic 2) as opaque bytes with a 61-byte header.

The broker looks at headers only; records are never touched. CRC-32C covers everything from `attributes` on, so base
offset and leader epoch can be patched at serving without a new checksum. Source: Kafka's `DefaultRecordBatch`.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

HEADER = Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size  # 61
LOG_OVERHEAD_BYTES = 12
CRC_COVERS_FROM = 21
COMPRESSION_MASK = 0x07
TIMESTAMP_TYPE_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20
DELETE_HORIZON_BIT = 0x40
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

_OFFSET_LENGTH_EPOCH = Struct(">qi")
_I64 = Struct(">q")
_U32 = Struct(">I")
_I32 = Struct(">i")


class BatchError(ValueError):
    """Bytes are not a whole, valid record batch."""


class BatchHeader(NamedTuple):
    """The 61 header bytes, by Kafka's names."""

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.batch_length + LOG_OVERHEAD_BYTES

    @property
    def codec(self) -> int:
        """Compression id 0..7; above 4 is invalid."""
        return self.attributes & COMPRESSION_MASK

    @property
    def append_time(self) -> bool:
        """True where the timestamp type bit says LogAppendTime."""
        return bool(self.attributes & TIMESTAMP_TYPE_BIT)

    @property
    def is_transactional(self) -> bool:
        """True where the batch belongs to a transaction."""
        return bool(self.attributes & TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """True for control batches, which clients may not send."""
        return bool(self.attributes & CONTROL_BIT)


def read_header(buffer: bytes | bytearray | memoryview, at: int = 0) -> BatchHeader:
    """The header of the batch that begins at `at`. Raises BatchError where 61 bytes are not there."""
    if len(buffer) - at < HEADER_BYTES:
        raise BatchError(f"{len(buffer) - at} bytes can't hold a record batch header of {HEADER_BYTES}")
    return BatchHeader._make(HEADER.unpack_from(buffer, at))


def batch_size(buffer: bytes | bytearray | memoryview, at: int) -> int:
    """Bytes of the batch at `at`, read from its length field alone and checked against what remains."""
    if len(buffer) - at < HEADER_BYTES:
        raise BatchError(f"{len(buffer) - at} bytes can't hold a record batch header of {HEADER_BYTES}")
    length: int = _I32.unpack_from(buffer, at + 8)[0]
    size = length + LOG_OVERHEAD_BYTES
    if size < HEADER_BYTES or size > len(buffer) - at:
        raise BatchError(f"batch length {length} doesn't fit the {len(buffer) - at} bytes that remain")
    return size


def crc_is_right(buffer: bytes | bytearray | memoryview, at: int, size: int, crc: int) -> bool:
    """True where CRC-32C over `[at+21, at+size)` equals `crc`."""
    return bool(crc32c(memoryview(buffer)[at + CRC_COVERS_FROM : at + size]) == crc)


def patch_base_offset(buffer: bytearray | memoryview, at: int, base_offset: int, leader_epoch: int = 0) -> None:
    """Write base offset and leader epoch in place; both lie outside the CRC."""
    _I64.pack_into(buffer, at, base_offset)
    _I32.pack_into(buffer, at + 12, leader_epoch)


def patch_append_time(buffer: bytearray | memoryview, at: int, size: int, append_ms: int) -> None:
    """Set the LogAppendTime bit and the max timestamp in place, with a new CRC (as Kafka's broker does)."""
    attributes: int = int.from_bytes(bytes(buffer[at + 21 : at + 23]), "big") | TIMESTAMP_TYPE_BIT
    buffer[at + 21 : at + 23] = attributes.to_bytes(2, "big")
    _I64.pack_into(buffer, at + 35, append_ms)
    _U32.pack_into(buffer, at + 17, crc32c(memoryview(buffer)[at + CRC_COVERS_FROM : at + size]))
