"""Fetch (API 1), server direction: requests 4..18 in, responses 4..18 out. Records pass through uncopied.

Versions: 5 log start offset; 7 sessions; 9 leader epoch; 11 rack and preferred replica; 12 flexible, cluster id (tagged);
13 topic ids instead of names; 15 replica state (tagged) instead of replica id; 16 node endpoints (tagged, left out);
17 and 18 tagged fields that only followers send. Fields of followers (log start, directory id, high watermark) are
checked and dropped; of the replica only its id is kept, so that a handler can refuse it. The tagged answers about
diverging epochs, other leaders and snapshots are never sent: there is one epoch and no leader.
Source: FetchRequest.json and FetchResponse.json of Kafka 4.3.1.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from schemas.kafka.wire import (
    REQUEST_ROOM,
    TOPIC_COST,
    Buffer,
    WireError,
    less_room,
    not_null,
    read_compact_count,
    read_compact_nullable_string,
    read_compact_string,
    read_count,
    read_string,
    read_tags,
    read_uuid,
    skip_tags,
)

VERSION_MIN = 4
VERSION_MAX = 18
FLEXIBLE_FROM = 12
TOPIC_IDS_FROM = 13

_HEAD_V4 = Struct(">iiiib")
_HEAD_V7 = Struct(">iiiibii")
_HEAD_V15 = Struct(">iiibii")
_PART_V4 = Struct(">iqi")
_PART_V5 = Struct(">iqqi")
_PART_V9 = Struct(">iiqqi")
_PART_V12 = Struct(">iiqiqiB")
_REPLICA_STATE = Struct(">iq")
_I32 = Struct(">i")
_new = tuple.__new__


class FetchPartition(NamedTuple):
    """One partition to read; epochs are -1 where the client gave none."""

    partition: int
    leader_epoch: int
    offset: int
    last_fetched_epoch: int
    max_bytes: int


class FetchTopic(NamedTuple):
    """One topic of a request: `name` up to version 12 (then ""), `topic_id` from 13 (before: None)."""

    name: str
    topic_id: UUID | None
    partitions: list[FetchPartition]


class ForgottenTopic(NamedTuple):
    """Partitions to take out of the fetch session."""

    name: str
    topic_id: UUID | None
    partitions: tuple[int, ...]


class FetchRequest(NamedTuple):
    """A Fetch request. `replica_id` is -1 for consumers; others are to be refused on client listeners."""

    replica_id: int
    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    isolation_level: int
    session_id: int
    session_epoch: int
    topics: list[FetchTopic]
    forgotten: list[ForgottenTopic]
    rack_id: str
    cluster_id: str | None


def decode_fetch_request(frame: Buffer, at: int, version: int) -> FetchRequest:
    """The request whose body begins at `at` of `frame`. Raises WireError."""
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise WireError(f"Fetch version {version} is not served")
    view = frame if type(frame) is memoryview else memoryview(frame)
    try:
        return _decode_flexible(view, at, version) if version >= FLEXIBLE_FROM else _decode_legacy(view, at, version)
    except (struct.error, IndexError):
        raise WireError("the Fetch request is cut short") from None


def _decode_legacy(view: memoryview, at: int, version: int) -> FetchRequest:
    session_id, session_epoch = 0, -1
    if version >= 7:
        replica_id, wait_ms, min_bytes, max_bytes, isolation, session_id, session_epoch = _HEAD_V7.unpack_from(view, at)
        at += _HEAD_V7.size
    else:
        replica_id, wait_ms, min_bytes, max_bytes, isolation = _HEAD_V4.unpack_from(view, at)
        at += _HEAD_V4.size
    layout = _PART_V9 if version >= 9 else _PART_V5 if version >= 5 else _PART_V4
    count, at = read_count(view, at, 6)
    room = less_room(REQUEST_ROOM, TOPIC_COST * not_null(count, "topics"))
    topics = []
    for _ in range(count):
        name, at = read_string(view, at)
        count, at = read_count(view, at, layout.size)
        room = less_room(room, not_null(count, "partitions"))
        end = at + count * layout.size
        rows = layout.iter_unpack(view[at:end])
        at = end
        partitions: list[FetchPartition]
        if version >= 9:
            partitions = [
                _new(FetchPartition, (index, epoch, offset, -1, size)) for index, epoch, offset, _, size in rows
            ]
        elif version >= 5:
            partitions = [_new(FetchPartition, (index, -1, offset, -1, size)) for index, offset, _, size in rows]
        else:
            partitions = [_new(FetchPartition, (index, -1, offset, -1, size)) for index, offset, size in rows]
        topics.append(FetchTopic(name, None, partitions))
    forgotten = []
    if version >= 7:
        count, at = read_count(view, at, 6)
        room = less_room(room, TOPIC_COST * not_null(count, "forgotten topics"))
        for _ in range(count):
            name, at = read_string(view, at)
            count, at = read_count(view, at, 4)
            room = less_room(room, not_null(count, "forgotten partitions"))
            forgotten.append(ForgottenTopic(name, None, _ints(view, at, count)))
            at += 4 * count
    rack_id = read_string(view, at)[0] if version >= 11 else ""
    return FetchRequest(
        replica_id,
        wait_ms,
        min_bytes,
        max_bytes,
        isolation,
        session_id,
        session_epoch,
        topics,
        forgotten,
        rack_id,
        None,
    )


def _ints(view: memoryview, at: int, count: int) -> tuple[int, ...]:
    return tuple(value for (value,) in _I32.iter_unpack(view[at : at + 4 * count]))


def _decode_flexible(view: memoryview, at: int, version: int) -> FetchRequest:
    replica_id = -1
    if version >= 15:
        wait_ms, min_bytes, max_bytes, isolation, session_id, session_epoch = _HEAD_V15.unpack_from(view, at)
        at += _HEAD_V15.size
    else:
        replica_id, wait_ms, min_bytes, max_bytes, isolation, session_id, session_epoch = _HEAD_V7.unpack_from(view, at)
        at += _HEAD_V7.size
    count, at = read_compact_count(view, at, 3)
    room = less_room(REQUEST_ROOM, TOPIC_COST * not_null(count, "topics"))
    topics = []
    for _ in range(count):
        name, topic_id, at = _topic_key(view, at, version)
        count, at = read_compact_count(view, at, _PART_V12.size)
        room = less_room(room, not_null(count, "partitions"))
        partitions, at = _partitions(view, at, count, version)
        at = skip_tags(view, at)
        topics.append(FetchTopic(name, topic_id, partitions))
    count, at = read_compact_count(view, at, 3)
    forgotten = []
    room = less_room(room, TOPIC_COST * not_null(count, "forgotten topics"))
    for _ in range(count):
        name, topic_id, at = _topic_key(view, at, version)
        count, at = read_compact_count(view, at, 4)
        room = less_room(room, not_null(count, "forgotten partitions"))
        forgotten.append(ForgottenTopic(name, topic_id, _ints(view, at, count)))
        at = skip_tags(view, at + 4 * count)
    rack_id, at = read_compact_string(view, at)
    tags, _ = read_tags(view, at)
    cluster_id = None
    if 0 in tags:
        start, end = tags[0]
        cluster_id, at = read_compact_nullable_string(view[:end], start)
        _filled(0, at, end)
    if version >= 15 and 1 in tags:
        start, end = tags[1]
        replica_id = _REPLICA_STATE.unpack_from(view[:end], start)[0]
        _filled(1, skip_tags(view[:end], start + _REPLICA_STATE.size), end)
    return FetchRequest(
        replica_id,
        wait_ms,
        min_bytes,
        max_bytes,
        isolation,
        session_id,
        session_epoch,
        topics,
        forgotten,
        rack_id,
        cluster_id,
    )


def _filled(tag: int, at: int, end: int) -> None:
    if at != end:
        raise WireError(f"tagged field {tag} of Fetch is {end - at} bytes longer than what stands in it")


def _topic_key(view: memoryview, at: int, version: int) -> tuple[str, UUID | None, int]:
    if version >= TOPIC_IDS_FROM:
        topic_id, at = read_uuid(view, at)
        return "", topic_id, at
    name, at = read_compact_string(view, at)
    return name, None, at


def _partitions(view: memoryview, at: int, count: int, version: int) -> tuple[list[FetchPartition], int]:
    """Partitions of one topic; in one sweep where no partition has tagged fields, which is what consumers send."""
    size = _PART_V12.size
    rows = list(_PART_V12.iter_unpack(view[at : at + count * size]))
    if not any(row[6] for row in rows):
        plain: list[FetchPartition] = [
            _new(FetchPartition, (index, epoch, offset, last_epoch, max_bytes))
            for index, epoch, offset, last_epoch, _, max_bytes, _ in rows
        ]
        return plain, at + count * size
    partitions = []
    for _ in range(count):
        index, epoch, offset, last_epoch, _, max_bytes, _ = _PART_V12.unpack_from(view, at)
        tags, at = read_tags(view, at + size - 1)
        for tag, width in ((0, 16), (1, 8)) if version >= 18 else ((0, 16),) if version == 17 else ():
            if tag in tags:
                start, end = tags[tag]
                _filled(tag, start + width, end)
        partitions.append(FetchPartition(index, epoch, offset, last_epoch, max_bytes))
    return partitions, at
