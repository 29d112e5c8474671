"""What key compaction must leave, computed naively, and its guarantees C1 to C5 as checks of their own.

`play` runs a history - extents appended, rounds at given times - on a `MemoryLog` and on plain lists beside it. Everything
that a check needs of each round is in a `Round`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st

from broker.compaction.keyed_filter import ProducerLast
from schemas.kafka.batch import HEADER_BYTES, BatchHeader
from schemas.kafka.records import Record, build_batch
from tests.keyed_log import MemoryLog

RETENTION_MS = 1_000
KEYS = (b"", b"a", b"b", b"c", b"k" * 16, b"long" * 9, b"long" * 8 + b"LONG")


class NewBatch(NamedTuple):
    """A batch to append: records of (timestamp, key, value, headers)."""

    records: tuple[tuple[int, bytes | None, bytes | None, tuple[tuple[bytes, bytes | None], ...]], ...]
    codec: int
    producer_id: int


class Append(NamedTuple):
    """An extent to append."""

    batches: tuple[NewBatch, ...]
    append_ms: int


class Clean(NamedTuple):
    """A round, so much later."""

    after_ms: int
    keys_max: int
    chunk: int


Step = Append | Clean


@dataclass
class Round:
    """One round of compaction: when, how far, and what there was before and after it."""

    now_ms: int
    through: int
    before: list[Record]
    after: list[Record]
    expected: list[Record]
    headers_before: list[BatchHeader]
    headers_after: list[BatchHeader]
    end_before: int
    end_after: int


@dataclass
class Played:
    """A whole history."""

    written: list[Record] = field(default_factory=list)
    producers: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Producer id -> (base offset, first sequence, records) of its last batch."""
    rounds: list[Round] = field(default_factory=list)
    log: MemoryLog = field(default_factory=MemoryLog)
    offered: dict[int, int] = field(default_factory=dict)
    """Offset of a tombstone -> time of the first round that had it as the latest of its key."""
    horizons: dict[int, int] = field(default_factory=dict)
    """Base offset of a batch -> when its tombstones may go."""


timestamps = st.integers(0, 50) | st.sampled_from([-1, 2**40])
headers = st.just(()) | st.just(((b"h", None), (b"i", b"j")))
records = st.tuples(
    timestamps, st.sampled_from([*KEYS, *KEYS, None]), st.none() | st.sampled_from([b"", b"v", b"w" * 40]), headers
)
new_batches = st.builds(
    NewBatch,
    st.lists(records, min_size=1, max_size=5).map(tuple),
    st.sampled_from([0, 0, 1, 2, 3, 4]),
    st.sampled_from([-1, -1, 7, 8]),
)
appends = st.builds(
    Append, st.lists(new_batches, min_size=1, max_size=3).map(tuple), st.sampled_from([-1, -1, 1_000_000])
)
cleans = st.builds(
    Clean,
    st.sampled_from([0, 1, RETENTION_MS - 1, RETENTION_MS, 5_000]),
    st.sampled_from([1, 2, 3, 100]),
    st.integers(1, 4),
)
histories = st.lists(appends | appends | cleans, min_size=1, max_size=14).map(lambda steps: [*steps, Clean(1, 100, 2)])


def play(steps: Sequence[Step]) -> Played:
    """Do it all; nothing is judged here."""
    played = Played()
    now_ms = 100_000
    sequences: dict[int, int] = {}
    for step in steps:
        if isinstance(step, Append):
            _append(played, step, sequences)
        elif played.log.stored:
            now_ms += step.after_ms
            _clean(played, step, now_ms)
    return played


def _append(played: Played, step: Append, sequences: dict[int, int]) -> None:
    offset = played.log.end
    made = []
    for batch in step.batches:
        pid, count = batch.producer_id, len(batch.records)
        first = sequences.get(pid, 0) if pid >= 0 else -1
        made.append(
            build_batch(
                batch.records,
                codec=batch.codec,
                producer_id=pid,
                producer_epoch=0 if pid >= 0 else -1,
                base_sequence=first,
            )
        )
        if pid >= 0:
            sequences[pid] = first + count
            played.producers[pid] = (offset, first, count)
        for at, (timestamp, key, value, extra) in enumerate(batch.records):
            moment = timestamp if step.append_ms < 0 else step.append_ms
            played.written.append(Record(offset + at, moment, key, value, extra))
        offset += count
    played.log.append(made, append_ms=step.append_ms)


def _clean(played: Played, step: Clean, now_ms: int) -> None:
    log = played.log
    before, headers_before, end_before = visible(log), [header for header, _ in log.batches()], log.end
    producers = {pid: ProducerLast(last[0], 0) for pid, last in played.producers.items()}
    log.clean(now_ms, retention_ms=RETENTION_MS, keys_max=step.keys_max, chunk=step.chunk, producers=producers)
    expected = naive(played, before, headers_before, log.cleaned, now_ms)
    played.rounds.append(
        Round(
            now_ms, log.cleaned, before, visible(log), expected, headers_before,
            [header for header, _ in log.batches()], end_before, log.end,
        )
    )  # fmt: skip


def naive(played: Played, before: list[Record], headers: list[BatchHeader], through: int, now_ms: int) -> list[Record]:
    """What a round up to `through` should leave of the records before it."""
    latest = {record.key: record.offset for record in played.written if record.offset < through}
    kept = []
    for record in before:
        if record.offset >= through:
            kept.append(record)
            continue
        if record.key is None or latest[record.key] != record.offset:
            continue
        batch = max(header.base_offset for header in headers if header.base_offset <= record.offset)
        if record.value is None:
            if played.horizons.get(batch, now_ms + 1) <= now_ms:
                continue
            played.offered.setdefault(record.offset, now_ms)
        kept.append(record)
    for record in kept:
        if record.value is None and record.offset < through:
            batch = max(header.base_offset for header in headers if header.base_offset <= record.offset)
            played.horizons.setdefault(batch, now_ms + RETENTION_MS)
    return kept


def visible(log: MemoryLog) -> list[Record]:
    """Records as they would be served: with the append time of their extent."""
    times = {
        offset: extent.append_ms
        for extent, _ in log.stored
        if extent.append_ms >= 0
        for offset in range(extent.offset_first, extent.offset_next)
    }
    return [record._replace(timestamp=times.get(record.offset, record.timestamp)) for record in log.records()]


# -- the guarantees ----------------------------------------------------------------------------------------------------


def check_latest_kept(played: Played) -> None:
    """C1: below the point that is compacted the latest record of each key is there, unless it is a tombstone."""
    for done in played.rounds:
        latest = {one.key: one for one in played.written if one.offset < done.through and one.key is not None}
        there = {record.offset for record in done.after}
        for record in latest.values():
            assert record.value is None or record.offset in there, f"the latest of {record.key!r} is gone"
        for record in played.written:
            if done.through <= record.offset < done.end_before:
                assert record.offset in there, f"offset {record.offset} isn't compacted yet and is gone"


def check_tombstones_seen(played: Played) -> None:
    """C2: a tombstone that is the latest of its key stays for RETENTION_MS from the first round that met it."""
    for done in played.rounds:
        latest = {one.key: one for one in played.written if one.offset < done.through and one.key is not None}
        there = {record.offset for record in done.after}
        for record in latest.values():
            first = played.offered.get(record.offset)
            if record.value is None and first is not None and done.now_ms < first + RETENTION_MS:
                assert record.offset in there, f"the tombstone at {record.offset} is gone too early"


def check_records_unchanged(played: Played) -> None:
    """C3: what is left is what was written, in order."""
    written = {record.offset: record for record in played.written}
    for done in played.rounds:
        assert done.after == [written[record.offset] for record in done.after]
        assert [one.offset for one in done.after] == sorted({one.offset for one in done.after})


def check_end_unchanged(played: Played) -> None:
    """C4: the log ends where it ended, its batches follow one another without a hole, and none moved."""
    for done in played.rounds:
        assert done.end_after == done.end_before
        offset = done.headers_before[0].base_offset
        ranges = {(one.base_offset, one.last_offset_delta) for one in done.headers_before}
        for header in done.headers_after:
            assert header.base_offset == offset, "a batch doesn't follow the one before it"
            is_filler = header.record_count == 0 and header.producer_id < 0
            assert is_filler or (header.base_offset, header.last_offset_delta) in ranges
            offset = header.base_offset + header.last_offset_delta + 1
        assert offset == done.end_before


def check_sequences_kept(played: Played) -> None:
    """C5: the last batch of each producer is there with its sequence, and ends where it ended."""
    headers = {header.base_offset: header for header, _ in played.log.batches()}
    for producer_id, (offset, sequence, count) in played.producers.items():
        header = headers.get(offset)
        assert header is not None, f"the last batch of producer {producer_id} is gone"
        found = (header.producer_id, header.base_sequence, header.last_offset_delta + 1)
        assert found == (producer_id, sequence, count)
        assert header.record_count > 0 or header.batch_length == HEADER_BYTES - 12


def check_exact(played: Played) -> None:
    """Each round leaves exactly what it should: nothing that should be gone is left either."""
    for done in played.rounds:
        assert done.after == done.expected
