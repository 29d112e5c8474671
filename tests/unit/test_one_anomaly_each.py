"""The rules of Jepsen's Kafka workload, each with the smallest history that breaks it: this rule finds it, and no other does."""

from __future__ import annotations

import pytest

from neve.simulation.checker import check
from neve.simulation.history import Ack, History, Message, Poll, Read, Refusal

KEY, OTHER = ("t", 0), ("t", 1)


class Told:
    """A history written down by hand. Values are single letters; the producer isn't idempotent unless said."""

    def __init__(self) -> None:
        self.history = History({KEY: False, OTHER: False})
        self.sent = 0

    def send(self, values: str, *, idempotent: bool = False, ordered: bool = False, producer: str = "p") -> Told:
        """One producer sends these, one after the other."""
        for value in values:
            self.history.sent(Message(KEY, value.encode(), producer, self.sent, 7, idempotent, ordered))
            self.sent += 1
        return self

    def ack(self, values: str, offset: int) -> Told:
        """They were acknowledged together."""
        self.history.acked(Ack(0.0, "agent", KEY, tuple(v.encode() for v in values), offset, -1, 0))
        return self

    def poll(
        self, values: str, offset: int, *, who: str = "c", high: int = 100, start: int = 0, asked: int | None = None
    ) -> Told:
        """They were read from `offset` on; a dot is an offset without a record."""
        found = tuple(Read(offset + at, v.encode(), 7) for at, v in enumerate(values) if v != ".")
        first = offset if asked is None else asked
        self.history.polled(Poll(0.0, who, who, KEY, first, 0, high, start, found, 0))
        return self

    def found(self) -> list[str]:
        return [finding.rule for finding in check(self.history).findings]


def test_a_clean_history() -> None:
    told = Told().send("abc", idempotent=True, ordered=True).ack("ab", 0).ack("c", 2).poll("ab", 0).poll("c", 2)
    assert told.poll("abc", 0, who="again").found() == []


def test_lost_write() -> None:
    """b was acknowledged at 1; readers have passed it."""
    assert Told().send("abc").ack("abc", 0).poll("a", 0).poll("c", 2, who="d").found() == ["lost_write"]


def test_unseen() -> None:
    """c was acknowledged, and nobody read on to the end."""
    assert Told().send("abc").ack("abc", 0).poll("ab", 0).found() == ["unseen"]


def test_duplicate() -> None:
    """An idempotent producer's b stands twice in the log."""
    assert Told().send("abc", idempotent=True).poll("abbc", 0).found() == ["duplicate"]


def test_inconsistent_offsets() -> None:
    """Two readers saw different values at offset 0."""
    assert Told().send("ab").poll("a", 0, who="c").poll("b", 0, who="d").found() == ["inconsistent_offsets"]


def test_never_written() -> None:
    assert Told().send("a").poll("ax", 0).found() == ["never_written"]


def test_never_written_to_this_partition() -> None:
    told = Told().send("a")
    told.history.sent(Message(OTHER, b"x", "q", 0, 7, False, False))
    assert told.poll("ax", 0).found() == ["never_written"]


def test_aborted_read_of_a_refused_write() -> None:
    told = Told().send("ab").poll("ab", 0)
    told.history.refusals.append(Refusal(0.0, KEY, (b"b",), 87))
    assert told.found() == ["refused_read"]


def test_skipped_send() -> None:
    """An idempotent producer's b is missing between a and c."""
    assert Told().send("abc", idempotent=True).poll("ac", 0).found() == ["sequence_hole"]


def test_non_monotonic_send() -> None:
    """The log has b before a."""
    assert Told().send("ab", ordered=True).poll("ba", 0).found() == ["reordered"]


def test_poll_skip_within_a_poll() -> None:
    assert Told().send("abc").poll("abc", 0, who="d").poll("a.c", 0).found() == ["poll_skip"]


def test_poll_skip_between_polls() -> None:
    told = Told().send("abc").poll("abc", 0, who="d").poll("a", 0).poll("c", 2, asked=1)
    assert told.found() == ["poll_skip"]


def test_a_gap_that_nobody_saw_a_record_in_is_no_skip() -> None:
    """A transaction's marker takes an offset, and has no record."""
    assert Told().send("ac").poll("a.c", 0).found() == []


def test_non_monotonic_poll() -> None:
    assert Told().send("ab").poll("ab", 0).poll("b", 1, asked=2).found() == ["nonmonotonic_poll"]


def test_high_watermark_back() -> None:
    assert Told().send("a").poll("a", 0, high=5).poll("", 1, high=4).found() == ["watermark_back"]


def test_log_start_back() -> None:
    assert Told().send("ab").poll("b", 1, start=1).poll("", 2, start=0).found() == ["log_start_back"]


def test_watermarks_of_two_connections_are_their_own() -> None:
    assert Told().send("a").poll("a", 0, high=5, who="c").poll("a", 0, high=4, who="d").found() == []


@pytest.mark.parametrize(("offset", "rule"), [(3, "ack_offset"), (0, "zero_offset")])
def test_an_acknowledgement_that_names_another_offset(offset: int, rule: str) -> None:
    """The value is read at 7; what the answer says is nothing's place, so no other rule has a say."""
    told = Told().send("a").ack("a", offset).poll("a", 7)
    assert told.found() == [rule]
