"""One turn of a job as it runs: how long it has worked, when it rests, whether its lease is still its own."""

from __future__ import annotations

import asyncio

from broker.jobs.pace import rest_ms, share_of
from broker.jobs.port import LoadSignal
from broker.services import Clock
from catalog.jobs import HeldJob, JobStore
from catalog.leases import Lease, LeaseLost
from schemas.settings import Settings


class Holding:
    """A job that this process holds, through all its turns. The runner prolongs it; whoever works sees that at once."""

    __slots__ = ("job", "lost", "noted_s", "renewed_s", "since_s")

    def __init__(self, job: HeldJob, now_s: float) -> None:
        self.job = job
        self.lost = False
        self.since_s = now_s
        self.renewed_s = now_s
        """When the request was sent that prolonged the lease last: it holds for at least its length from then on."""
        self.noted_s = now_s
        """When a success was noted in the database last."""


class RunningTurn:
    """See broker.jobs.port.Turn."""

    def __init__(self, holding: Holding, store: JobStore, clock: Clock, settings: Settings, signal: LoadSignal) -> None:
        self._holding = holding
        self._store = store
        self._clock = clock
        self._settings = settings
        self._signal = signal
        self._worked_s = 0.0
        self.rested_s = 0.0
        self._slice_s = clock.monotonic()
        """Since when it has worked without a rest."""

    @property
    def lease(self) -> Lease:
        """The lease, with the fencing epoch."""
        return self._holding.job.lease

    @property
    def progress(self) -> str:
        """What was saved last."""
        return self._holding.job.progress

    @property
    def worked_ms(self) -> float:
        """Work so far, without the rests."""
        return (self._worked_s + self._clock.monotonic() - self._slice_s) * 1000

    @property
    def over(self) -> bool:
        """It has worked for as long as it may."""
        return self.worked_ms >= self._settings.job_turn_ms

    async def breathe(self) -> None:
        """Rest where a slice of work is full. Raises LeaseLost."""
        self._check()
        now_s = self._clock.monotonic()
        slice_ms = (now_s - self._slice_s) * 1000
        if slice_ms < self._settings.job_slice_ms:
            await asyncio.sleep(0)
            return
        rest_s = self.rest_s()
        self._worked_s += slice_ms / 1000
        self._slice_s = now_s
        self.rested_s += rest_s
        await asyncio.sleep(rest_s)
        self._slice_s = self._clock.monotonic()
        self._check()

    def rest_s(self) -> float:
        """Rest that the work since the last one asks for, as loaded as the agent is now."""
        worked_ms = (self._clock.monotonic() - self._slice_s) * 1000
        share = share_of(self._signal.load(), self._settings.job_share_min)
        return rest_ms(worked_ms, share, self._settings.job_rest_max_ms) / 1000

    async def save(self, progress: str) -> None:
        """Keep how far it is. Raises LeaseLost, DatabaseError."""
        self._check()
        sent_s = self._clock.monotonic()
        saved = await self._store.save(self._holding.job, progress, self._settings.job_lease_ms)
        self._holding.job = saved
        self._holding.renewed_s = sent_s

    def _check(self) -> None:
        """The lease is another's, or may be: its length is over since it was last prolonged."""
        held_s = self._clock.monotonic() - self._holding.renewed_s
        if self._holding.lost or held_s * 1000 >= self._settings.job_lease_ms:
            raise LeaseLost(f"the job {self.lease.name!r} is no longer held: somebody else may have it by now")
