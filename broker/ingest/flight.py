"""One flush on its way: the batches it took, their bytes in one buffer, and what has become of them.

Pure values; the upload and the commit queue move them on. Owns: every batch's `done` is called exactly once, whatever
happens; the bytes are copied out of the connections' buffers once, here, and are later the cache's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.ingest.lost_sequences import LostSequences
from broker.services import Append
from catalog.sequence import BatchFacts, BatchOutcome, ObjectFacts, ShardKey
from schemas.segment import BuiltSegment, Run, build_segment

REQUEST_TIMED_OUT = 7
FAILED = BatchOutcome(REQUEST_TIMED_OUT, -1, -1, -1)
"""What a producer is told when it isn't known, or not true, that its batch is stored: retriable, never a success."""


class Ticket(NamedTuple):
    """The right to upload one object under a live agent epoch."""

    epoch: int
    sequence: int

    @property
    def object_id(self) -> int:
        """The object's number in the database."""
        return self.epoch << 32 | self.sequence


class Flight:
    """Batches of one flush, in segment order: runs sorted by (topic, shard), arrival order inside a run."""

    __slots__ = (
        "_positions",
        "answered",
        "batches",
        "body",
        "bytes",
        "deadline_s",
        "items",
        "lost",
        "refused",
        "requests",
        "runs",
        "started_s",
    )

    def __init__(
        self,
        runs: Sequence[Sequence[Append]],
        started_s: float,
        deadline_s: float,
        requests: int = 1,
        lost: LostSequences | None = None,
    ) -> None:
        self.lost = lost
        """Told of every batch that fails."""
        self.items: list[Append] = [item for run in runs for item in run]
        self.body = bytearray().join([item.records for item in self.items])
        self.bytes = len(self.body)
        self.started_s = started_s
        self.requests = requests
        self.deadline_s = deadline_s
        self.runs = _runs(runs, memoryview(self.body))
        self.answered = False
        self.refused: dict[int, None] = {}
        """Positions in `items` that were answered with an error already."""
        self.batches: tuple[BatchFacts, ...] = ()
        """As in the last `facts`."""
        self._positions: list[int] | None = None
        """Positions in `items` of the batches in the last `facts`; None where they are all."""

    def answer(self, outcomes: Sequence[BatchOutcome]) -> None:
        """Tell every producer that hasn't been told; `outcomes` are those of the batches in the last `facts`, in order."""
        if self.answered:
            return
        self.answered = True
        if self._positions is None and not self.refused:
            for item, outcome in zip(self.items, outcomes, strict=True):
                item.done(outcome)
        else:
            positions = range(len(self.items)) if self._positions is None else self._positions
            for position, outcome in zip(positions, outcomes, strict=True):
                if position not in self.refused:
                    self.items[position].done(outcome)
        for answered in {item.connection: item.answered for item in self.items}.values():
            if answered is not None:
                answered()

    def log_starts(self, outcomes: Sequence[BatchOutcome]) -> dict[ShardKey, int]:
        """The log start of every shard that took a batch, as the commit saw it."""
        positions = range(len(self.items)) if self._positions is None else self._positions
        return {
            (self.items[position].topic, self.items[position].shard): outcome.log_start
            for position, outcome in zip(positions, outcomes, strict=True)
            if outcome.error == 0
        }

    def fail(self) -> None:
        """Tell every producer that hasn't been told REQUEST_TIMED_OUT."""
        if self.answered:
            return
        self.answered = True
        fail_items([item for position, item in enumerate(self.items) if position not in self.refused], self.lost)

    def refuse(self, connections: dict[int, None]) -> None:
        """Fail the batches of these connections alone, and keep them out of a commit that hasn't been tried yet."""
        if self.answered:
            return
        hit = [
            position
            for position, item in enumerate(self.items)
            if item.connection in connections and position not in self.refused
        ]
        self.refused.update(dict.fromkeys(hit))
        fail_items([self.items[position] for position in hit], self.lost)

    def connections(self) -> dict[int, None]:
        """Connections with a batch in this flight, in order of appearance."""
        return {item.connection: None for item in self.items}

    @property
    def empty(self) -> bool:
        """True where nothing is left to commit."""
        return len(self.refused) == len(self.items)

    def build(self, cluster_id: str, ticket: Ticket, journal: bytes = b"") -> BuiltSegment:
        """The segment object under this ticket, with what its header carries of earlier commits."""
        return build_segment(cluster_id, ticket.epoch, ticket.sequence, self.runs, journal)

    def facts(self, ticket: Ticket, name: str, built: BuiltSegment) -> ObjectFacts:
        """What the sequencer needs to know: batches in byte order, without those refused so far.

        Called once per name: a commit that is tried again must say the same, because an attempt of unknown outcome
        may have landed.
        """
        self._positions = [at for at in range(len(self.items)) if at not in self.refused] if self.refused else None
        batches: list[BatchFacts] = []
        at = built.body_first
        for position, item in enumerate(self.items):
            header = item.header
            length = len(item.records)
            if position not in self.refused:
                batches.append(
                    BatchFacts(
                        item.topic, item.shard, at, length, header.last_offset_delta + 1, header.max_timestamp,
                        item.append_time, header.producer_id, header.producer_epoch, header.base_sequence,
                    )
                )  # fmt: skip
            at += length
        self.batches = tuple(batches)
        return ObjectFacts(ticket.object_id, name, built.bytes, self.batches)


def fail_items(items: Sequence[Append], lost: LostSequences | None) -> None:
    """Tell producers REQUEST_TIMED_OUT; first it is noted what must not be overtaken."""
    if lost is not None:
        lost.note(items)
    for item in items:
        item.done(FAILED)


def _runs(runs: Sequence[Sequence[Append]], body: memoryview) -> list[Run]:
    out: list[Run] = []
    at = 0
    for items in runs:
        first = items[0]
        start = at
        count, earliest, latest = 0, first.header.base_timestamp, first.header.max_timestamp
        for item in items:
            header = item.header
            count += header.last_offset_delta + 1
            earliest = min(earliest, header.base_timestamp)
            latest = max(latest, header.max_timestamp)
            end = at + len(item.records)
            item.records = body[at:end]  # lets go of the connection's buffer, which is used again from now on
            at = end
        out.append(Run(first.topic, first.topic_id, first.shard, [body[start:at]], len(items), count, earliest, latest))
    return out
