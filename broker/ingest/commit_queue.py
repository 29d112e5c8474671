"""The one queue through which this process commits: flights in the order their uploads began, in groups.

Owns (I1): `done` is called with success only after the metadata transaction has committed. Order: a flight is never
committed before one that began earlier; when one fails, the batches of the same connections in later flights are
refused. An unknown outcome is settled by object id before the next group: the same commit is sent again, and the
database answers a known object id with the stored outcome. What is still unknown at the deadline is answered
REQUEST_TIMED_OUT.

A flight whose epoch is refused is uploaded again under a new name, but only after the old epoch has been retired and
the old object ids have been looked up: from then on the earlier name can't be committed by anybody, not even by a
request of ours that is still on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from broker.ingest.flight import Flight
from broker.ingest.upload import Tickets, Uploaded, Uploader
from broker.objects.port import ObjectStoreError
from broker.services import Clock
from catalog.commits import CommitStore, Committed, ObjectOutcome, Refused
from catalog.database import CommitUnknown, DatabaseError
from catalog.sequence import ObjectFacts

log = structlog.get_logger(__name__)
T = TypeVar("T")

REISSUES_MAX = 3
"""How often one flight is uploaded again under a new epoch before its producers are told to retry."""


class Entry:
    """One flight in the queue with its upload."""

    __slots__ = ("_facts", "error", "flight", "left", "reissues", "uploaded")

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.uploaded: Uploaded | None = None
        self.error: Exception | None = None
        self.reissues = 0
        self.left = False
        """No longer in the queue, and everybody answered: what still becomes of it is nobody's business."""
        self._facts: ObjectFacts | None = None

    @property
    def ready(self) -> bool:
        """Uploaded, or certain not to be."""
        return self.uploaded is not None or self.error is not None

    def facts(self) -> ObjectFacts:
        """The object as the sequencer sees it: the same at every attempt under one name."""
        assert self.uploaded is not None, "only uploaded segments are committed"
        if self._facts is None or self._facts.object_id != self.uploaded.ticket.object_id:
            self._facts = self.flight.facts(self.uploaded.ticket, self.uploaded.name, self.uploaded.built)
        return self._facts

    def thaw(self) -> None:
        """The database has said for certain that this name is not committed: the next attempt may leave out more."""
        self._facts = None


class CommitQueue:
    """See the module. `on_committed` runs when producers have been told, in the same step of the loop: no request that they
    send then is read before, and whoever reads afterwards finds the batches."""

    def __init__(
        self,
        commits: CommitStore,
        uploader: Uploader,
        tickets: Tickets,
        clock: Clock,
        *,
        group_max: int,
        retry_s: float,
        on_committed: Callable[[Flight, Uploaded, Committed], None],
        on_failed: Callable[[dict[int, None]], None],
        on_left: Callable[[Flight], None],
    ) -> None:
        self._commits = commits
        self._uploader = uploader
        self._tickets = tickets
        self._clock = clock
        self._group_max = group_max
        self._retry_s = retry_s
        self._on_committed = on_committed
        self._on_failed = on_failed
        self._on_left = on_left
        self._entries: deque[Entry] = deque()
        self._changed = asyncio.Event()
        self.transactions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, flight: Flight) -> Entry:
        """Take a place in the order, when the upload begins."""
        entry = Entry(flight)
        self._entries.append(entry)
        return entry

    def poke(self) -> None:
        """An upload ended."""
        self._changed.set()

    def expire(self, entry: Entry) -> None:
        """The deadline of a flight has passed: its producers are told so, and what followed it is refused too.

        A commit that is being tried goes on being settled; nobody is told of it any more.
        """
        if entry.flight.answered:
            return
        log.warning("segment not committed within the deadline", bytes=entry.flight.bytes)
        entry.flight.fail()
        self._refuse(entry.flight.connections(), list(self._entries)[self._entries.index(entry) + 1 :])

    async def run(self) -> None:
        """Commit for ever. Ends only by cancellation or a bug; the writer then fails whatever waits."""
        while True:
            while self._entries and self._entries[0].ready:
                await self._step()
            self._changed.clear()
            if not (self._entries and self._entries[0].ready):
                await self._changed.wait()

    def fail_all(self) -> None:
        """Answer everything that waits REQUEST_TIMED_OUT."""
        while self._entries:
            self._leave(self._entries[0])

    async def _step(self) -> None:
        head = self._entries[0]
        if head.error is not None:
            log.warning("segment upload failed", error=str(head.error), error_type=type(head.error).__name__)
            self._fail([head])
            return
        if head.flight.answered or head.flight.empty:  # timed out or refused before its commit began: it never will
            self._leave(head)
            return
        await self._settle(self._group())

    def _group(self) -> list[Entry]:
        group: list[Entry] = []
        for entry in self._entries:
            if entry.uploaded is None or entry.flight.answered or entry.flight.empty or len(group) == self._group_max:
                break
            group.append(entry)
        return group

    async def _settle(self, group: list[Entry]) -> None:
        """Bring one group to an end: committed, or failed at its deadline."""
        deadline_s = max(entry.flight.deadline_s for entry in group)
        while group:
            results = await self._commit(group, deadline_s)
            if results is None:
                self._fail(group)
                return
            left: list[tuple[Entry, Refused]] = []
            for entry, result in zip(group, results, strict=True):
                if isinstance(result, Committed):
                    self._deliver(entry, result)
                else:
                    entry.thaw()
                    left.append((entry, result))
            group = await self._again(left, deadline_s)

    async def _commit(self, group: list[Entry], deadline_s: float) -> list[ObjectOutcome] | None:
        """One definite answer of the database, or None where there was none until the deadline.

        After a lost reply the same group is sent again: the transaction waits for the lost one to end and then answers
        with the stored outcome.
        """
        objects = [entry.facts() for entry in group]
        unknown = False
        while True:
            try:
                self.transactions += 1
                return await self._commits.commit(objects)
            except DatabaseError as error:
                unknown = unknown or isinstance(error, CommitUnknown)
                log.warning("commit failed, trying again", error=str(error), unknown=unknown)
            if self._clock.monotonic() + self._retry_s >= deadline_s or (not unknown and _all_answered(group)):
                return None
            await asyncio.sleep(self._retry_s)

    async def _again(self, left: list[tuple[Entry, Refused]], deadline_s: float) -> list[Entry]:
        """What of a refused group is to be committed now, in order: what was only held up, and what has a new name."""
        group: list[Entry] = []
        for entry, refused in left:
            if entry.left:
                continue
            if entry.flight.empty or entry.flight.answered:
                self._leave(entry)
            elif refused.reason == "predecessor" or await self._reissue(entry, refused.reason, deadline_s):
                group.append(entry)
            else:
                self._fail([entry])
        return [entry for entry in group if entry.uploaded is not None and not entry.left]

    async def _reissue(self, entry: Entry, reason: str, deadline_s: float) -> bool:
        """Make sure the old name can never be committed, then upload again under a new epoch. False: give up.

        The old epoch is retired first and its object looked up afterwards: from then on no request that is still on its
        way can commit the first copy beside the second.
        """
        assert entry.uploaded is not None
        ticket, objects = entry.uploaded.ticket, [entry.facts()]
        log.warning("commit refused, uploading again under a new epoch", epoch=ticket.epoch, reason=reason)
        try:
            await self._until(deadline_s, lambda: self._tickets.abandon(ticket.epoch))
            landed = (await self._until(deadline_s, lambda: self._commits.resolve(objects)))[ticket.object_id]
            if landed is not None:
                if isinstance(landed, Committed):
                    self._deliver(entry, landed)
                    return True
                return False
            entry.thaw()
            self._tickets.release(ticket)
            entry.uploaded = None
            entry.reissues += 1
            if entry.reissues > REISSUES_MAX:
                return False
            entry.uploaded = await self._uploader.upload(entry.flight)
        except (ObjectStoreError, DatabaseError, TimeoutError) as error:
            log.warning("a refused segment could not be brought in again", error=str(error))
            return False
        return True

    async def _until(self, deadline_s: float, call: Callable[[], Awaitable[T]]) -> T:
        """Run a database call until it is answered or the deadline has passed; then the last DatabaseError is raised."""
        while True:
            try:
                return await call()
            except DatabaseError:
                if self._clock.monotonic() + self._retry_s >= deadline_s:
                    raise
                await asyncio.sleep(self._retry_s)

    def _deliver(self, entry: Entry, committed: Committed) -> None:
        """Acknowledge: the only place where producers are told of success, and it runs after the commit."""
        if entry.left:  # the queue was failed while the commit was on its way
            return
        assert entry.uploaded is not None
        uploaded = entry.uploaded
        entry.flight.answer(committed.outcomes)
        self._on_committed(entry.flight, uploaded, committed)
        self._leave(entry)

    def _fail(self, group: Sequence[Entry]) -> None:
        """Fail these flights, and refuse what came later of the same connections."""
        if group[-1].left:
            return
        later = list(self._entries)[self._entries.index(group[-1]) + 1 :]
        connections: dict[int, None] = {}
        for entry in group:
            connections.update(entry.flight.connections())
            self._leave(entry)
        self._refuse(connections, later)

    def _refuse(self, connections: dict[int, None], later: Sequence[Entry]) -> None:
        for entry in later:
            entry.flight.refuse(connections)
        self._on_failed(connections)

    def _leave(self, entry: Entry) -> None:
        entry.left = True
        entry.flight.fail()  # answers those that haven't been answered; nothing after a delivery
        if entry.uploaded is not None:
            self._tickets.release(entry.uploaded.ticket)
            entry.uploaded = None
        self._entries.remove(entry)
        self._on_left(entry.flight)


def _all_answered(group: Sequence[Entry]) -> bool:
    return all(entry.flight.answered for entry in group)
