"""The object that a step of key compaction writes: one run of rewritten batches, and the extents that lie in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from broker.compaction.keyed_rewrite import Rewritten
from catalog.compaction import Replacement, SwapFacts
from catalog.sequence import Extent
from schemas.segment import Buffer, BuiltSegment, Run, build_segment


class Rewrite(NamedTuple):
    """Adjacent extents of a shard, and what replaces them."""

    inputs: tuple[Extent, ...]
    output: Rewritten


class KeyedObject(NamedTuple):
    """An object ready for upload, and the swap that puts it in place."""

    built: BuiltSegment
    facts: SwapFacts


def lay_out(
    cluster_id: str, epoch: int, sequence: int, random: int, topic_id: UUID, rewrites: Sequence[Rewrite]
) -> KeyedObject:
    """The object of these, which are one shard's in offset order. `random` (64 bits) ends its name."""
    first = rewrites[0].inputs[0]
    parts: list[Buffer] = [part for one in rewrites for part in one.output.parts]
    run = Run(
        first.topic,
        topic_id,
        first.shard,
        parts,
        sum(one.output.batches for one in rewrites),
        sum(one.output.offset_next - one.output.offset_first for one in rewrites),
        min(one.output.timestamp_min for one in rewrites),
        max(one.output.timestamp_max for one in rewrites),
    )
    built = build_segment(cluster_id, epoch, sequence, [run])
    object_id = epoch << 32 | sequence
    byte_first = built.run_bytes[0][0]
    replacements = []
    for inputs, output in rewrites:
        extent = Extent(
            first.topic, first.shard, output.offset_first, output.offset_next, object_id, byte_first, output.bytes,
            output.batches, output.timestamp_max, -1,
        )  # fmt: skip
        replacements.append(Replacement(inputs, extent))
        byte_first += output.bytes
    name = f"{cluster_id}/segments/{epoch}/{sequence}-{random:016x}"
    return KeyedObject(built, SwapFacts(object_id, name, built.bytes, tuple(replacements)))
