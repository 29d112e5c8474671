"""Parts of key compaction by themselves: the index's bound, markers, batches that can't be read, raw records."""

from __future__ import annotations

import pytest

from broker.compaction.keyed_filter import BatchFilter
from broker.compaction.keyed_index import KeyIndex, fingerprint
from broker.compaction.keyed_markers import AbortedTransaction, TransactionPass
from broker.compaction.keyed_records import moved, scan_records
from broker.compaction.keyed_rewrite import filler
from broker.fetch.spans import is_filler
from schemas.kafka.batch import CONTROL_BIT, HEADER_BYTES, TRANSACTIONAL_BIT, BatchHeader, read_header
from schemas.kafka.records import NewRecord, Record, RecordError, build_batch, decode_batch, wrap_payload

ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def test_an_index_takes_whole_batches_up_to_its_bound() -> None:
    index = KeyIndex(10, 3)
    assert index.add([(b"below", 9), (b"a", 10), (b"b", 11), (None, 12)], 13)
    assert index.add([(b"a", 13), (b"c", 14)], 15), "one of them is known"
    assert not index.add([(b"c", 15), (b"d", 16)], 17)
    assert (len(index), index.offset_next, index.full) == (3, 15, True)
    assert index.is_latest(b"a", 13)
    assert not index.is_latest(b"a", 12)
    assert index.is_latest(b"c", 14), "nothing of the batch that didn't fit is known"
    assert index.is_latest(b"below", 9)


def test_a_batch_with_more_keys_than_the_bound_is_taken_when_it_is_the_first() -> None:
    index = KeyIndex(0, 2)
    assert index.add([(b"%d" % at, at) for at in range(5)], 5)
    assert not index.add([(b"x", 5)], 6)


def test_keys_are_told_apart_by_all_their_bytes() -> None:
    keys = [b"", b"a", b"k" * 16, b"k" * 17, b"k" * 1000, b"k" * 999 + b"j", fingerprint(b"k" * 17)]
    assert len({fingerprint(key) for key in keys}) == len(keys)


def header(offset: int, count: int, *, producer_id: int = 7, control: bool = False) -> BatchHeader:
    bits = TRANSACTIONAL_BIT | (CONTROL_BIT if control else 0)
    batch = wrap_payload(b"", base_offset=offset, last_offset_delta=count - 1, producer_id=producer_id, attributes=bits)
    return read_header(batch)


def test_a_marker_is_spent_when_no_data_of_its_transaction_was_met() -> None:
    one = TransactionPass([AbortedTransaction(7, 3, 6)])
    assert not one.is_aborted(header(0, 2)), "an earlier transaction of the same producer"
    assert not one.is_spent(header(2, 1, control=True), COMMIT)
    assert one.is_aborted(header(3, 2))
    again = one.copy()
    assert not one.is_spent(header(6, 1, control=True), ABORT)
    assert one.is_spent(header(9, 1, control=True), COMMIT), "its data is gone"
    assert not again.is_spent(header(6, 1, control=True), ABORT), "a copy goes its own way"
    assert one.is_spent(header(10, 1, control=True), None), "it holds nothing any more"
    assert not one.is_spent(header(11, 1, control=True), b"\0\0\0\3"), "of an unknown kind"
    assert not one.is_spent(header(11, 1, control=True), b"\0"), "no marker at all"


def test_a_transaction_that_ended_in_front_of_the_pass_is_not_taken_for_a_later_one() -> None:
    one = TransactionPass([AbortedTransaction(7, 3, 6)])
    assert not one.is_aborted(header(10, 2))
    assert not one.is_spent(header(12, 1, control=True), COMMIT)


def test_markers_go_in_three_passes() -> None:
    marker = build_batch([NewRecord(5, ABORT, b"\0" * 6)], base_offset=4, producer_id=7, attributes=CONTROL_BIT | TRANSACTIONAL_BIT)  # fmt: skip
    data = build_batch([NewRecord(5, b"k", b"v")], base_offset=3, producer_id=7, attributes=TRANSACTIONAL_BIT)
    aborted = [AbortedTransaction(7, 3, 4)]

    def rules(now_ms: int, known: list[AbortedTransaction]) -> BatchFilter:
        index = KeyIndex(0, 10)
        index.add([], 10)
        return BatchFilter(index, now_ms, 1_000, 1 << 20, transactions=TransactionPass(known))

    first = rules(100, aborted)
    assert first.apply(memoryview(data)).data is None
    kept = first.apply(memoryview(marker))
    assert (kept.data, kept.changed) == (marker, False)
    stamped = rules(200, aborted).apply(memoryview(marker)).data
    assert stamped is not None
    assert decode_batch(stamped) == decode_batch(marker)
    assert read_header(stamped).base_timestamp == 1_200
    assert rules(1_199, aborted).apply(memoryview(stamped)).data == stamped
    assert rules(1_200, aborted).apply(memoryview(stamped)).data is None


@pytest.mark.parametrize(
    "damage",
    [
        wrap_payload(b"\x0c\0\0\0\1\1", record_count=1),
        wrap_payload(b"", record_count=3, last_offset_delta=2),
        wrap_payload(b"no zstd", attributes=4, record_count=1),
        wrap_payload(build_batch([NewRecord(1, b"k", b"v")] * 2)[HEADER_BYTES:], record_count=2, last_offset_delta=0),
    ],
)
def test_a_batch_that_cannot_be_read_stays_as_it_is(damage: bytes) -> None:
    index = KeyIndex(0, 10)
    index.add([(b"k", 5)], 10)
    rules = BatchFilter(index, 0, 0, 1 << 20)
    kept = rules.apply(memoryview(damage))
    assert (kept.data, kept.changed, rules.counts.batches_unreadable) == (damage, False, 1)


def test_records_are_moved_to_another_base_without_changing() -> None:
    rows = [NewRecord(50, b"k", None, ((b"h", b"i"),)), NewRecord(-1, None, b"v" * 300), NewRecord(2**62, b"", b"")]
    batch = build_batch(rows)
    payload = batch[HEADER_BYTES:]
    parts = [moved(payload, one, 2**61) for one in scan_records(payload, 3, 2)]
    other = wrap_payload(b"".join(parts), base_timestamp=50 + 2**61, record_count=3, last_offset_delta=2)
    assert decode_batch(other) == [Record(at, row[0], row[1], row[2], tuple(row[3])) for at, row in enumerate(rows)]


def test_raw_records_are_refused_where_the_decoder_refuses_them() -> None:
    batch = build_batch([NewRecord(5, b"key", b"value", ((b"h", None), (b"i", b"j"))), NewRecord(6, None, None)])
    payload = batch[HEADER_BYTES:]
    for at in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[at] ^= 1 << bit
            whole = wrap_payload(bytes(damaged), base_timestamp=5, record_count=2, last_offset_delta=1)
            try:
                expected = decode_batch(whole)
            except RecordError:
                with pytest.raises(RecordError):
                    scan_records(bytes(damaged), 2, 1)
                continue
            if [one.offset for one in expected] == [0, 1]:
                found = scan_records(bytes(damaged), 2, 1)
                assert [(one.key, one.has_value) for one in found] == [(r.key, r.value is not None) for r in expected]


def test_a_filler_is_told_from_a_producers_empty_batch() -> None:
    made = filler(10, 10 + 2**31)
    found = read_header(made)
    assert (found.base_offset, found.last_offset_delta, len(made)) == (10, 2**31 - 1, HEADER_BYTES)
    assert is_filler(found)
    assert not is_filler(read_header(wrap_payload(b"", producer_id=7, record_count=0)))
    assert decode_batch(made) == []
