"""What a restored log looks like: a snapshot's shards with the journal's outcomes on top. Pure.

Owns: nothing journalled is lost or gets another offset; nothing that wasn't journalled is made up. Below a shard's high
watermark in the snapshot the snapshot is right; from there on the journal is. Offsets that somebody may have been told and
that nothing journalled explains are never given again: they become gaps, which empty batches fill. Producers are replayed in
the order of their offsets by the sequencer's own rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.sequence import (
    Extent,
    ProducerBatch,
    ProducerKey,
    ProducerState,
    ShardKey,
    ShardState,
    remember,
)
from schemas.journal import Block, Entry, ProducerRow


class Contradiction(ValueError):
    """Two journals say different things of the same offsets: the bucket holds more than one cluster's, or is damaged."""


class Gap(NamedTuple):
    """Offsets that may have been given and that nothing journalled explains."""

    topic: int
    shard: int
    offset_first: int
    offset_next: int


@dataclass(slots=True)
class Replayed:
    """What is added to the snapshot."""

    shards: dict[ShardKey, ShardState] = field(default_factory=dict)
    """Every shard whose row changes, with its row."""
    extents: list[Extent] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    objects: dict[int, tuple[Entry, int, int]] = field(default_factory=dict)
    """object number -> (entry, extents of it that count, Unix ms when it was journalled)."""
    producers: dict[ProducerKey, ProducerState] = field(default_factory=dict)
    producer_ms: dict[ProducerKey, int] = field(default_factory=dict)
    unknown: dict[ShardKey, int] = field(default_factory=dict)
    """Shards that no topic has -> how many of their extents were left out."""
    through_ms: int = 0
    """The newest journal's time, by the clock of the agent that wrote it."""


def replay(
    shards: Mapping[ShardKey, ShardState],
    producers: Mapping[ProducerKey, ProducerState],
    blocks: Iterable[Block],
    possible: Mapping[ShardKey, int],
    floors: Mapping[ShardKey, int],
) -> Replayed:
    """`shards` and `producers` as the snapshot has them, with shards that journalled topics added (empty).

    `possible`: offsets that objects which nothing explains may have been given, per shard. `floors`: offsets that are known
    to have been given (tables' watermarks). Raises Contradiction.
    """
    done = Replayed()
    found: dict[ShardKey, dict[int, Extent]] = {}
    batches: dict[ShardKey, dict[int, tuple[ProducerRow, int]]] = {}
    entries: dict[int, tuple[Entry, int]] = {}
    for block in blocks:
        done.through_ms = max(done.through_ms, block.journalled_ms)
        for entry in block.entries:
            entries.setdefault(entry.object_id, (entry, block.journalled_ms))
            for row in entry.extents:
                _take(Extent._make(row), shards, found, done)
            for batch in entry.producers:
                state = shards.get((batch[0], batch[1]))
                if state is not None and batch[6] >= state.high_watermark:
                    batches.setdefault((batch[0], batch[1]), {})[batch[6]] = (batch, block.journalled_ms)
    for key in sorted(shards):
        _shard(key, shards[key], found.get(key, {}), possible.get(key, 0), floors.get(key, 0), done)
    counted: dict[int, int] = {}
    for extent in done.extents:
        counted[extent.object_id] = counted.get(extent.object_id, 0) + 1
    for object_id in sorted(counted):
        entry, at_ms = entries[object_id]
        done.objects[object_id] = (entry, counted[object_id], at_ms)
    _producers(producers, batches, done)
    return done


def _take(
    extent: Extent, shards: Mapping[ShardKey, ShardState], found: dict[ShardKey, dict[int, Extent]], done: Replayed
) -> None:
    key = (extent.topic, extent.shard)
    state = shards.get(key)
    if state is None:
        done.unknown[key] = done.unknown.get(key, 0) + 1
        return
    if extent.offset_first < state.high_watermark:
        return  # the snapshot knows what became of it
    known = found.setdefault(key, {}).setdefault(extent.offset_first, extent)
    if known != extent:
        raise Contradiction(
            f"topic {extent.topic} partition {extent.shard} offset {extent.offset_first}: journalled in object "
            f"{known.object_id} and in object {extent.object_id}"
        )


def _shard(
    key: ShardKey, state: ShardState, found: Mapping[int, Extent], possible: int, floor: int, done: Replayed
) -> None:
    end, append_ms = state.high_watermark, state.append_ms
    for first in sorted(found):
        extent = found[first]
        if first < end:
            raise Contradiction(f"topic {key[0]} partition {key[1]}: journalled offsets overlap at {first}")
        if first > end:
            done.gaps.append(Gap(*key, end, first))
        done.extents.append(extent)
        end, append_ms = extent.offset_next, max(append_ms, extent.append_ms)
    given = max(end + possible, floor)
    if given > end:
        done.gaps.append(Gap(*key, end, given))
    if given != state.high_watermark or append_ms != state.append_ms:
        done.shards[key] = ShardState(given, state.log_start, append_ms)


def _producers(
    producers: Mapping[ProducerKey, ProducerState],
    batches: Mapping[ShardKey, Mapping[int, tuple[ProducerRow, int]]],
    done: Replayed,
) -> None:
    for key in sorted(batches):
        for offset in sorted(batches[key]):
            (_, _, producer, epoch, first, last, _, append_ms), at_ms = batches[key][offset]
            whose = (*key, producer)
            before = done.producers.get(whose) or producers.get(whose)
            done.producers[whose] = remember(before, epoch, ProducerBatch(first, last, offset, append_ms))
            done.producer_ms[whose] = at_ms
