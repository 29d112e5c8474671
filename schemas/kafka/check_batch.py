"""What a broker demands of a record batch before it takes it over from a producer, as header arithmetic and one checksum.

Rules and codes are those of Kafka 4.3.1 (`ProduceRequest.validateRecords`, `UnifiedLog.analyzeAndValidateRecords`,
`LogValidator`), in its order, with these differences: records are not read, so the timestamps looked at are the two in the
header; trailing bytes and the delete-horizon bit are refused where Kafka lets them pass; and a record count that can't fit
the batch is refused here, because one tiny batch could otherwise use up two billion offsets.
"""

from __future__ import annotations

from schemas.kafka.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    HEADER,
    HEADER_BYTES,
    LOG_OVERHEAD_BYTES,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchError,
    BatchHeader,
    crc_is_right,
)
from schemas.kafka.errors import ErrorCode

ZSTD = 4
ZSTD_FROM_PRODUCE_VERSION = 7
NO_TIMESTAMP = -1
UNLIMITED_MS = (1 << 63) - 1
RECORD_BYTES_MIN = 7
EXPANSION_MAX = (1, 1_033, 22, 255, 32_768)
"""Most a byte can become, by codec: deflate's and LZ4's longest matches, snappy's longest copy, a zstd RLE block."""

_FORBIDDEN_BITS = TIMESTAMP_TYPE_BIT | CONTROL_BIT | DELETE_HORIZON_BIT
_LEGACY_LENGTH_MIN = 14
_new = tuple.__new__


class RefusedBatch(BatchError):
    """A batch the broker does not take; `code` is what the client is told."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        """Keep the code beside the message."""
        super().__init__(message)
        self.code = code


def check_batch(
    records: memoryview,
    *,
    version: int,
    max_bytes: int,
    now_ms: int,
    append_time: bool = False,
    before_max_ms: int = UNLIMITED_MS,
    after_max_ms: int = 3_600_000,
) -> BatchHeader:
    """The header of the one batch in `records`, the whole of what a client sent for a partition in Produce `version`.

    `max_bytes` bounds the batch; `before_max_ms` and `after_max_ms` bound how far its timestamps may lie from `now_ms`
    unless the topic uses LogAppendTime (`append_time`). Raises RefusedBatch with the code of the first broken rule.
    """
    size = len(records)
    if size < HEADER_BYTES:
        raise _malformed(records)
    header: BatchHeader = _new(BatchHeader, HEADER.unpack_from(records))
    (
        base_offset,
        length,
        _,
        magic,
        crc,
        attributes,
        last_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        _,
        base_sequence,
        count,
    ) = header
    if length + LOG_OVERHEAD_BYTES != size or magic != 2:
        raise _malformed(records)
    codec = attributes & COMPRESSION_MASK
    if codec >= ZSTD and (codec > ZSTD or version < ZSTD_FROM_PRODUCE_VERSION):
        raise _codec_refused(codec, version)
    if base_offset:
        raise _invalid(f"the base offset of a produced batch must be 0, not {base_offset}")
    if size > max_bytes:
        raise RefusedBatch(
            ErrorCode.MESSAGE_TOO_LARGE, f"the batch has {size} bytes, max.message.bytes allows {max_bytes}"
        )
    if not crc_is_right(records, 0, size, crc):
        raise RefusedBatch(ErrorCode.CORRUPT_MESSAGE, "the checksum of the batch is wrong")
    if count <= 0 or count != last_delta + 1:
        raise _invalid(f"the batch says {count} records but its last offset delta is {last_delta}")
    if count * RECORD_BYTES_MIN > (size - HEADER_BYTES) * EXPANSION_MAX[codec]:
        raise _invalid(f"{count} records can't be in {size - HEADER_BYTES} bytes")
    if attributes & _FORBIDDEN_BITS:
        raise _bits_refused(attributes)
    if producer_id >= 0:
        if base_sequence < 0:
            raise _invalid(f"the batch has producer id {producer_id} but sequence number {base_sequence}")
    elif attributes & TRANSACTIONAL_BIT:
        raise RefusedBatch(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "a transactional batch needs a producer id")
    if not append_time:
        earliest = now_ms - before_max_ms if before_max_ms < UNLIMITED_MS else -(1 << 63)
        latest = now_ms + after_max_ms if after_max_ms < UNLIMITED_MS else UNLIMITED_MS
        if not (earliest <= base_timestamp <= latest and earliest <= max_timestamp <= latest):
            _check_window(base_timestamp, earliest, latest)
            _check_window(max_timestamp, earliest, latest)
    return header


def _check_window(timestamp: int, earliest: int, latest: int) -> None:
    if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest:
        raise RefusedBatch(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {timestamp} lies outside {earliest} .. {latest}, "
            "which message.timestamp.before.max.ms and message.timestamp.after.max.ms allow",
        )


def _invalid(message: str) -> RefusedBatch:
    return RefusedBatch(ErrorCode.INVALID_RECORD, message)


def _codec_refused(codec: int, version: int) -> RefusedBatch:
    if codec == ZSTD:
        return RefusedBatch(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"zstd needs Produce version {ZSTD_FROM_PRODUCE_VERSION} or later, this is {version}",
        )
    return _invalid(f"there is no compression type {codec}")


def _bits_refused(attributes: int) -> RefusedBatch:
    if attributes & CONTROL_BIT:
        return _invalid("clients may not write control batches")
    if attributes & TIMESTAMP_TYPE_BIT:
        return RefusedBatch(ErrorCode.INVALID_TIMESTAMP, "producers may not set the timestamp type to LogAppendTime")
    return _invalid("producers may not set the delete horizon of a batch")


def _malformed(records: memoryview) -> RefusedBatch:
    """Why these bytes are not exactly one batch of magic 2, with the code Kafka's log input stream would give."""
    size = len(records)
    if size < HEADER_BYTES and size < 17:
        return _invalid(f"{size} bytes hold no record batch")
    length = int.from_bytes(records[8:12], "big", signed=True)
    magic = int.from_bytes(records[16:17], "big", signed=True)
    if length < _LEGACY_LENGTH_MIN:
        return RefusedBatch(ErrorCode.CORRUPT_MESSAGE, f"batch length {length} is less than any batch has")
    if not 0 <= magic <= 2:
        return RefusedBatch(ErrorCode.CORRUPT_MESSAGE, f"magic {magic} is unknown")
    if magic != 2:
        return _invalid(f"magic {magic}: only record batches of magic 2 are taken since Produce version 3")
    if length + LOG_OVERHEAD_BYTES > size:
        return _invalid(f"batch length {length} doesn't fit the {size} bytes sent")
    if length + LOG_OVERHEAD_BYTES < HEADER_BYTES:
        return RefusedBatch(ErrorCode.CORRUPT_MESSAGE, f"batch length {length} is less than the header's")
    return _invalid("exactly one record batch per partition is taken; more bytes follow the first")
