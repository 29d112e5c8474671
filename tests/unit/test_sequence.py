"""The sequencer against every rule of Kafka by name, and against a model that appends one record at a time."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.outcomes import (
    OutcomeCorrupt,
    pack_outcome,
    pack_producer_batches,
    unpack_outcome,
    unpack_producer_batches,
)
from catalog.sequence import (
    SEQUENCE_MAX,
    BatchFacts,
    BatchOutcome,
    Extent,
    ObjectFacts,
    ProducerBatch,
    ProducerKey,
    ProducerState,
    Sequenced,
    ShardKey,
    ShardState,
    extents_of,
    sequence,
)

NOW = 1_000_000
SHARD = (1, 0)
LIVE = {SHARD: ShardState(100, 7)}


def batch(count: int, at: int = 0, producer: int = -1, epoch: int = -1, first: int = -1, **more: int) -> BatchFacts:
    return BatchFacts(
        more.get("topic", 1),
        more.get("shard", 0),
        at,
        more.get("size", 10),
        count,
        more.get("timestamp", 5),
        bool(more.get("append_time", 0)),
        producer,
        epoch,
        first,
    )


def obj(*batches: BatchFacts, object_id: int = 1) -> ObjectFacts:
    return ObjectFacts(object_id, "name", 1000, batches)


def run(*batches: BatchFacts, producers: dict[ProducerKey, ProducerState] | None = None, now: int = NOW) -> Sequenced:
    return sequence([obj(*batches)], LIVE, producers or {}, now)


def known(epoch: int, *batches: tuple[int, int, int]) -> dict[ProducerKey, ProducerState]:
    remembered = tuple(ProducerBatch(first, last, offset, -1) for first, last, offset in batches)
    return {(1, 0, 7): ProducerState(epoch, remembered)}


FIVE = known(2, (0, 9, 50), (10, 19, 60), (20, 29, 70), (30, 39, 80), (40, 49, 90))


def test_offsets_follow_the_high_watermark() -> None:
    done = run(batch(10, 0), batch(5, 10))
    assert [o.offset for o in done.outcomes[0]] == [100, 110]
    assert all(o.error == 0 and o.log_start == 7 and o.append_ms == -1 and not o.duplicate for o in done.outcomes[0])
    assert done.shards == {SHARD: ShardState(115, 7)}
    assert done.producers == {}


def test_unknown_shard_answers_3_and_changes_nothing() -> None:
    done = run(batch(10, 0, shard=9))
    assert done.outcomes == ((BatchOutcome(3, -1, -1, -1),),)
    assert (done.extents, done.shards) == ((), {})


@pytest.mark.parametrize(("first", "offset"), [(0, 50), (20, 70), (40, 90)])
def test_exact_repeat_among_five_gets_its_original_offset(first: int, offset: int) -> None:
    done = run(batch(10, 0, 7, 2, first), producers=FIVE)
    assert done.outcomes == ((BatchOutcome(0, offset, -1, 7, True),),)
    assert (done.extents, done.shards, done.producers) == ((), {}, {})


def test_repeat_gets_its_original_append_time() -> None:
    state = {(1, 0, 7): ProducerState(0, (ProducerBatch(0, 9, 50, 777),))}
    done = run(batch(10, 0, 7, 0, 0, append_time=1), producers=state)
    assert done.outcomes[0][0] == BatchOutcome(0, 50, 777, 7, True)


@pytest.mark.parametrize(
    ("count", "epoch", "first", "error"),
    [
        (10, 2, 50, 0),  # in sequence
        (10, 2, 51, 45),  # gap
        (10, 2, 45, 45),  # overlap
        (5, 2, 40, 45),  # starts like a remembered one, but ends elsewhere
        (10, 1, 50, 47),  # older epoch
        (10, 1, 40, 47),  # a repeat under an older epoch is no repeat
        (10, 3, 0, 0),  # new epoch begins at 0
        (10, 3, 50, 45),  # new epoch that doesn't
        (10, 3, 40, 45),  # a repeat under a newer epoch is no repeat
        (10, 2, -1, 87),  # a producer id without a sequence
    ],
)
def test_sequence_rules(count: int, epoch: int, first: int, error: int) -> None:
    done = run(batch(count, 0, 7, epoch, first), producers=FIVE)
    assert done.outcomes[0][0] == BatchOutcome(error, -1 if error else 100, -1, 7)
    assert bool(done.producers) == (error == 0)


def test_repeat_older_than_five_is_out_of_order() -> None:
    done = run(batch(10, 0, 7, 2, 50), batch(10, 10, 7, 2, 0), producers=FIVE)
    assert [o.error for o in done.outcomes[0]] == [0, 45]
    assert [b.first_sequence for b in done.producers[1, 0, 7].batches] == [10, 20, 30, 40, 50]


def test_new_epoch_forgets_the_old_batches() -> None:
    done = run(batch(10, 0, 7, 3, 0), producers=FIVE)
    assert done.producers == {(1, 0, 7): ProducerState(3, (ProducerBatch(0, 9, 100, -1),))}


def test_without_state_any_sequence_is_accepted() -> None:
    done = run(batch(10, 0, 7, 4, 12345))
    assert done.outcomes[0][0].error == 0
    assert done.producers[1, 0, 7] == ProducerState(4, (ProducerBatch(12345, 12354, 100, -1),))


def test_sequences_wrap_within_and_between_batches() -> None:
    done = run(batch(10, 0, 7, 0, SEQUENCE_MAX - 4), batch(3, 10, 7, 0, 5), batch(10, 20, 7, 0, SEQUENCE_MAX - 4))
    assert [(o.error, o.offset, o.duplicate) for o in done.outcomes[0]] == [
        (0, 100, False),
        (0, 110, False),
        (0, 100, True),
    ]
    done = run(batch(1, 0, 7, 0, SEQUENCE_MAX), batch(1, 10, 7, 0, 0))
    assert [o.error for o in done.outcomes[0]] == [0, 0]


def test_repeats_inside_one_object_and_one_group() -> None:
    first = obj(batch(10, 0, 7, 0, 0), batch(10, 10, 7, 0, 0), object_id=1)
    second = obj(batch(10, 0, 7, 0, 0), batch(10, 10, 7, 0, 10), object_id=2)
    done = sequence([first, second], LIVE, {}, NOW)
    assert [[(o.offset, o.duplicate) for o in out] for out in done.outcomes] == [
        [(100, False), (100, True)],
        [(100, True), (110, False)],
    ]
    assert done.shards[SHARD].high_watermark == 120


def test_producers_are_apart_by_shard() -> None:
    shards = {(1, 0): ShardState(0, 0), (1, 1): ShardState(0, 0)}
    done = sequence([obj(batch(5, 0, 7, 0, 0), batch(5, 10, 7, 0, 0, shard=1))], shards, {}, NOW)
    assert [o.duplicate for o in done.outcomes[0]] == [False, False]


def test_append_time_never_goes_back() -> None:
    shards = {SHARD: ShardState(0, 0, NOW + 50)}
    done = sequence([obj(batch(5, 0, append_time=1, timestamp=9))], shards, {}, NOW)
    assert done.outcomes[0][0].append_ms == NOW + 50
    assert done.extents[0].timestamp_max == done.extents[0].append_ms == NOW + 50
    later = sequence([obj(batch(5, 0, append_time=1))], done.shards, {}, NOW + 99)
    assert later.shards[SHARD] == ShardState(10, 0, NOW + 99)


def test_runs_end_where_bytes_are_not_adjacent() -> None:
    done = run(batch(1, 0), batch(2, 10, timestamp=9), batch(3, 25), batch(4, 35, append_time=1))
    assert done.extents == (
        Extent(1, 0, 100, 103, 1, 0, 20, 2, 9, -1),
        Extent(1, 0, 103, 106, 1, 25, 10, 1, 5, -1),
        Extent(1, 0, 106, 110, 1, 35, 10, 1, NOW, NOW),
    )


def test_a_refused_batch_ends_the_run() -> None:
    done = run(batch(1, 0), batch(2, 10, 7, 1, 0), batch(3, 20), producers=FIVE)
    assert [(e.byte_first, e.byte_length) for e in done.extents] == [(0, 10), (20, 10)]
    assert [(e.offset_first, e.offset_next) for e in done.extents] == [(100, 101), (101, 104)]


# The naive model: a log is a list of records, a producer's history is kept per record.

Log = dict[ShardKey, list[tuple[int, int, int]]]

facts = st.builds(
    lambda shard, count, gap, producer, epoch, first, append: (shard, count, gap, producer, epoch, first, append),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([0, 0, 0, 4]),
    st.sampled_from([-1, 5, 6]),
    st.integers(0, 2),
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, SEQUENCE_MAX, SEQUENCE_MAX - 1]),
    st.booleans(),
)
objects = st.lists(st.lists(facts, max_size=8), max_size=6)


class Model:
    """Kafka's rules, written for one record at a time and without any sharing with the sequencer."""

    def __init__(self) -> None:
        self.log: Log = defaultdict(list)
        self.epochs: dict[ProducerKey, int] = {}
        self.batches: dict[ProducerKey, list[tuple[list[int], int]]] = {}

    def append(self, b: BatchFacts) -> tuple[int, int, bool]:
        """(error, offset, duplicate)"""
        if b.shard == 2:
            return 3, -1, False
        log = self.log[b.topic, b.shard]
        sequences = []
        following = b.base_sequence
        for _ in range(b.offset_count):
            sequences.append(following)
            following = 0 if following == SEQUENCE_MAX else following + 1
        if b.producer_id >= 0:
            key = (b.topic, b.shard, b.producer_id)
            if key in self.epochs:
                if b.producer_epoch == self.epochs[key]:
                    for earlier, offset in self.batches[key][-5:]:
                        if earlier[0] == sequences[0] and earlier[-1] == sequences[-1]:
                            return 0, offset, True
                    last = self.batches[key][-1][0][-1]
                    if sequences[0] != (0 if last == SEQUENCE_MAX else last + 1):
                        return 45, -1, False
                elif b.producer_epoch < self.epochs[key]:
                    return 47, -1, False
                elif sequences[0] != 0:
                    return 45, -1, False
            if self.epochs.get(key) != b.producer_epoch:
                self.epochs[key] = b.producer_epoch
                self.batches[key] = []
            self.batches[key].append((sequences, len(log)))
        offset = len(log)
        log.extend((b.producer_id, b.producer_epoch, number) for number in sequences)
        return 0, offset, False


@settings(max_examples=300, deadline=None)
@given(st.lists(objects, max_size=3))
def test_against_a_model_of_single_records(groups: list[list[list[tuple[int, int, int, int, int, int, bool]]]]) -> None:
    model = Model()
    shards: dict[ShardKey, ShardState] = {(1, 0): ShardState(0, 0), (1, 1): ShardState(0, 0)}
    producers: dict[ProducerKey, ProducerState] = {}
    object_id, now = 0, NOW
    every: dict[ShardKey, list[Extent]] = defaultdict(list)
    for group in groups:
        now += 10
        uploaded = []
        for rows in group:
            object_id += 1
            at, batches = 100, []
            for shard, count, gap, producer, epoch, first, append in sorted(rows, key=lambda row: row[0]):
                at += gap
                ids = (producer, epoch, first) if producer >= 0 else (-1, -1, -1)
                batches.append(BatchFacts(1, shard, at, 10 * count, count, at, append, *ids))
                at += 10 * count
            uploaded.append(ObjectFacts(object_id, "x", at, tuple(batches)))
        done = sequence(uploaded, shards, producers, now)
        shards |= done.shards
        producers |= done.producers
        for facts_, outcomes in zip(uploaded, done.outcomes, strict=True):
            wanted = [model.append(b) for b in facts_.batches]
            assert [(o.error, o.offset, o.duplicate) for o in outcomes] == wanted
            assert unpack_outcome(pack_outcome(outcomes)) == outcomes
            own = tuple(e for e in done.extents if e.object_id == facts_.object_id)
            assert extents_of(facts_, outcomes) == own
            assert sum(e.batches for e in own) == sum(not o.error and not o.duplicate for o in outcomes)
            accepted = {
                (b.topic, b.shard, b.byte_first): b.byte_length
                for b, o in zip(facts_.batches, outcomes, strict=True)
                if not o.error and not o.duplicate
            }
            for e in own:  # a run holds accepted batches only, byte for byte
                at = e.byte_first
                while at < e.byte_first + e.byte_length:
                    at += accepted.pop((e.topic, e.shard, at))
                every[e.topic, e.shard].append(e)
            assert not accepted
    for key, extents in every.items():
        assert extents[0].offset_first == 0
        assert all(b.offset_first == a.offset_next for a, b in pairwise(extents))
        assert extents[-1].offset_next == len(model.log[key]) == shards[key].high_watermark


def test_packed_outcomes_that_were_cut_are_refused() -> None:
    packed = pack_outcome([BatchOutcome(0, 5, -1, 0), BatchOutcome(45, -1, -1, 0), BatchOutcome(0, 9, 77, 3, True)])
    for length in range(len(packed)):
        with pytest.raises(OutcomeCorrupt):
            unpack_outcome(packed[:length])
    with pytest.raises(OutcomeCorrupt):
        unpack_outcome(b"\x09" + packed[1:])
    assert unpack_outcome(pack_outcome([])) == ()


def test_packed_producer_batches_come_back() -> None:
    batches = tuple(ProducerBatch(i, SEQUENCE_MAX - i, 2**60 + i, -1) for i in range(5))
    assert unpack_producer_batches(pack_producer_batches(batches)) == batches
