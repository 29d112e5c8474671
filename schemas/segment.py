"""Segment objects: many shards' record batches in one immutable object, with a header that says where each run lies.

Layout: `NEVESEG1` · header length (u32 BE) · protobuf `SegmentHeader` · CRC-32C of the header (u32 BE) · body.
The body holds the batches exactly as producers sent them, grouped into one run per shard, runs sorted by (topic, shard)
and arrival order kept inside a run. Offsets are not in the object: they live in the metadata database.

Owns: no batch is copied when building; no header is read before its length is checked against the object and a limit;
every run's bytes are covered by a CRC-32C. Pure: no IO.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from crc32c import crc32c
from google.protobuf.message import DecodeError

from schemas.kafka.batch import BatchError, BatchHeader, read_header
from schemas.segment_pb2 import SegmentHeader

MAGIC = b"NEVESEG1"
HEADER_BYTES_MAX = 4 * 1024 * 1024
"""Most header bytes a reader accepts, unless told otherwise: about 50,000 runs."""

Buffer = bytes | bytearray | memoryview

_PREFIX = Struct(">8sI")
_CRC = Struct(">I")
PREFIX_BYTES = _PREFIX.size


class SegmentError(ValueError):
    """Stored bytes are not a whole, valid segment object."""


class Run(NamedTuple):
    """The batches of one shard on their way into a segment. `buffers` concatenated are the run's bytes."""

    topic: int
    topic_id: UUID
    shard: int
    buffers: Sequence[Buffer]
    batches: int
    offset_count: int
    timestamp_min: int
    timestamp_max: int


class RunEntry(NamedTuple):
    """One run as a header describes it; `byte_first` is absolute in the object."""

    topic: int
    topic_id: UUID
    shard: int
    byte_first: int
    byte_length: int
    batches: int
    offset_count: int
    timestamp_min: int
    timestamp_max: int
    crc: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A parsed header: whose object this is and what it holds. `body_first` is the absolute position of the body."""

    cluster_id: str
    agent_epoch: int
    sequence: int
    body_first: int
    runs: tuple[RunEntry, ...]
    journal: bytes = b""
    """Outcomes of the agent's earlier commits, as `schemas.journal` packs them; may be empty."""


@dataclass(frozen=True, slots=True)
class BuiltSegment:
    """A segment ready for upload: `parts` concatenated are the object of `bytes` bytes."""

    parts: list[Buffer]
    bytes: int
    body_first: int
    run_bytes: list[tuple[int, int]]
    """Absolute (byte_first, byte_length) of every run, in the order given."""


def build_segment(
    cluster_id: str, agent_epoch: int, sequence: int, runs: Sequence[Run], journal: bytes = b""
) -> BuiltSegment:
    """Lay out a segment. Runs must be sorted by (topic, shard), one per shard; batches are referenced, never copied."""
    header = SegmentHeader(cluster_id=cluster_id, agent_epoch=agent_epoch, sequence=sequence, journal=journal)
    body: list[Buffer] = []
    spans: list[tuple[int, int]] = []
    position = 0
    previous = (-1, -1)
    for run in runs:
        assert previous < (run.topic, run.shard), "runs of a segment are sorted, one per shard"
        previous = (run.topic, run.shard)
        crc = 0
        length = 0
        for buffer in run.buffers:
            crc = crc32c(buffer, crc)
            length += len(buffer)
        header.shards.add(
            topic_id=run.topic_id.bytes,
            shard=run.shard,
            byte_first=position,
            byte_length=length,
            batches=run.batches,
            offset_count=run.offset_count,
            timestamp_min=run.timestamp_min,
            timestamp_max=run.timestamp_max,
            crc=crc,
            topic=run.topic,
        )
        spans.append((position, length))
        body.extend(run.buffers)
        position += length
    encoded = header.SerializeToString()
    head = b"".join((_PREFIX.pack(MAGIC, len(encoded)), encoded, _CRC.pack(crc32c(encoded))))
    body_first = len(head)
    return BuiltSegment(
        parts=[head, *body],
        bytes=body_first + position,
        body_first=body_first,
        run_bytes=[(body_first + first, length) for first, length in spans],
    )


def head_bytes(prefix: Buffer, object_bytes: int | None, header_bytes_max: int = HEADER_BYTES_MAX) -> int:
    """Bytes from the object's start to its body, read from the first 12 bytes. Raises SegmentError."""
    if len(prefix) < PREFIX_BYTES:
        raise SegmentError(f"{len(prefix)} bytes can't hold a segment's {PREFIX_BYTES}-byte prefix")
    magic, length = _PREFIX.unpack_from(prefix)
    if magic != MAGIC:
        raise SegmentError(f"not a segment: it begins with {bytes(magic)!r}, not {MAGIC!r}")
    body_first: int = PREFIX_BYTES + length + _CRC.size
    if length > header_bytes_max or (object_bytes is not None and body_first > object_bytes):
        raise SegmentError(
            f"header of {length} bytes doesn't fit the object of {object_bytes} bytes or the limit of {header_bytes_max}"
        )
    return body_first


def parse_segment(head: Buffer, object_bytes: int | None, header_bytes_max: int = HEADER_BYTES_MAX) -> Segment:
    """The header of an object of `object_bytes` bytes that begins with `head`. Raises SegmentError.

    `head` must reach to the body at least; it may be the whole object. Header CRC, order and bounds of every run are
    checked; the runs' own bytes are not (see `verify_run`). Where the object's size isn't known (None) its end isn't
    checked either.
    """
    body_first = head_bytes(head, object_bytes, header_bytes_max)
    if len(head) < body_first:
        raise SegmentError(f"only {len(head)} of the segment's {body_first} head bytes are there")
    encoded = bytes(memoryview(head)[PREFIX_BYTES : body_first - _CRC.size])
    (crc,) = _CRC.unpack_from(head, body_first - _CRC.size)
    if crc32c(encoded) != crc:
        raise SegmentError("the segment header's CRC-32C is wrong")
    header = SegmentHeader()
    try:
        header.ParseFromString(encoded)
    except DecodeError as error:
        raise SegmentError(f"the segment header is not readable: {error}") from error
    return Segment(
        header.cluster_id,
        header.agent_epoch,
        header.sequence,
        body_first,
        _entries(header, body_first, object_bytes),
        header.journal,
    )


def _entries(header: SegmentHeader, body_first: int, object_bytes: int | None) -> tuple[RunEntry, ...]:
    entries: list[RunEntry] = []
    position = body_first
    for entry in header.shards:
        if len(entry.topic_id) != 16:
            raise SegmentError(f"a topic id has {len(entry.topic_id)} bytes, not 16")
        if body_first + entry.byte_first != position or (
            object_bytes is not None and entry.byte_length > object_bytes - position
        ):
            raise SegmentError(f"the run of shard {entry.shard} lies outside the object or leaves a hole")
        run = RunEntry(
            entry.topic, UUID(bytes=entry.topic_id), entry.shard, position, entry.byte_length, entry.batches,
            entry.offset_count, entry.timestamp_min, entry.timestamp_max, entry.crc,
        )  # fmt: skip
        entries.append(run)
        position += entry.byte_length
    if object_bytes is not None and position != object_bytes:
        raise SegmentError(f"the object has {object_bytes} bytes, its runs end at {position}")
    return tuple(entries)


def verify_run(run: RunEntry, data: Buffer, at: int) -> None:
    """Check the run whose bytes begin at `at` in `data` against its CRC. Raises SegmentError."""
    view = memoryview(data)[at : at + run.byte_length]
    if len(view) != run.byte_length:
        raise SegmentError(f"only {len(view)} of the run's {run.byte_length} bytes are there")
    if crc32c(view) != run.crc:
        raise SegmentError(f"CRC-32C of topic {run.topic} shard {run.shard} at byte {run.byte_first} is wrong")


def batches_of(run: RunEntry, data: Buffer, at: int) -> Iterator[tuple[int, BatchHeader]]:
    """(absolute position, header) of every batch of a run whose bytes begin at `at` in `data`. Raises SegmentError."""
    position, end = at, at + run.byte_length
    while position < end:
        try:
            header = read_header(memoryview(data)[:end], position)
        except BatchError as error:
            raise SegmentError(str(error)) from error
        if header.size < 61 or header.size > end - position:
            raise SegmentError(f"a batch of {header.size} bytes doesn't fit the run's {end - position} that remain")
        yield run.byte_first + position - at, header
        position += header.size


def summarize(data: Buffer) -> dict[str, Any]:
    """A whole object as values to print, with every checksum recomputed. Raises SegmentError.

    Keys: cluster_id, agent_epoch, sequence, object_bytes, header_bytes, batches, and `runs`: a list of one dict per run.
    """
    segment = parse_segment(data, len(data))
    runs: list[dict[str, Any]] = []
    for run in segment.runs:
        verify_run(run, data, run.byte_first)
        headers = [header for _, header in batches_of(run, data, run.byte_first)]
        if len(headers) != run.batches:
            raise SegmentError(f"shard {run.shard} holds {len(headers)} batches, its entry says {run.batches}")
        runs.append(
            {
                "topic": run.topic,
                "topic_id": str(run.topic_id),
                "shard": run.shard,
                "byte_first": run.byte_first,
                "byte_length": run.byte_length,
                "batches": run.batches,
                "records": sum(header.record_count for header in headers),
                "timestamp_min": run.timestamp_min,
                "timestamp_max": run.timestamp_max,
                "crc": f"{run.crc:08x}",
            }
        )
    return {
        "cluster_id": segment.cluster_id,
        "agent_epoch": segment.agent_epoch,
        "sequence": segment.sequence,
        "object_bytes": len(data),
        "header_bytes": segment.body_first,
        "batches": sum(run.batches for run in segment.runs),
        "runs": runs,
    }
