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
SEQUENCE_MAX = 2**31 - 1

NONE = 0
UNKNOWN_TOPIC_OR_PARTITION = 3
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
INVALID_RECORD = 87


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
    append_ms: int = -1
    """The last LogAppendTime given out on this shard; it never goes back, whatever the clock does."""


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


_UNKNOWN_SHARD = BatchOutcome(UNKNOWN_TOPIC_OR_PARTITION, -1, -1, -1)
_END = BatchFacts(-1, -1, 0, 0, 0, 0, False)
_new = tuple.__new__  # a NamedTuple's own constructor costs twice as much, and this is the hot path


def sequence(
    objects: Sequence[ObjectFacts],
    shards: Mapping[ShardKey, ShardState],
    producers: Mapping[ProducerKey, ProducerState],
    now_ms: int,
) -> Sequenced:
    """Decide a group of objects, in the order given. A shard that is absent from `shards` answers UNKNOWN_TOPIC_OR_PARTITION.

    Only changed shards and producers are returned. Errors: 3 unknown topic or partition, 45 out of order sequence,
    47 invalid producer epoch, 87 a producer id without a sequence.
    """
    shards_now: dict[ShardKey, ShardState] = {}
    producers_now: dict[ProducerKey, ProducerState] = {}
    extents: list[Extent] = []
    outcomes = tuple(
        _sequence_object(facts, shards, producers, now_ms, shards_now, producers_now, extents) for facts in objects
    )
    return Sequenced(outcomes, tuple(extents), shards_now, producers_now)


def extents_of(facts: ObjectFacts, outcomes: Sequence[BatchOutcome]) -> tuple[Extent, ...]:
    """The extents that a stored outcome stands for: the same runs that `sequence` made when the object was committed."""
    extents: list[Extent] = []
    for batch, outcome in zip(facts.batches, outcomes, strict=True):
        if outcome.error or outcome.duplicate:
            continue
        offset_next = outcome.offset + batch.offset_count
        timestamp = outcome.append_ms if batch.append_time else batch.timestamp_max
        last = extents[-1] if extents else None
        if (
            last is not None
            and (last.topic, last.shard, last.append_ms) == (batch.topic, batch.shard, outcome.append_ms)
            and last.byte_first + last.byte_length == batch.byte_first
            and last.offset_next == outcome.offset
        ):
            extents[-1] = last._replace(
                offset_next=offset_next,
                byte_length=last.byte_length + batch.byte_length,
                batches=last.batches + 1,
                timestamp_max=max(last.timestamp_max, timestamp),
            )
        else:
            extents.append(
                Extent(
                    topic=batch.topic,
                    shard=batch.shard,
                    offset_first=outcome.offset,
                    offset_next=offset_next,
                    object_id=facts.object_id,
                    byte_first=batch.byte_first,
                    byte_length=batch.byte_length,
                    batches=1,
                    timestamp_max=timestamp,
                    append_ms=outcome.append_ms,
                )
            )
    return tuple(extents)


def _sequence_object(
    facts: ObjectFacts,
    shards: Mapping[ShardKey, ShardState],
    producers: Mapping[ProducerKey, ProducerState],
    now_ms: int,
    shards_now: dict[ShardKey, ShardState],
    producers_now: dict[ProducerKey, ProducerState],
    extents: list[Extent],
) -> tuple[BatchOutcome, ...]:
    """Outcomes of one object; changed rows go into `shards_now` and `producers_now`, which are looked at first.

    One straight loop, because it runs once per batch in the commit path: a shard's row is loaded when the shard
    changes and stored when it is left. The open run of adjacent batches is held in locals. Runs are adjacent in offsets
    because they are adjacent in bytes: what is refused or repeated takes bytes, but no offsets.
    """
    object_id = facts.object_id
    outcomes: list[BatchOutcome] = []
    key: ShardKey = (-2, -2)  # no shard, nor the end
    known = changed = False
    high_watermark = log_start = shard_append_ms = -1
    run_count = run_offset = run_byte = run_byte_next = run_append_ms = run_timestamp = -1
    for topic, shard, byte_first, byte_length, count, timestamp, append_time, producer, epoch, first in (
        *facts.batches,
        _END,
    ):
        if shard != key[1] or topic != key[0]:
            if changed:
                run = (run_offset, high_watermark, object_id, run_byte, run_byte_next - run_byte, run_count)
                extents.append(_new(Extent, (*key, *run, run_timestamp, run_append_ms)))
                shards_now[key] = _new(ShardState, (high_watermark, log_start, shard_append_ms))
            if topic < 0:
                break
            key, run_count, changed = (topic, shard), 0, False
            state = shards_now.get(key) or shards.get(key)
            known = state is not None
            if state is not None:
                high_watermark, log_start, shard_append_ms = state
        if not known:
            outcomes.append(_UNKNOWN_SHARD)
            continue
        append_ms = -1
        if append_time:
            timestamp = append_ms = now_ms if now_ms > shard_append_ms else shard_append_ms
        if producer >= 0:
            producer_key = (topic, shard, producer)
            before = producers_now.get(producer_key) or producers.get(producer_key)
            last = last_sequence(first, count)
            repeat = find_repeat(before, epoch, first, last)
            if repeat is not None:
                outcomes.append(_new(BatchOutcome, (NONE, repeat.offset, repeat.append_ms, log_start, True)))
                continue
            error = check_sequence(before, epoch, first)
            if error:
                outcomes.append(_new(BatchOutcome, (error, -1, -1, log_start, False)))
                continue
            batch = _new(ProducerBatch, (first, last, high_watermark, append_ms))
            producers_now[producer_key] = remember(before, epoch, batch)
        outcomes.append(_new(BatchOutcome, (NONE, high_watermark, append_ms, log_start, False)))
        if run_count and byte_first == run_byte_next and append_ms == run_append_ms:
            run_count += 1
            run_byte_next += byte_length
            if timestamp > run_timestamp:
                run_timestamp = timestamp
        else:
            if run_count:
                run = (run_offset, high_watermark, object_id, run_byte, run_byte_next - run_byte, run_count)
                extents.append(_new(Extent, (*key, *run, run_timestamp, run_append_ms)))
            run_count, run_offset, run_append_ms, run_timestamp = 1, high_watermark, append_ms, timestamp
            run_byte, run_byte_next = byte_first, byte_first + byte_length
        high_watermark += count
        changed = True
        if append_time:
            shard_append_ms = append_ms
    return tuple(outcomes)


def last_sequence(first: int, count: int) -> int:
    """The sequence of a batch's last record: sequences count records and wrap from 2^31-1 to 0."""
    return (first + count - 1) & SEQUENCE_MAX


def find_repeat(state: ProducerState | None, epoch: int, first: int, last: int) -> ProducerBatch | None:
    """The remembered batch that this one repeats exactly, under the same epoch."""
    if state is None or state.epoch != epoch:
        return None
    for batch in state.batches:
        if batch[0] == first and batch[1] == last:
            return batch
    return None


def check_sequence(state: ProducerState | None, epoch: int, first: int) -> int:
    """The error of a batch that repeats nothing: 0, 45, 47 or 87. Without any state every sequence is accepted (KIP-360)."""
    if first < 0:
        return INVALID_RECORD
    if state is None:
        return NONE
    if epoch < state.epoch:
        return INVALID_PRODUCER_EPOCH
    if epoch > state.epoch:
        return NONE if first == 0 else OUT_OF_ORDER_SEQUENCE_NUMBER
    follows = (state.batches[-1].last_sequence + 1) & SEQUENCE_MAX
    return NONE if first == follows else OUT_OF_ORDER_SEQUENCE_NUMBER


def remember(state: ProducerState | None, epoch: int, batch: ProducerBatch) -> ProducerState:
    """The producer's state after an accepted batch; a new epoch forgets what was before."""
    if state is None or state.epoch != epoch:
        return _new(ProducerState, (epoch, (batch,)))
    return _new(ProducerState, (epoch, (*state.batches[1 - BATCHES_REMEMBERED :], batch)))
