"""The sequencer's decision: which batches of which objects are accepted, at which offsets.

Pure. `sequence` is the same for every database and for the simulation. It owns I2 (offsets per shard are contiguous,
never reused, never overlap) and the producer rules of Kafka (`ProducerAppendInfo`, `ProducerStateEntry`; KIP-98, KIP-360):
last five batches remembered, exact repeats answered with their original offset, everything else in sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ShardKey = tuple[int, int]
"""(topic, shard): the internal topic number, which is never reused, and the shard (partition) index."""

ProducerKey = tuple[int, int, int]
"""(topic, shard, producer_id)."""

BATCHES_REMEMBERED = 5


class BatchFacts(NamedTuple):
    """What the sequencer needs to know of one record batch inside an object. Bytes are absolute in the object."""

    topic: int
    shard: int
    byte_first: int
    byte_length: int
    offset_count: int
    """last_offset_delta + 1."""
    timestamp_max: int
    append_time: bool
    """True where the topic's timestamp type is LogAppendTime."""
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1


class ObjectFacts(NamedTuple):
    """One uploaded segment object, with its batches in byte order."""

    object_id: int
    """epoch << 32 | sequence within the epoch."""
    name: str
    bytes: int
    batches: tuple[BatchFacts, ...]


class ShardState(NamedTuple):
    """A shard's row."""

    high_watermark: int
    log_start: int


class ProducerBatch(NamedTuple):
    """One remembered batch of a producer."""

    first_sequence: int
    last_sequence: int
    offset: int
    append_ms: int


class ProducerState(NamedTuple):
    """A producer's state on one shard."""

    epoch: int
    batches: tuple[ProducerBatch, ...]


class BatchOutcome(NamedTuple):
    """What a producer is told about one batch. `error` is a Kafka error code; 0 with the original offset for repeats."""

    error: int
    offset: int
    append_ms: int
    """-1 for CreateTime, else the LogAppendTime given to the batch."""
    log_start: int
    duplicate: bool = False


class Extent(NamedTuple):
    """A run of byte-adjacent, offset-adjacent batches of one shard in one object."""

    topic: int
    shard: int
    offset_first: int
    offset_next: int
    object_id: int
    byte_first: int
    byte_length: int
    batches: int
    timestamp_max: int
    append_ms: int


class Sequenced(NamedTuple):
    """The whole decision: outcomes per object and batch, rows to insert and rows to replace."""

    outcomes: tuple[tuple[BatchOutcome, ...], ...]
    extents: tuple[Extent, ...]
    shards: dict[ShardKey, ShardState]
    producers: dict[ProducerKey, ProducerState]


def sequence(
    objects: Sequence[ObjectFacts],
    shards: Mapping[ShardKey, ShardState],
    producers: Mapping[ProducerKey, ProducerState],
    now_ms: int,
) -> Sequenced:
    """Decide a group of objects, in the order given. A shard that is absent from `shards` answers UNKNOWN_TOPIC_OR_PARTITION.

    Only changed shards and producers are returned. Errors: 3 unknown topic or partition, 45 out of order sequence,
    47 invalid producer epoch.
    """
    raise NotImplementedError
