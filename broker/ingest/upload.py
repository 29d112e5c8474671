"""Put one flight's segment into the store under a live agent epoch.

Owns: an object name is used for one put only (the store's retrying wrapper settles what became of it); the ticket is
given back when the object can't be committed any more, so that its epoch may be retired.
"""

from __future__ import annotations

import asyncio
import random
from typing import NamedTuple, Protocol

from broker.ingest.flight import Flight, Ticket
from broker.journal.journal import Carried, Journal
from broker.objects.port import ObjectStore
from broker.services import Clock
from schemas.segment import BuiltSegment


class Tickets(Protocol):
    """Where object numbers come from (broker.epoch_keeper)."""

    async def acquire(self) -> Ticket:
        """The next number under the live epoch; waits while there is none."""
        ...

    def acquire_now(self) -> Ticket | None:
        """The next number under the live epoch; None while there is none."""
        ...

    def release(self, ticket: Ticket) -> None:
        """The object is committed, refused or given up."""
        ...

    async def abandon(self, epoch: int) -> None:
        """Retire an epoch for good: when this returns, no commit under it can succeed any more."""
        ...


class Uploaded(NamedTuple):
    """A segment in the store, not yet committed."""

    ticket: Ticket
    name: str
    built: BuiltSegment


class Uploader:
    """Names, lays out and stores segments; at most `uploads_max` at a time."""

    def __init__(
        self,
        store: ObjectStore,
        tickets: Tickets,
        clock: Clock,
        rng: random.Random,
        *,
        cluster_id: str,
        uploads_max: int,
        journal: Journal | None = None,
    ) -> None:
        self._store = store
        self._tickets = tickets
        self._clock = clock
        self._rng = rng
        self._cluster_id = cluster_id
        self._journal = journal
        self._slots = asyncio.Semaphore(uploads_max)
        self.running = 0

    async def upload(self, flight: Flight) -> Uploaded:
        """Store the flight's segment before its deadline. Raises the store's errors or TimeoutError.

        The ticket of a failed upload is released here: its name is never committed, so a late landing is an orphan.
        """
        async with asyncio.timeout(max(0.0, flight.deadline_s - self._clock.monotonic())):
            async with self._slots:
                ticket = await self._tickets.acquire()
                try:
                    return await self._put(flight, ticket)
                except BaseException:
                    self._tickets.release(ticket)
                    raise

    def upload_now(self, flight: Flight) -> Uploaded | None:
        """Store the flight's segment where the store needs no waiting for that; None where `upload` has to."""
        if flight.bytes > self._store.now_bytes_max or self._slots.locked():
            return None
        ticket = self._tickets.acquire_now()
        if ticket is None:
            return None
        carried = self._carry()
        segment = self._segment(flight, ticket, carried)
        stored = self._store.put_now(segment.name, [segment.built.parts[0], flight.body])
        self._settled(carried, stored)
        if stored:
            return segment
        self._tickets.release(ticket)  # what may have landed under this name is an orphan
        return None

    async def _put(self, flight: Flight, ticket: Ticket) -> Uploaded:
        carried = self._carry()
        stored = False
        try:
            segment = self._segment(flight, ticket, carried)
            await self._store.put(segment.name, [segment.built.parts[0], flight.body])
            stored = True
        finally:
            self._settled(carried, stored)
        return segment

    def _carry(self) -> Carried | None:
        return self._journal.carry() if self._journal is not None else None

    def _settled(self, carried: Carried | None, stored: bool) -> None:
        if carried is not None and self._journal is not None:
            self._journal.settled(carried, stored=stored)

    def _segment(self, flight: Flight, ticket: Ticket, carried: Carried | None) -> Uploaded:
        name = f"{self._cluster_id}/segments/{ticket.epoch}/{ticket.sequence}-{self._rng.getrandbits(64):016x}"
        journal = carried.packed if carried is not None else b""
        return Uploaded(ticket, name, flight.build(self._cluster_id, ticket, journal))
