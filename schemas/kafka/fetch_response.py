"""Fetch responses 4..18 as a list of buffers: what was fetched passes through uncopied between small packed heads.

The body is never joined; the connection hands the list to a vectored write. Runs of partitions without records melt into
one buffer. See `schemas.kafka.fetch` for the versions and for what is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from schemas.kafka.fetch import FLEXIBLE_FROM, TOPIC_IDS_FROM
from schemas.kafka.wire import Buffer, compact_nullable_string, nullable_string, uvarint

_I32 = Struct(">i")
_HEAD_V7 = Struct(">ihi")
_PART_V4 = Struct(">ihqq")
_PART_V5 = Struct(">ihqqq")
_PART_V12_PLAIN = Struct(">ihqqqBi")
_PAIR = Struct(">qq")
_PAIR_TAGGED = Struct(">qqB")


class FetchedPartition(NamedTuple):
    """Answer for one partition: `records` are whole batches in order, of `record_bytes` in all; None sends null records.
    `aborted` lists (producer id, first offset), None where the reader is not read_committed."""

    partition: int
    error: int
    high_watermark: int
    last_stable_offset: int = -1
    log_start: int = -1
    records: Sequence[Buffer] | None = ()
    record_bytes: int = 0
    aborted: Sequence[tuple[int, int]] | None = None
    preferred_read_replica: int = -1


class FetchedTopic(NamedTuple):
    """Answers for one topic; `name` is sent up to version 12, `topic_id` from 13."""

    name: str
    topic_id: UUID | None
    partitions: Sequence[FetchedPartition]


def encode_fetch_response(
    version: int,
    topics: Sequence[FetchedTopic],
    *,
    throttle_ms: int = 0,
    error: int = 0,
    session_id: int = 0,
) -> tuple[list[Buffer], int]:
    """The response body, without header, as buffers in order, and its length in bytes. `error` and `session_id` are sent
    from version 7."""
    head = _HEAD_V7.pack(throttle_ms, error, session_id) if version >= 7 else _I32.pack(throttle_ms)
    if version >= FLEXIBLE_FROM:
        return _encode_flexible(version, topics, head)
    return _encode_legacy(version, topics, head)


def _encode_legacy(version: int, topics: Sequence[FetchedTopic], head: bytes) -> tuple[list[Buffer], int]:
    out: list[Buffer] = []
    total = 0
    pending = [head, _I32.pack(len(topics))]
    for name, _, partitions in topics:
        pending.append(nullable_string(name))
        pending.append(_I32.pack(len(partitions)))
        for index, error, high, stable, start, records, record_bytes, aborted, replica in partitions:
            if version >= 5:
                pending.append(_PART_V5.pack(index, error, high, stable, start))
            else:
                pending.append(_PART_V4.pack(index, error, high, stable))
            if aborted is None:
                pending.append(b"\xff\xff\xff\xff")
            else:
                pending.append(_I32.pack(len(aborted)))
                pending.extend(_PAIR.pack(producer, first) for producer, first in aborted)
            if version >= 11:
                pending.append(_I32.pack(replica))
            if records is None:
                pending.append(b"\xff\xff\xff\xff")
                continue
            pending.append(_I32.pack(record_bytes))
            if record_bytes:
                small = b"".join(pending)
                out.append(small)
                out.extend(records)
                total += len(small) + record_bytes
                pending = []
    return _closed(out, total, pending)


def _encode_flexible(version: int, topics: Sequence[FetchedTopic], head: bytes) -> tuple[list[Buffer], int]:
    out: list[Buffer] = []
    total = 0
    pending = [head, uvarint(len(topics) + 1)]
    plain = _PART_V12_PLAIN.pack
    for name, topic_id, partitions in topics:
        pending.append(_topic_key(version, name, topic_id))
        pending.append(uvarint(len(partitions) + 1))
        for index, error, high, stable, start, records, record_bytes, aborted, replica in partitions:
            if aborted is None:
                pending.append(plain(index, error, high, stable, start, 0, replica))
            else:
                pending.append(_PART_V5.pack(index, error, high, stable, start))
                pending.append(uvarint(len(aborted) + 1))
                pending.extend(_PAIR_TAGGED.pack(producer, first, 0) for producer, first in aborted)
                pending.append(_I32.pack(replica))
            if records is None:
                pending.append(b"\0\0")
            elif record_bytes:
                pending.append(uvarint(record_bytes + 1))
                small = b"".join(pending)
                out.append(small)
                out.extend(records)
                total += len(small) + record_bytes
                pending = [b"\0"]
            else:
                pending.append(b"\1\0")
        pending.append(b"\0")
    pending.append(b"\0")
    return _closed(out, total, pending)


def _closed(out: list[Buffer], total: int, pending: list[bytes]) -> tuple[list[Buffer], int]:
    if pending:
        small = b"".join(pending)
        out.append(small)
        total += len(small)
    return out, total


def _topic_key(version: int, name: str, topic_id: UUID | None) -> bytes:
    if version < TOPIC_IDS_FROM:
        return compact_nullable_string(name)
    if topic_id is None:
        raise ValueError(f"Fetch version {version} answers by topic id, but topic {name!r} has none")
    return topic_id.bytes
