"""Anomalies planted into a clean history, one kind per rule: the checker must find each of them.

A simulation run plants one into a copy of every seed's own history, so that "no findings" always stands beside "this rule
would have fired".
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

from neve.simulation.checker import OFFSET_OUT_OF_RANGE, RULES
from neve.simulation.group_anomalies import GROUP_PLANTS
from neve.simulation.history import Ack, History, Key, Listing, Message, OrderRefusal, Poll, Read, Refusal

Plant = Callable[[History, random.Random], bool]


def _reads(history: History, *, idempotent: bool = False) -> list[tuple[int, int]]:
    """(poll, record) positions of values that their producer has sent."""
    return [
        (at, within)
        for at, poll in enumerate(history.polls)
        for within, record in enumerate(poll.records)
        if record.value in history.messages and (not idempotent or history.messages[record.value].idempotent)
    ]


def _unread(history: History, value: bytes) -> None:
    for at, poll in enumerate(history.polls):
        if any(record.value == value for record in poll.records):
            history.polls[at] = poll._replace(records=tuple(each for each in poll.records if each.value != value))


def _replace_read(history: History, at: tuple[int, int], read: Read) -> None:
    poll = history.polls[at[0]]
    records = list(poll.records)
    records[at[1]] = read
    history.polls[at[0]] = poll._replace(records=tuple(records))


def _read_offsets(history: History) -> dict[Key, dict[int, bytes]]:
    found: dict[Key, dict[int, bytes]] = {}
    for poll in history.polls:
        for record in poll.records:
            found.setdefault(poll.key, {})[record.offset] = record.value
    return found


def _acked_places(history: History) -> list[tuple[Key, int, bytes]]:
    return [(ack.key, ack.offset + at, value) for ack in history.acks for at, value in enumerate(ack.values)]


def lost_write(history: History, rng: random.Random) -> bool:
    """An acknowledged value below the last one read is taken out of every poll."""
    last = {key: max(offsets) for key, offsets in _read_offsets(history).items()}
    places = [
        value for key, offset, value in _acked_places(history) if history.start(key) <= offset < last.get(key, -1)
    ]
    if places:
        _unread(history, rng.choice(places))
    return bool(places)


def unseen(history: History, rng: random.Random) -> bool:
    """The last acknowledged value of a partition is taken out of every poll."""
    offsets = _read_offsets(history)
    acked = {value for _key, _offset, value in _acked_places(history)}
    tails = [
        values[max(values)]
        for key, values in sorted(offsets.items())
        if values[max(values)] in acked and max(values) >= history.start(key)
    ]
    if tails:
        _unread(history, rng.choice(tails))
    return bool(tails)


def duplicate(history: History, rng: random.Random) -> bool:
    """A value is read once more at the end of its partition."""
    reads = _reads(history, idempotent=True)
    if not reads:
        return False
    at, within = rng.choice(reads)
    poll = history.polls[at]
    end = max(_read_offsets(history)[poll.key]) + 1
    again = poll.records[within]._replace(offset=end)
    history.polls.append(poll._replace(process="planted", asked=end, records=(again,), high_watermark=end + 1))
    return True


def inconsistent_offsets(history: History, rng: random.Random) -> bool:
    """Two values of one poll trade places."""
    polls = [at for at, poll in enumerate(history.polls) if len(poll.records) > 1]
    if not polls:
        return False
    at = rng.choice(polls)
    first, second = history.polls[at].records[:2]
    _replace_read(history, (at, 0), first._replace(value=second.value))
    _replace_read(history, (at, 1), second._replace(value=first.value))
    return True


def never_written(history: History, rng: random.Random) -> bool:
    """One byte of a value that was read is another."""
    reads = _reads(history)
    if not reads:
        return False
    at = rng.choice(reads)
    record = history.polls[at[0]].records[at[1]]
    _replace_read(history, at, record._replace(value=record.value[:-1] + bytes([record.value[-1] ^ 0x80])))
    return True


def refused_read(history: History, rng: random.Random) -> bool:
    """A value that was read is said to have been refused."""
    reads = _reads(history)
    if not reads:
        return False
    at = rng.choice(reads)
    poll = history.polls[at[0]]
    history.refusals.append(Refusal(poll.time, poll.key, (poll.records[at[1]].value,), 87))
    return True


def reordered(history: History, rng: random.Random) -> bool:
    """The producer sent two of its messages the other way round."""
    lines: dict[tuple[str, Key], list[Message]] = {}
    seen = {record.value for poll in history.polls for record in poll.records}
    for message in history.messages.values():
        if message.ordered and message.value in seen:
            lines.setdefault((message.producer, message.key), []).append(message)
    pairs = [line[:2] for _name, line in sorted(lines.items()) if len(line) > 1]
    if not pairs:
        return False
    first, second = rng.choice(pairs)
    swap = {first.value: second, second.value: first}
    history.messages = {(each := swap.get(value, message)).value: each for value, message in history.messages.items()}
    return True


def sequence_hole(history: History, rng: random.Random) -> bool:
    """A message that was never answered stands in the middle of what its producer sent."""
    reads = [at for at in _reads(history, idempotent=True) if not history.start(history.polls[at[0]].key)]
    if not reads:
        return False
    at = rng.choice(reads)
    found = history.messages[history.polls[at[0]].records[at[1]].value]
    hole = found._replace(value=b"planted:" + found.value)
    history.messages = {hole.value: hole, **history.messages}
    return True


def _forked(history: History, rng: random.Random) -> Poll | None:
    polls = [
        poll for poll in history.polls if len(poll.records) > 2 and poll.records[0].offset >= history.start(poll.key)
    ]
    return rng.choice(polls)._replace(process="planted") if polls else None


def poll_skip(history: History, rng: random.Random) -> bool:
    """A consumer gets the first and the third record of a poll, not the second."""
    poll = _forked(history, rng)
    if poll is not None:
        history.polls.append(poll._replace(asked=poll.records[0].offset, records=(poll.records[0], poll.records[2])))
    return poll is not None


def nonmonotonic_poll(history: History, rng: random.Random) -> bool:
    """A consumer gets the second record, then the first."""
    poll = _forked(history, rng)
    if poll is not None:
        history.polls.append(poll._replace(asked=poll.records[1].offset, records=(poll.records[1], poll.records[0])))
    return poll is not None


def _ack(history: History, rng: random.Random, *, zero: bool) -> Ack | None:
    read = {record.value for poll in history.polls for record in poll.records}
    found = [
        ack
        for ack in history.acks
        if ack.values[0] in read and ack.offset > 0 and not (zero and history.start(ack.key))
    ]
    if not found:
        return None
    ack = rng.choice(found)
    history.acks.remove(ack)
    history.acks.append(ack._replace(offset=0 if zero else ack.offset + 100_000))
    return ack


def ack_offset(history: History, rng: random.Random) -> bool:
    """An answer carries an offset that isn't the batch's."""
    return _ack(history, rng, zero=False) is not None


def zero_offset(history: History, rng: random.Random) -> bool:
    """An answer carries offset 0 instead of the batch's."""
    return _ack(history, rng, zero=True) is not None


def spurious_success(history: History, rng: random.Random) -> bool:
    """An answer says success and offset -1."""
    if history.acks:
        history.acks.append(rng.choice(history.acks)._replace(offset=-1))
    return bool(history.acks)


def watermark_back(history: History, rng: random.Random) -> bool:
    """A connection sees a lower high watermark than before."""
    polls = [poll for poll in history.polls if not poll.error and poll.high_watermark > 0]
    if polls:
        poll = rng.choice(polls)
        history.polls.append(poll._replace(records=(), high_watermark=poll.high_watermark - 1))
    return bool(polls)


def log_start_back(history: History, rng: random.Random) -> bool:
    """A connection sees a lower log start than before."""
    polls = [poll for poll in history.polls if not poll.error and poll.log_start > 0]
    if polls:
        poll = rng.choice(polls)
        history.polls.append(poll._replace(records=(), log_start=poll.log_start - 1))
    return bool(polls)


def beyond_watermark(history: History, rng: random.Random) -> bool:
    """Records come with a high watermark that doesn't cover them."""
    polls = [at for at, poll in enumerate(history.polls) if poll.records]
    if polls:
        at = rng.choice(polls)
        history.polls[at] = history.polls[at]._replace(high_watermark=history.polls[at].records[-1].offset)
    return bool(polls)


def false_out_of_range(history: History, rng: random.Random) -> bool:
    """A consumer is sent away from an offset that was known."""
    polls = [poll for poll in history.polls if poll.floor > 0 and poll.floor >= history.start(poll.key)]
    if polls:
        poll = rng.choice(polls)
        history.polls.append(
            poll._replace(asked=poll.floor, error=OFFSET_OUT_OF_RANGE, records=(), high_watermark=-1, log_start=-1)
        )
    return bool(polls)


def short_listing(history: History, rng: random.Random) -> bool:
    """ListOffsets is one behind what was acknowledged before."""
    keys = [(key, floor) for key, floor in sorted(history.floors.items()) if floor > 0]
    if keys:
        key, floor = rng.choice(keys)
        history.listings.append(Listing(0.0, "planted", key, -1, 0, floor - 1, floor))
    return bool(keys)


def stale_log_start(history: History, rng: random.Random) -> bool:
    """A fetch is answered with a log start from before a deletion that the same agent had answered."""
    polls = [poll for poll in history.polls if poll.start_floor and not poll.error]
    if polls:
        poll = rng.choice(polls)
        history.polls.append(poll._replace(connection="planted", records=(), log_start=poll.start_floor - 1))
    return bool(polls)


def deletion_undone(history: History, rng: random.Random) -> bool:
    """A deletion is answered that the database knows nothing of."""
    if history.deletions:
        deletion = rng.choice(history.deletions)
        told = history.start(deletion.key) + 1
        history.deletions.append(deletion._replace(asked=told, log_start=told))
    return bool(history.deletions)


def deleted_too_much(history: History, rng: random.Random) -> bool:
    """The log start ends up behind what anybody wanted."""
    keys = [key for key in sorted(history.starts) if key not in history.unbounded]
    if keys:
        key = rng.choice(keys)
        history.starts[key] = history.targets.get(key, 0) + 1
    return bool(keys)


def timestamps(history: History, rng: random.Random) -> bool:
    """A record is read with the time it had and, elsewhere, with a later one."""
    reads = _reads(history)
    if not reads:
        return False
    at, within = rng.choice(reads)
    poll = history.polls[at]
    record = poll.records[within]
    shifted = record._replace(timestamp=record.timestamp + 1)
    history.polls.append(poll._replace(process="planted", asked=record.offset, records=(shifted,)))
    return True


def corrupt_batch(history: History, rng: random.Random) -> bool:
    """One batch of a poll has a wrong CRC."""
    polls = [at for at, poll in enumerate(history.polls) if poll.records]
    if polls:
        at = rng.choice(polls)
        history.polls[at] = history.polls[at]._replace(corrupt=1)
    return bool(polls)


def refused_in_order(history: History, rng: random.Random) -> bool:
    """A producer is told 45 for no reason."""
    found = [message for message in history.messages.values() if message.idempotent]
    if found:
        message = rng.choice(found)
        history.order_refusals.append(OrderRefusal(0.0, "planted", message.key, message.producer, 45))
    return bool(found)


PLANTS: dict[str, Plant] = {rule: globals()[rule] for rule in RULES}
"""Each is named after the rule that must find it; a rule without one fails here."""


def planted(history: History, rule: str, seed: int) -> History | None:
    """A copy of `history` with the anomaly of `rule` in it, or None where there is nothing to plant it into."""
    changed = History(
        dict(history.append_time),
        dict(history.messages),
        copy.copy(history.acks),
        copy.copy(history.refusals),
        copy.copy(history.order_refusals),
        copy.copy(history.polls),
        copy.copy(history.listings),
        dict(history.floors),
        copy.copy(history.deletions),
        dict(history.targets),
        dict(history.unbounded),
        dict(history.starts),
        groups=history.groups.copied(),
    )
    plants = PLANTS | GROUP_PLANTS
    return changed if plants[rule](changed, random.Random(seed)) else None
