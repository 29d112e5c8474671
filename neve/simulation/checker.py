"""What a history may not contain: one rule per anomaly, each counting how many facts it judged.

The definitions follow Jepsen's Kafka workload: `lost_write`, `duplicate`, `inconsistent_offsets`, `poll_skip`,
`nonmonotonic_poll`, `unseen`; its skipped sends are `sequence_hole` here, its non-monotonic sends `reordered`, and its aborted
read, as long as there are no transactions, is `refused_read`. Added are what object-storage brokers got wrong: the answer with
offset 0, a watermark or a log start that goes back, a false OFFSET_OUT_OF_RANGE, a short ListOffsets. Records below the log
start that the database has at the end may be gone; what lies at or above it must be there. The simulation and `neve workload`
are judged by the same rules.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from neve.simulation.group_rules import GROUP_RULES, NEED_LANDINGS, GroupIndex
from neve.simulation.history import Ack, History, Key, Message, Poll

LATEST, EARLIEST = -1, -2
OFFSET_OUT_OF_RANGE = 1


class Finding(NamedTuple):
    """One broken promise."""

    rule: str
    text: str


@dataclass
class Index:
    """What every rule looks things up in, built once per history."""

    history: History
    judged: dict[str, int]
    """Facts each rule looked at."""
    at: dict[Key, dict[int, dict[bytes, None]]]
    """key -> offset -> values seen or promised there (dicts as ordered sets)."""
    places: dict[bytes, dict[tuple[Key, int], None]]
    """value -> where it was seen or promised."""
    read: dict[bytes, dict[int, None]]
    """value -> offsets it was read at."""
    acked: dict[bytes, tuple[Ack, int]]
    """value -> its last acknowledgement and the offset that promises."""
    offsets: dict[Key, list[int]]
    """key -> the offsets known that must still be there, sorted."""
    bound: dict[Key, int]
    """key -> the greatest first offset of a value read there: readers have passed everything up to it."""

    @classmethod
    def of(cls, history: History) -> Index:
        """Build the index."""
        index = cls(history, dict.fromkeys(RULES, 0), {}, {}, {}, {}, {}, {})
        index.at = {key: {} for key in history.append_time}
        for ack in history.acks:
            for delta, value in enumerate(ack.values):
                index.acked[value] = (ack, ack.offset + delta)
                if ack.offset >= 0:
                    index._place(ack.key, ack.offset + delta, value)
        for poll in history.polls:
            for record in poll.records:
                index._place(poll.key, record.offset, record.value)
                index.read.setdefault(record.value, {})[record.offset] = None
        index.offsets = {
            key: sorted(offset for offset in at if offset >= history.start(key)) for key, at in index.at.items()
        }
        for value, read_at in index.read.items():
            message = history.messages.get(value)
            if message is not None:
                index.bound[message.key] = max(index.bound.get(message.key, -1), min(read_at))
        return index

    def _place(self, key: Key, offset: int, value: bytes) -> None:
        self.at.setdefault(key, {}).setdefault(offset, {})[value] = None
        self.places.setdefault(value, {})[(key, offset)] = None

    def first_offset(self, message: Message) -> int | None:
        """The least offset a message was seen or promised at, on its own key."""
        offsets = [offset for key, offset in self.places.get(message.value, ()) if key == message.key]
        return min(offsets) if offsets else None


def lost_write(index: Index) -> Iterator[str]:
    """Acknowledged at an offset that readers have passed, and nobody read it."""
    for value, (ack, offset) in index.acked.items():
        if offset < index.history.start(ack.key):
            continue
        index.judged["lost_write"] += 1
        if value not in index.read and offset <= index.bound.get(ack.key, -1):
            yield f"{value!r} acknowledged at {ack.key} offset {offset} by {ack.agent} was never read"


def unseen(index: Index) -> Iterator[str]:
    """Acknowledged, and not read by anyone after everything was healed and read to the end."""
    for value, (ack, offset) in index.acked.items():
        if offset < index.history.start(ack.key):
            continue
        index.judged["unseen"] += 1
        if value not in index.read and offset > index.bound.get(ack.key, -1):
            yield f"{value!r} acknowledged at {ack.key} offset {offset} was not seen at the end"


def duplicate(index: Index) -> Iterator[str]:
    """An idempotent producer's value at two offsets."""
    for value, offsets in index.read.items():
        message = index.history.messages.get(value)
        if message is None or not message.idempotent:
            continue
        index.judged["duplicate"] += 1
        if len(offsets) > 1:
            yield f"{value!r} of {message.producer} was read at offsets {sorted(offsets)} of {message.key}"


def inconsistent_offsets(index: Index) -> Iterator[str]:
    """One offset with two values."""
    for key, offsets in index.at.items():
        for offset, values in offsets.items():
            index.judged["inconsistent_offsets"] += 1
            if len(values) > 1:
                yield f"{key} offset {offset} holds {list(values)}"


def never_written(index: Index) -> Iterator[str]:
    """A value that nobody sent to this partition."""
    for poll in index.history.polls:
        for record in poll.records:
            index.judged["never_written"] += 1
            message = index.history.messages.get(record.value)
            if message is None:
                yield f"{poll.key} offset {record.offset}: nobody sent {record.value[:80]!r}"
            elif message.key != poll.key:
                yield f"{poll.key} offset {record.offset}: {record.value!r} was sent to {message.key}"


def refused_read(index: Index) -> Iterator[str]:
    """A value whose producer was told that it is not written."""
    for refusal in index.history.refusals:
        for value in refusal.values:
            index.judged["refused_read"] += 1
            if value in index.read:
                yield f"{value!r} was refused with error {refusal.error} and read at {sorted(index.read[value])}"


def reordered(index: Index) -> Iterator[str]:
    """A producer's messages on one partition in another order than it sent them."""
    last: dict[tuple[str, Key], tuple[int, int]] = {}
    for message in index.history.messages.values():
        offset = index.first_offset(message) if message.ordered else None
        if offset is None:
            continue
        index.judged["reordered"] += 1
        known = last.get((message.producer, message.key))
        if known is not None and offset < known[1]:
            yield f"{message.producer} on {message.key}: number {known[0]} at {known[1]}, number {message.number} at {offset}"
        last[(message.producer, message.key)] = (message.number, offset)


def sequence_hole(index: Index) -> Iterator[str]:
    """A later message of an idempotent producer was read, an earlier one of the same partition is missing.

    One that may lie below the log start is no hole: there must be one before it that lies at or above it.
    """
    refused = {value: None for refusal in index.history.refusals for value in refusal.values}
    missing: dict[tuple[str, Key], Message] = {}
    reached: dict[tuple[str, Key], int] = {}
    for message in index.history.messages.values():
        if not message.idempotent or message.value in refused:
            continue
        index.judged["sequence_hole"] += 1
        line = (message.producer, message.key)
        if message.value not in index.read:
            if reached.get(line, -1) >= index.history.start(message.key) - 1:
                missing.setdefault(line, message)
        elif line in missing:
            yield f"{message.producer} on {message.key}: {message.value!r} is there, {missing[line].value!r} isn't"
        else:
            reached[line] = max(index.read[message.value])


def poll_skip(index: Index) -> Iterator[str]:
    """A consumer that reads one partition on and on left records out."""
    for poll, before, offset in _steps(index):
        index.judged["poll_skip"] += 1
        if _delta(index, poll.key, before, offset) > 1:
            yield f"{poll.process} on {poll.key} went from {before} to {offset}"


def nonmonotonic_poll(index: Index) -> Iterator[str]:
    """A consumer that reads one partition on and on went back."""
    for poll, before, offset in _steps(index):
        index.judged["nonmonotonic_poll"] += 1
        if offset <= before:
            yield f"{poll.process} on {poll.key} went from {before} back to {offset}"


def _steps(index: Index) -> Iterator[tuple[Poll, int, int]]:
    last: dict[tuple[str, Key], int] = {}
    for poll in index.history.polls:
        line = (poll.process, poll.key)
        for record in poll.records:
            yield poll, last.get(line, poll.asked - 1), record.offset
            last[line] = record.offset


def _delta(index: Index, key: Key, before: int, offset: int) -> int:
    """How many known offsets lie in (before, offset]: gaps that nobody knows of are legal."""
    known = index.offsets[key]
    return bisect_right(known, offset) - bisect_right(known, before)


def ack_offset(index: Index) -> Iterator[str]:
    """The offset in a produce answer isn't where the value was read."""
    for value, (ack, offset) in index.acked.items():
        if value not in index.read or ack.offset == 0 or offset < index.history.start(ack.key):
            continue
        index.judged["ack_offset"] += 1
        if offset not in index.read[value]:
            yield f"{value!r} acknowledged at {offset} by {ack.agent}, read at {sorted(index.read[value])} of {ack.key}"


def zero_offset(index: Index) -> Iterator[str]:
    """The produce answer said offset 0 and the value is elsewhere: a class of its own, others' most frequent bug."""
    for value, (ack, offset) in index.acked.items():
        if ack.offset != 0 or value not in index.read or offset < index.history.start(ack.key):
            continue
        index.judged["zero_offset"] += 1
        if offset not in index.read[value]:
            yield f"{value!r} acknowledged at a spurious 0 by {ack.agent}, read at {sorted(index.read[value])} of {ack.key}"


def spurious_success(index: Index) -> Iterator[str]:
    """A produce answer without error that can't be one: no offset, or the wrong kind of append time."""
    for ack in index.history.acks:
        index.judged["spurious_success"] += 1
        if ack.offset < 0 or ack.log_start < 0:
            yield f"{ack.agent} acknowledged {ack.key} at offset {ack.offset}, log start {ack.log_start}"
        elif (ack.append_ms >= 0) != index.history.append_time[ack.key]:
            yield f"{ack.agent} acknowledged {ack.key} offset {ack.offset} with append time {ack.append_ms}"


def watermark_back(index: Index) -> Iterator[str]:
    """The high watermark went back on one connection."""
    yield from _backward(index, "watermark_back", "high watermark", lambda poll: poll.high_watermark)


def log_start_back(index: Index) -> Iterator[str]:
    """The log start went back on one connection."""
    yield from _backward(index, "log_start_back", "log start", lambda poll: poll.log_start)


def _backward(index: Index, rule: str, what: str, mark: Callable[[Poll], int]) -> Iterator[str]:
    last: dict[tuple[str, Key], int] = {}
    for poll in index.history.polls:
        if poll.error:
            continue
        index.judged[rule] += 1
        line = (poll.connection, poll.key)
        before, now = last.get(line, 0), mark(poll)
        if now < before:
            yield f"{poll.connection} on {poll.key}: the {what} went from {before} back to {now}"
        last[line] = now


def beyond_watermark(index: Index) -> Iterator[str]:
    """Records at or behind the high watermark of the same answer."""
    for poll in index.history.polls:
        if not poll.records:
            continue
        index.judged["beyond_watermark"] += 1
        if poll.records[-1].offset >= poll.high_watermark:
            yield f"{poll.connection} on {poll.key}: offset {poll.records[-1].offset} beyond {poll.high_watermark}"


def false_out_of_range(index: Index) -> Iterator[str]:
    """OFFSET_OUT_OF_RANGE for an offset that was known written before the request was sent, and wasn't deleted (it would
    reset a consumer)."""
    for poll in index.history.polls:
        index.judged["false_out_of_range"] += 1
        if poll.error == OFFSET_OUT_OF_RANGE and index.history.start(poll.key) <= poll.asked <= poll.floor:
            yield f"{poll.connection} on {poll.key}: offset {poll.asked} out of range, {poll.floor} was known"


def short_listing(index: Index) -> Iterator[str]:
    """ListOffsets latest below what was acknowledged before it was asked, or earliest below what was told before, or above
    what was deleted by the end."""
    for listing in index.history.listings:
        if listing.error:
            continue
        index.judged["short_listing"] += 1
        if listing.which == LATEST and listing.offset < listing.floor:
            yield f"{listing.connection} on {listing.key}: latest {listing.offset}, {listing.floor} was known"
        start = index.history.start(listing.key)
        if listing.which == EARLIEST and not listing.floor <= listing.offset <= start:
            yield (
                f"{listing.connection} on {listing.key}: earliest {listing.offset}, {listing.floor} was known, "
                f"{start} is the log start at the end"
            )


def stale_log_start(index: Index) -> Iterator[str]:
    """An agent answers a Fetch with a log start below one that it has told before."""
    for poll in index.history.polls:
        if poll.error or not poll.start_floor:
            continue
        index.judged["stale_log_start"] += 1
        if poll.log_start < poll.start_floor:
            yield f"{poll.connection} on {poll.key}: log start {poll.log_start}, it had told {poll.start_floor}"


def deletion_undone(index: Index) -> Iterator[str]:
    """DeleteRecords was answered, and the log start is or was below what it said or was asked for."""
    for deletion in index.history.deletions:
        index.judged["deletion_undone"] += 1
        start = index.history.start(deletion.key)
        if not max(deletion.asked, deletion.floor) <= deletion.log_start <= start:
            yield (
                f"{deletion.agent} on {deletion.key}: up to {deletion.asked}, log start {deletion.log_start} was told, "
                f"{deletion.floor} before, {start} at the end"
            )


def deleted_too_much(index: Index) -> Iterator[str]:
    """The log start at the end is beyond everything that anybody wanted to delete."""
    for key, start in index.history.starts.items():
        if key in index.history.unbounded:
            continue
        index.judged["deleted_too_much"] += 1
        if start > index.history.targets.get(key, 0):
            yield f"{key}: log start {start}, nobody asked for more than {index.history.targets.get(key, 0)}"


def timestamps(index: Index) -> Iterator[str]:
    """CreateTime is what the producer sent; LogAppendTime is what the answer said and never goes back along offsets."""
    seen: dict[Key, dict[int, int]] = defaultdict(dict)
    for poll in index.history.polls:
        for record in poll.records:
            index.judged["timestamps"] += 1
            message = index.history.messages.get(record.value)
            if not index.history.append_time[poll.key]:
                if message is not None and message.timestamp != record.timestamp:
                    yield f"{poll.key} offset {record.offset}: time {record.timestamp}, sent {message.timestamp}"
            elif seen[poll.key].setdefault(record.offset, record.timestamp) != record.timestamp:
                yield f"{poll.key} offset {record.offset}: append times {seen[poll.key][record.offset]}, {record.timestamp}"
    yield from _append_times(index, seen)


def _append_times(index: Index, seen: dict[Key, dict[int, int]]) -> Iterator[str]:
    for key, times in seen.items():
        before = -1
        for offset in sorted(times):
            if times[offset] < before:
                yield f"{key} offset {offset}: append time {times[offset]} after {before}"
            before = times[offset]
    for ack, offset in index.acked.values():
        got = seen.get(ack.key, {}).get(offset)
        if ack.append_ms >= 0 and got is not None and got != ack.append_ms:
            yield f"{ack.key} offset {offset}: append time {got}, acknowledged {ack.append_ms}"


def corrupt_batch(index: Index) -> Iterator[str]:
    """A batch was served whose CRC is wrong."""
    for poll in index.history.polls:
        index.judged["corrupt_batch"] += poll.batches
        if poll.corrupt:
            yield f"{poll.connection} on {poll.key} from {poll.asked}: {poll.corrupt} of {poll.batches} batches are corrupt"


def refused_in_order(index: Index) -> Iterator[str]:
    """An idempotent producer that did everything right was told that its sequence or epoch is wrong."""
    index.judged["refused_in_order"] += sum(1 for message in index.history.messages.values() if message.idempotent)
    for refusal in index.history.order_refusals:
        yield f"{refusal.producer} was told {refusal.error} on {refusal.key} by {refusal.agent}"


RULES: dict[str, Callable[[Index], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        lost_write,
        unseen,
        duplicate,
        inconsistent_offsets,
        never_written,
        refused_read,
        reordered,
        sequence_hole,
        poll_skip,
        nonmonotonic_poll,
        ack_offset,
        zero_offset,
        spurious_success,
        watermark_back,
        log_start_back,
        beyond_watermark,
        false_out_of_range,
        short_listing,
        stale_log_start,
        deletion_undone,
        deleted_too_much,
        timestamps,
        corrupt_batch,
        refused_in_order,
    )
}
FINDINGS_PER_RULE_MAX = 5


@dataclass
class Verdict:
    """Findings of one history (at most five per rule) and the number of facts each rule judged."""

    findings: list[Finding]
    judged: dict[str, int]


def check(history: History) -> Verdict:
    """Hold a history against every rule."""
    index = Index.of(history)
    findings: list[Finding] = []
    for name, rule in RULES.items():
        _find(findings, name, rule(index))
    if not history.groups.synced and not history.groups.settlings:
        return Verdict(findings, index.judged)
    groups = GroupIndex.of(history, index.offsets)
    for name, group_rule in GROUP_RULES.items():
        if history.groups.landings_known or name not in NEED_LANDINGS:
            _find(findings, name, group_rule(groups))
    return Verdict(findings, index.judged | groups.judged)


def _find(findings: list[Finding], name: str, texts: Iterator[str]) -> None:
    for count, text in enumerate(texts):
        if count >= FINDINGS_PER_RULE_MAX:
            return
        findings.append(Finding(name, text))
