"""What a compaction writes: one segment object with a run per shard, sorted, and the extents that lie in it. Pure.

Owns: offsets follow from an output extent as from any other (first batch at its first offset, each next one behind the one
before), because its inputs are adjacent and keep their order. LogAppendTime stands in the stored bytes by now (with its
own CRC), so extents that were appended at different times become one, which carries none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from catalog.compaction import Replacement
from catalog.sequence import Extent
from schemas.kafka.batch import LOG_OVERHEAD_BYTES
from schemas.segment import BuiltSegment, Run, build_segment

_LENGTH = Struct(">i")
_BASE_TIMESTAMP = Struct(">q")


class Merge(NamedTuple):
    """Adjacent extents of one shard with their patched bytes, to become one extent."""

    topic_id: UUID
    inputs: tuple[Extent, ...]
    parts: tuple[memoryview, ...]


@dataclass(frozen=True, slots=True)
class MergedObject:
    """An object ready for upload, and what it replaces."""

    built: BuiltSegment
    replacements: tuple[Replacement, ...]


def lay_out(cluster_id: str, epoch: int, sequence: int, merges: Sequence[Merge]) -> MergedObject:
    """The object that holds all of `merges`, which stand in order of (topic, shard, offset)."""
    shards = [
        list(members) for _, members in groupby(merges, key=lambda one: (one.inputs[0].topic, one.inputs[0].shard))
    ]
    built = build_segment(cluster_id, epoch, sequence, [_run(members) for members in shards])
    replacements = tuple(
        replacement
        for members, (byte_first, _) in zip(shards, built.run_bytes, strict=True)
        for replacement in _replacements(epoch << 32 | sequence, members, byte_first)
    )
    return MergedObject(built, replacements)


def _run(members: Sequence[Merge]) -> Run:
    inputs = [extent for one in members for extent in one.inputs]
    parts = [part for one in members for part in one.parts]
    first = inputs[0]
    return Run(
        first.topic,
        members[0].topic_id,
        first.shard,
        parts,
        sum(extent.batches for extent in inputs),
        sum(extent.offset_next - extent.offset_first for extent in inputs),
        min(timestamp for part in parts for timestamp in _base_timestamps(part)),
        max(extent.timestamp_max for extent in inputs),
    )


def _replacements(object_id: int, members: Sequence[Merge], byte_first: int) -> Iterator[Replacement]:
    for one in members:
        inputs = one.inputs
        length = sum(extent.byte_length for extent in inputs)
        output = Extent(
            topic=inputs[0].topic,
            shard=inputs[0].shard,
            offset_first=inputs[0].offset_first,
            offset_next=inputs[-1].offset_next,
            object_id=object_id,
            byte_first=byte_first,
            byte_length=length,
            batches=sum(extent.batches for extent in inputs),
            timestamp_max=max(extent.timestamp_max for extent in inputs),
            append_ms=-1,
        )
        yield Replacement(inputs, output)
        byte_first += length


def _base_timestamps(part: memoryview) -> Iterator[int]:
    """Of each batch; they were checked when they were read."""
    at = 0
    while at < len(part):
        yield _BASE_TIMESTAMP.unpack_from(part, at + 27)[0]
        at += LOG_OVERHEAD_BYTES + _LENGTH.unpack_from(part, at + 8)[0]
