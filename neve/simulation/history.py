"""Everything that clients of one run did and saw, as values: the side structures the checker knows every message from.

Keys are (topic name, partition). Values are unique per message. Times are virtual seconds. A *process* is one incarnation
of a producer or one assignment of a consumer: order is promised within it and begins anew with the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from neve.simulation.group_history import GroupHistory
from neve.simulation.group_history import Key as Key


class Message(NamedTuple):
    """One record as its producer sent it."""

    key: Key
    value: bytes
    producer: str
    number: int
    """Position in the producer's order on this key."""
    timestamp: int
    idempotent: bool
    ordered: bool
    """True where the protocol promises order: idempotent, or one request in flight."""


class Ack(NamedTuple):
    """A produce answer without an error. The batch's values took offsets from `offset` on, or so it says."""

    time: float
    agent: str
    key: Key
    values: tuple[bytes, ...]
    offset: int
    append_ms: int
    log_start: int


class Refusal(NamedTuple):
    """A produce answer that says for certain that nothing was written."""

    time: float
    key: Key
    values: tuple[bytes, ...]
    error: int


class OrderRefusal(NamedTuple):
    """An idempotent producer was told 45 or 47 for its oldest unanswered batch, with no other in flight."""

    time: float
    agent: str
    key: Key
    producer: str
    error: int


class Read(NamedTuple):
    """One record as a consumer got it."""

    offset: int
    value: bytes
    timestamp: int


class Poll(NamedTuple):
    """One partition of a Fetch answer. `floor` is the offset behind all that was known written when the request was sent."""

    time: float
    process: str
    connection: str
    key: Key
    asked: int
    error: int
    high_watermark: int
    log_start: int
    records: tuple[Read, ...]
    floor: int
    batches: int = 1
    corrupt: int = 0
    """Whole batches in the answer, and how many of them had a wrong CRC."""
    start_floor: int = 0
    """The log start that this agent had told before the request was sent."""
    group: str = ""
    """The consumer group it was read for; none for a consumer that assigns itself."""


class Listing(NamedTuple):
    """One ListOffsets answer; `which` is -1 (latest) or -2 (earliest). `floor` as in Poll; of the earliest, the highest log
    start that anybody had been told."""

    time: float
    connection: str
    key: Key
    which: int
    error: int
    offset: int
    floor: int


class Deletion(NamedTuple):
    """One DeleteRecords answer without an error. `floor` is the highest log start anybody had been told before."""

    time: float
    agent: str
    key: Key
    asked: int
    log_start: int
    floor: int


@dataclass
class History:
    """The record of one run. Lists are in virtual-time order."""

    append_time: dict[Key, bool] = field(default_factory=dict)
    """Every key, with True where its timestamps are LogAppendTime."""
    messages: dict[bytes, Message] = field(default_factory=dict)
    acks: list[Ack] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    order_refusals: list[OrderRefusal] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    floors: dict[Key, int] = field(default_factory=dict)
    deletions: list[Deletion] = field(default_factory=list)
    targets: dict[Key, int] = field(default_factory=dict)
    """The highest offset that anybody wanted to delete up to, whether or not it was answered."""
    unbounded: dict[Key, None] = field(default_factory=dict)
    """Keys whose log start may go up to the end: all was to be deleted, or retention deletes."""
    starts: dict[Key, int] = field(default_factory=dict)
    """The log starts at the end of the run, as the database has them: records below may be gone, all others must not."""
    start_floors: dict[Key, int] = field(default_factory=dict)
    agent_starts: dict[tuple[str, Key], int] = field(default_factory=dict)
    groups: GroupHistory = field(default_factory=GroupHistory)
    given_up: int = 0
    """Messages whose producer stopped asking: nobody knows whether they are written."""
    errors: dict[str, int] = field(default_factory=dict)
    """Kafka error codes clients were told, as `api:code`."""

    def sent(self, message: Message) -> None:
        """A producer is about to send a message for the first time."""
        assert message.value not in self.messages, "values must be unique"
        self.messages[message.value] = message

    def acked(self, ack: Ack) -> None:
        """A produce answer came."""
        self.acks.append(ack)
        if ack.offset >= 0:
            self._raise_floor(ack.key, ack.offset + len(ack.values))

    def polled(self, poll: Poll) -> None:
        """A fetch answer came."""
        self.polls.append(poll)
        if poll.records:
            self._raise_floor(poll.key, poll.records[-1].offset + 1)

    def wants_deleted(self, key: Key, offset: int) -> None:
        """Somebody is about to ask for records to be deleted up to this offset; -1 is all."""
        if offset < 0:
            self.unbounded[key] = None
        else:
            self.targets[key] = max(self.targets.get(key, 0), offset)

    def deleted(self, deletion: Deletion) -> None:
        """A DeleteRecords answer came."""
        self.deletions.append(deletion)
        self.start_told(deletion.key, deletion.log_start)
        at = (deletion.agent, deletion.key)
        self.agent_starts[at] = max(self.agent_starts.get(at, 0), deletion.log_start)

    def start_told(self, key: Key, log_start: int) -> None:
        """Somebody was told a log start, from a database read."""
        self.start_floors[key] = max(self.start_floors.get(key, 0), log_start)

    def start(self, key: Key) -> int:
        """The log start at the end of the run."""
        return self.starts.get(key, 0)

    def told(self, api: str, error: int) -> None:
        """A client was told an error."""
        name = f"{api}:{error}"
        self.errors[name] = self.errors.get(name, 0) + 1

    def floor(self, key: Key) -> int:
        """The offset behind everything on `key` that any client knows to be written: to be taken before a request is sent."""
        return self.floors.get(key, 0)

    def _raise_floor(self, key: Key, offset: int) -> None:
        if offset > self.floors.get(key, 0):
            self.floors[key] = offset

    @property
    def acked_count(self) -> int:
        """Records acknowledged."""
        return sum(len(ack.values) for ack in self.acks)
