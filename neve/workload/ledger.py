"""What is remembered of messages that were judged: a digest per range of offsets, and how far each producer had come. Pure.

A round's messages are forgotten once they are judged, so that a run of hours needs no more memory than one of a minute. Left
of them is enough to see that the log changed behind them (the audit at the end), and that one of them was written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from neve.simulation.history import History, Key, Message, Read

UNSETTLED_MAX = 100_000
"""Messages of unknown outcome that are remembered singly; older ones are forgotten first."""


class Range(NamedTuple):
    """Offsets `[offset_first, offset_next)` as they were read in their round."""

    offset_first: int
    offset_next: int
    records: int
    digest: bytes


def digest_of(records: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    """(count, digest) of (offset, value) in the order given."""
    running, count = blake2b(digest_size=16), 0
    for offset, value in records:
        running.update(b"%d:%d:" % (offset, len(value)))
        running.update(value)
        count += 1
    return count, running.digest()


@dataclass
class Ledger:
    """All judged rounds of one cohort."""

    ranges: dict[Key, list[Range]] = field(default_factory=dict)
    unsettled: dict[bytes, Message] = field(default_factory=dict)
    """Nobody knows yet whether these are written: they may be read in any later round."""

    def next_offset(self, key: Key) -> int:
        """The offset behind everything remembered."""
        ranges = self.ranges.get(key)
        return ranges[-1].offset_next if ranges else 0

    def carry(self, history: History) -> None:
        """Tell a round of the messages that may still turn up in it."""
        for value, message in self.unsettled.items():
            if value not in history.messages:
                history.sent(message)

    def close(self, history: History) -> None:
        """Remember a round that is over and was read to its end."""
        for key in history.append_time:
            self._range(key, history)
        settled = {value for ack in history.acks for value in ack.values}
        settled |= {value for refusal in history.refusals for value in refusal.values}
        settled |= {record.value for poll in history.polls for record in poll.records}
        left = [message for value, message in history.messages.items() if value not in settled]
        self.unsettled = {message.value: message for message in left[-UNSETTLED_MAX:]}

    def _range(self, key: Key, history: History) -> None:
        first = self.next_offset(key)
        found = {
            record.offset: record.value
            for poll in history.polls
            if poll.key == key
            for record in poll.records
            if record.offset >= first
        }
        if found:
            count, digest = digest_of(sorted(found.items()))
            self.ranges.setdefault(key, []).append(Range(first, max(found) + 1, count, digest))


def written_again(history: History) -> list[tuple[str, str]]:
    """Values read that belong to an earlier round, where their outcome was known: duplicates over rounds.

    They are told to the history as sent, so that they aren't taken for values that nobody sent.
    """
    lowest: dict[tuple[str, Key], int] = {}
    for message in history.messages.values():
        line = (message.producer, message.key)
        lowest[line] = min(lowest.get(line, message.number), message.number)
    found: dict[bytes, tuple[Key, Read]] = {}
    for poll in history.polls:
        for record in poll.records:
            if record.value not in history.messages:
                found.setdefault(record.value, (poll.key, record))
    told = []
    for value, (key, record) in found.items():
        known = parsed(value, key, record.timestamp)
        if known is not None and known.number < lowest.get((known.producer, key), known.number + 1):
            history.sent(known)
            told.append(("duplicate", f"{value!r} of an earlier round was read again at {key} offset {record.offset}"))
    return told


def parsed(value: bytes, key: Key, timestamp: int) -> Message | None:
    """The message that a value of the simulation's producers names; None where it isn't one sent to `key`."""
    parts = value.split(b"|")
    if len(parts) != 5 or (parts[1].decode("ascii", "replace"), parts[2]) != (key[0], b"%d" % key[1]):
        return None
    if not parts[3].isdigit():
        return None
    return Message(key, value, parts[0].decode("ascii", "replace"), int(parts[3]), timestamp, False, False)
