"""The agent epochs this process holds: one current, older ones until none of their objects is on its way.

Owns: an object number is given out once; epochs are never reused (the database's counter issues them); an epoch is
retired only when no object of it is in flight, or when the commit queue abandons it on purpose. Leases are renewed at a
third of their length and the current epoch is replaced every `epoch_rotate_ms`, so that the sweeper of orphans can tell
dead prefixes from live ones. The database judges leases by its own clock; the local estimate only avoids vain uploads.
"""

from __future__ import annotations

import asyncio

import structlog

from broker.ingest.flight import Ticket
from broker.services import Clock
from catalog.database import DatabaseError
from catalog.epochs import EpochStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

SEQUENCES_MAX = 2**32
RETRY_S = 0.2


class HeldEpoch:
    """One epoch of this process."""

    __slots__ = ("epoch", "in_flight", "issued_s", "lease_until_s", "sequence_next")

    def __init__(self, epoch: int, issued_s: float, lease_until_s: float) -> None:
        self.epoch = epoch
        self.issued_s = issued_s
        self.lease_until_s = lease_until_s
        self.sequence_next = 0
        self.in_flight = 0


class EpochKeeper:
    """Implements broker.ingest.upload.Tickets. `run` belongs to the agent's supervisor."""

    def __init__(
        self, epochs: EpochStore, clock: Clock, settings: Settings, *, instance: str, lease_ms: int | None = None
    ) -> None:
        self._epochs = epochs
        self._clock = clock
        self._instance = instance
        self._lease_ms = settings.epoch_lease_ms if lease_ms is None else lease_ms
        self._lease_s = self._lease_ms / 1000
        self._rotate_s = settings.epoch_rotate_ms / 1000
        self._current: HeldEpoch | None = None
        self._held: dict[int, HeldEpoch] = {}
        self._issuing = asyncio.Lock()
        self.issued = 0

    @property
    def epoch(self) -> int | None:
        """The current epoch while its lease is believed to hold."""
        current = self._current
        return current.epoch if current is not None and self._usable(current) else None

    async def acquire(self) -> Ticket:
        """The next object number. Without a usable epoch a new one is issued first; waits until the database answers."""
        while (ticket := self.acquire_now()) is None:
            await self._issue_if_needed()
        return ticket

    def acquire_now(self) -> Ticket | None:
        """The next object number, or None without a usable epoch."""
        current = self._current
        if current is None or not self._usable(current):
            return None
        ticket = Ticket(current.epoch, current.sequence_next)
        current.sequence_next += 1
        current.in_flight += 1
        return ticket

    def release(self, ticket: Ticket) -> None:
        """An object of an epoch is settled."""
        held = self._held.get(ticket.epoch)
        if held is not None:
            held.in_flight -= 1
            assert held.in_flight >= 0, "a ticket is released once"

    async def abandon(self, epoch: int) -> None:
        """Retire an epoch whose commits are refused. Raises DatabaseError while the database doesn't confirm it."""
        if self._current is not None and self._current.epoch == epoch:
            self._current = None
        await self._epochs.retire(epoch)
        self._held.pop(epoch, None)

    async def start(self) -> None:
        """Take the first epoch. Raises DatabaseError."""
        await self._issue_if_needed(wait=False)

    async def run(self) -> None:
        """Renew, rotate and retire, for ever."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            await self.tick()

    async def tick(self) -> None:
        """One round: renew what is held, replace what is old, retire what is empty."""
        for held in list(self._held.values()):
            await self._renew(held)
        current = self._current
        if current is not None and self._clock.monotonic() - current.issued_s >= self._rotate_s:
            self._current = None
        try:
            if self._current is None:
                await self._issue_if_needed(wait=False)
            for held in list(self._held.values()):
                if held is not self._current and held.in_flight == 0:
                    await self._epochs.retire(held.epoch)
                    self._held.pop(held.epoch, None)
        except DatabaseError as error:
            log.warning("agent epochs could not be rotated", error=str(error))

    async def close(self) -> None:
        """Retire everything held; what can't be retired runs out by itself."""
        self._current = None
        for held in list(self._held.values()):
            self._held.pop(held.epoch, None)
            try:
                await self._epochs.retire(held.epoch)
            except DatabaseError as error:
                log.warning("agent epoch not retired, its lease will run out", epoch=held.epoch, error=str(error))

    def _usable(self, held: HeldEpoch) -> bool:
        return self._clock.monotonic() < held.lease_until_s and held.sequence_next < SEQUENCES_MAX

    async def _renew(self, held: HeldEpoch) -> None:
        began_s = self._clock.monotonic()
        try:
            alive = await self._epochs.renew(held.epoch, self._lease_ms) is not None
        except DatabaseError as error:
            log.warning("agent epoch not renewed", epoch=held.epoch, error=str(error))
            return
        if alive:
            held.lease_until_s = began_s + self._lease_s
            return
        log.warning("agent epoch lost", epoch=held.epoch)
        held.lease_until_s = began_s
        if held is self._current:
            self._current = None

    async def _issue_if_needed(self, *, wait: bool = True) -> HeldEpoch:
        async with self._issuing:
            while True:
                if self._current is not None and self._usable(self._current):
                    return self._current
                began_s = self._clock.monotonic()
                try:
                    epoch = (await self._epochs.issue(self._instance, self._lease_ms)).epoch
                except DatabaseError as error:
                    if not wait:
                        raise
                    log.warning("no agent epoch to be had, trying again", error=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                self.issued += 1
                held = HeldEpoch(epoch, began_s, began_s + self._lease_s)
                self._held[epoch] = self._current = held
                return held
