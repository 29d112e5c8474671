"""Produce (API 0), server direction: requests 3..13 in, responses 3..13 out. Records are never copied or looked at.

Versions: 3 transactional id; 5 log start offset; 8 record errors and message; 9 flexible; 10 leader hints (tagged, which a
leaderless broker leaves out); 13 topic ids instead of names. Versions 0..2 are advertised for librdkafka's sake and not
readable. Source: ProduceRequest.json and ProduceResponse.json of Kafka 4.3.1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from schemas.kafka.wire import (
    REQUEST_ROOM,
    TOPIC_COST,
    Buffer,
    WireError,
    compact_nullable_string,
    cut_short,
    less_room,
    not_null,
    nullable_string,
    read_compact_count,
    read_compact_nullable_string,
    read_compact_string,
    read_count,
    read_nullable_string,
    read_string,
    read_uuid,
    read_uvarint,
    skip_tags,
    uvarint,
)

VERSION_MIN = 3
VERSION_MAX = 13
FLEXIBLE_FROM = 9
TOPIC_IDS_FROM = 13

_ACKS_TIMEOUT = Struct(">hi")
_INDEX_SIZE = Struct(">ii")
_INDEX = Struct(">i")
_INDEX_LENGTH = Struct(">iBBB")
_I32 = Struct(">i")
_RESULT_V3 = Struct(">ihqq")
_RESULT_V5 = Struct(">ihqqq")
_RESULT_V8 = Struct(">ihqqqih")
_RESULT_V9 = Struct(">ihqqqBBB")
_new = tuple.__new__


class PartitionRecords(NamedTuple):
    """Records for one partition; None where the client sent null."""

    partition: int
    records: memoryview | None


class TopicRecords(NamedTuple):
    """One topic of a request: `name` up to version 12 (then ""), `topic_id` from 13 (before: None)."""

    name: str
    topic_id: UUID | None
    partitions: list[PartitionRecords]


class ProduceRequest(NamedTuple):
    """A Produce request; records are views into the frame it was read from."""

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[TopicRecords]


def decode_produce_request(frame: Buffer, at: int, version: int) -> ProduceRequest:
    """The request whose body begins at `at` of `frame`. Raises WireError."""
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise WireError(f"Produce version {version} is not served")
    view = frame if type(frame) is memoryview else memoryview(frame)
    try:
        return _decode_flexible(view, at, version) if version >= FLEXIBLE_FROM else _decode_legacy(view, at)
    except (struct.error, IndexError):
        raise WireError("the Produce request is cut short") from None


def _decode_legacy(view: memoryview, at: int) -> ProduceRequest:
    size = len(view)
    transactional_id, at = read_nullable_string(view, at)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(view, at)
    count, at = read_count(view, at + 6, 6)
    room = less_room(REQUEST_ROOM, TOPIC_COST * not_null(count, "topics"))
    topics: list[TopicRecords] = []
    index_size = _INDEX_SIZE.unpack_from
    for _ in range(count):
        name, at = read_string(view, at)
        count, at = read_count(view, at, 8)
        room = less_room(room, not_null(count, "partitions"))
        partitions: list[PartitionRecords] = []
        for _ in range(count):
            index, length = index_size(view, at)
            at += 8
            records = None
            if length >= 0:
                end = at + length
                if end > size:
                    raise cut_short(at)
                records = view[at:end]
                at = end
            partitions.append(_new(PartitionRecords, (index, records)))
        topics.append(_new(TopicRecords, (name, None, partitions)))
    return _new(ProduceRequest, (transactional_id, acks, timeout_ms, topics))


def _decode_flexible(view: memoryview, at: int, version: int) -> ProduceRequest:
    size = len(view)
    transactional_id, at = read_compact_nullable_string(view, at)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(view, at)
    count, at = read_compact_count(view, at + 6, 3)
    room = less_room(REQUEST_ROOM, TOPIC_COST * not_null(count, "topics"))
    topics: list[TopicRecords] = []
    index_length = _INDEX_LENGTH.unpack_from
    name, topic_id = "", None
    for _ in range(count):
        if version < TOPIC_IDS_FROM:
            name, at = read_compact_string(view, at)
        else:
            topic_id, at = read_uuid(view, at)
        count, at = read_compact_count(view, at, 6)
        room = less_room(room, not_null(count, "partitions"))
        partitions: list[PartitionRecords] = []
        for _ in range(count):
            # A whole request always has seven bytes here: the tagged fields of partition, topic and request follow.
            index, length, second, third = index_length(view, at)
            if length < 0x80:
                at += 5
            elif second < 0x80:
                length = length & 0x7F | second << 7
                at += 6
            elif third < 0x80:
                length = length & 0x7F | (second & 0x7F) << 7 | third << 14
                at += 7
            else:
                length, at = read_uvarint(view, at + 4)
            records = None
            if length:
                end = at + length - 1
                if end > size:
                    raise cut_short(at)
                records = view[at:end]
                at = end
            at = skip_tags(view, at) if view[at] else at + 1
            partitions.append(_new(PartitionRecords, (index, records)))
        at = skip_tags(view, at)
        topics.append(_new(TopicRecords, (name, topic_id, partitions)))
    skip_tags(view, at)
    return _new(ProduceRequest, (transactional_id, acks, timeout_ms, topics))


class PartitionResult(NamedTuple):
    """Answer for one partition. `append_ms` is -1 unless the topic uses LogAppendTime; `record_errors` are
    (batch index, message) pairs, sent from version 8."""

    partition: int
    error: int
    base_offset: int
    append_ms: int = -1
    log_start: int = -1
    record_errors: Sequence[tuple[int, str | None]] = ()
    message: str | None = None


class TopicResult(NamedTuple):
    """Answers for one topic; `name` is sent up to version 12, `topic_id` from 13."""

    name: str
    topic_id: UUID | None
    partitions: Sequence[PartitionResult]


def encode_produce_response(version: int, topics: Sequence[TopicResult], throttle_ms: int = 0) -> bytes:
    """The response body, without header."""
    if version >= FLEXIBLE_FROM:
        return _encode_flexible(version, topics, throttle_ms)
    out = [_I32.pack(len(topics))]
    for name, _, partitions in topics:
        out.append(nullable_string(name))
        out.append(_I32.pack(len(partitions)))
        for index, error, base_offset, append_ms, log_start, record_errors, message in partitions:
            if version >= 8:
                if record_errors or message is not None:
                    out.append(_RESULT_V5.pack(index, error, base_offset, append_ms, log_start))
                    out.append(_I32.pack(len(record_errors)))
                    out.extend(_INDEX.pack(at) + nullable_string(text) for at, text in record_errors)
                    out.append(nullable_string(message))
                else:
                    out.append(_RESULT_V8.pack(index, error, base_offset, append_ms, log_start, 0, -1))
            elif version >= 5:
                out.append(_RESULT_V5.pack(index, error, base_offset, append_ms, log_start))
            else:
                out.append(_RESULT_V3.pack(index, error, base_offset, append_ms))
    out.append(_I32.pack(throttle_ms))
    return b"".join(out)


def _encode_flexible(version: int, topics: Sequence[TopicResult], throttle_ms: int) -> bytes:
    out = [uvarint(len(topics) + 1)]
    pack = _RESULT_V9.pack
    for name, topic_id, partitions in topics:
        out.append(_topic_key(version, name, topic_id))
        out.append(uvarint(len(partitions) + 1))
        for index, error, base_offset, append_ms, log_start, record_errors, message in partitions:
            if record_errors or message is not None:
                out.append(_RESULT_V5.pack(index, error, base_offset, append_ms, log_start))
                out.append(uvarint(len(record_errors) + 1))
                out.extend(_INDEX.pack(at) + compact_nullable_string(text) + b"\0" for at, text in record_errors)
                out.append(compact_nullable_string(message) + b"\0")
            else:
                out.append(pack(index, error, base_offset, append_ms, log_start, 1, 0, 0))
        out.append(b"\0")
    out.append(_I32.pack(throttle_ms) + b"\0")
    return b"".join(out)


def _topic_key(version: int, name: str, topic_id: UUID | None) -> bytes:
    if version < TOPIC_IDS_FROM:
        return compact_nullable_string(name)
    if topic_id is None:
        raise ValueError(f"Produce version {version} answers by topic id, but topic {name!r} has none")
    return topic_id.bytes
