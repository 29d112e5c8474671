"""Key compaction against a naive model: its guarantees C1 to C5 one by one, and that each check can fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from broker.compaction import keyed_filter, keyed_rewrite
from broker.compaction.keyed_filter import BatchFilter
from broker.compaction.keyed_index import KeyIndex
from tests.keyed_model import (
    RETENTION_MS,
    Append,
    Clean,
    NewBatch,
    Played,
    Step,
    check_end_unchanged,
    check_exact,
    check_latest_kept,
    check_records_unchanged,
    check_sequences_kept,
    check_tombstones_seen,
    histories,
    play,
)

EXAMPLES = 50


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_c1_the_latest_value_of_each_key_is_never_lost(steps: list[Step]) -> None:
    check_latest_kept(play(steps))


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_c2_a_reader_from_the_start_sees_every_tombstone_for_its_time(steps: list[Step]) -> None:
    check_tombstones_seen(play(steps))


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_c3_what_is_left_keeps_offset_time_and_headers(steps: list[Step]) -> None:
    check_records_unchanged(play(steps))


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_c4_the_log_ends_where_it_ended_and_has_no_hole(steps: list[Step]) -> None:
    check_end_unchanged(play(steps))


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_c5_the_last_sequence_of_each_producer_is_kept(steps: list[Step]) -> None:
    check_sequences_kept(play(steps))


@given(histories)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_round_leaves_exactly_what_kafka_would(steps: list[Step]) -> None:
    check_exact(play(steps))


# -- each check has teeth ----------------------------------------------------------------------------------------------


def _batch(*records: tuple[bytes, bytes | None], producer_id: int = -1) -> NewBatch:
    return NewBatch(tuple((5, key, value, ()) for key, value in records), 0, producer_id)


HISTORY: list[Step] = [
    Append((_batch((b"a", b"1"), (b"b", b"1"), producer_id=7), _batch((b"a", b"2"), (b"c", None))), -1),
    Append((_batch((b"a", b"3")), _batch((b"b", b"2"))), -1),
    Clean(1, 100, 2),
    Clean(1, 100, 2),
    Clean(RETENTION_MS, 100, 2),
]


def _never_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyIndex, "is_latest", lambda *_: False)


def _horizon_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_filter, "_horizon", lambda header: 0)


def _stamp_without_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_filter, "moved", lambda payload, one, by_ms: payload[one.first : one.end])


def _no_fillers(monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: object, offset_next: int) -> None:
        return None

    monkeypatch.setattr(keyed_rewrite._Output, "close", close)


def _producer_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BatchFilter, "_is_last_of_producer", lambda *_: False)


def _everything_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyIndex, "is_latest", lambda *_: True)


@pytest.mark.parametrize(
    ("check", "sabotage"),
    [
        (check_latest_kept, _never_latest),
        (check_tombstones_seen, _horizon_ignored),
        (check_records_unchanged, _stamp_without_moving),
        (check_end_unchanged, _no_fillers),
        (check_sequences_kept, _producer_forgotten),
        (check_exact, _everything_latest),
    ],
)
def test_a_guarantee_that_is_broken_on_purpose_is_noticed(
    check: Callable[[Played], None], sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(play(HISTORY))
    sabotage(monkeypatch)
    with pytest.raises(AssertionError):
        check(play(HISTORY))
