"""Runs the jobs of one process, one turn at a time, as leased rows say what is due.

A loop over the injected clock, so that the simulation drives the same jobs. Owns: a job is worked on under its lease alone;
whatever one job raises is noted in its row and its metrics, and never stops the others; a turn that hangs ends
(`job_turn_timeout_ms`); a job that has more and more to do is given back after `job_hold_ms`, so that others can take it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from broker.jobs.port import Idle, Job, LoadSignal
from broker.jobs.schedule import Shares, retry_ms
from broker.jobs.turn import Holding, RunningTurn
from broker.objects.port import ObjectStoreError
from broker.rounds import repeat
from broker.services import Clock
from catalog.database import Database, DatabaseError
from catalog.jobs import JobKey, JobRow, JobStore
from catalog.leases import LeaseLost, LeaseStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

BREATH_S = 0.01
"""Between two turns at least."""
NOTED_EVERY_S = 1.0
"""A job with more and more to do has its success noted so often."""
UNFORESEEN_MAX = 5


@dataclass(slots=True)
class JobCounts:
    """What a job has done in this process."""

    turns: int = 0
    failures: int = 0
    losses: int = 0
    """Turns that ended because the lease was lost."""
    worked_s: float = 0.0
    rested_s: float = 0.0
    """While it gave way to clients."""


class JobRunner:
    """`run` for ever, or `step` by step; then `close`.

    `holder` names this process in leases, or all the processes of one supervisor, which runs one at a time: jobs of the one
    before, which was killed, are taken over at once, as are those whose taking was told to have failed and had not.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        database: Database,
        clock: Clock,
        settings: Settings,
        *,
        holder: str,
        signal: LoadSignal | None = None,
    ) -> None:
        self.jobs = {job.key: job for job in jobs}
        assert len(self.jobs) == len(jobs), "two jobs of one name and scope"
        self.counts = {key: JobCounts() for key in self.jobs}
        self.rows: dict[JobKey, JobRow] = {}
        """All jobs of the cluster, as they were last looked at."""
        self.seen_ms = 0
        """When that was, by the database's clock."""
        self.unforeseen: list[str] = []
        """The first failures that were neither the database's nor the store's: faults of the program."""
        self._store = JobStore(database)
        self._leases = LeaseStore(database)
        self._clock = clock
        self._settings = settings
        self._holder = holder
        self._signal = signal or Idle()
        self._shares = Shares()
        self._held: dict[JobKey, Holding] = {}
        self._looked_s: float | None = None

    async def run(self) -> None:
        """Work for ever."""
        lease_s = self._settings.job_lease_ms / 1000
        renewing = asyncio.get_running_loop().create_task(
            repeat(self.renew, interval_s=lease_s / 3, failure="jobs' leases could not be renewed, trying again")
        )
        try:
            while True:
                await asyncio.sleep(await self.step())
                if renewing.done():
                    renewing.result()
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def step(self) -> float:
        """One turn of one job, if any wants one; returns the seconds until the next step."""
        try:
            await self._look()
            wanting = [key for key in self.jobs if self._wants(key)]
            if not wanting:
                self._looked_s = None
                return self._idle_s()
            return await self._turn(self._shares.pick(wanting))
        except DatabaseError as error:
            log.warning("a job's row could not be read or written, trying again", error=str(error))
            self._looked_s = None
            return self._settings.job_poll_ms / 1000

    async def close(self) -> None:
        """Give everything back, so that others go on at once; what can't be given back runs out by itself."""
        held, self._held = self._held, {}
        for one in held.values():
            try:
                await self._leases.release(one.job.lease)
            except DatabaseError as error:
                log.warning("a job's lease was not given back, it runs out by itself", error=str(error))

    def holds(self, key: JobKey) -> bool:
        """Does this process hold the job?"""
        return key in self._held

    async def renew(self) -> None:
        """Prolong what is held. Raises DatabaseError."""
        held = {key: one for key, one in self._held.items() if not one.lost}
        if not held:
            return
        sent_s = self._clock.monotonic()
        renewed = await self._store.renew_all([one.job for one in held.values()], self._settings.job_lease_ms)
        for key, one in held.items():
            if key not in renewed:
                one.lost = True
            else:  # the progress is the holding's own: it may have been saved meanwhile
                one.job = replace(one.job, lease=renewed[key].lease)
                one.renewed_s = max(one.renewed_s, sent_s)

    async def _look(self) -> None:
        """Read all rows, if that is some time ago."""
        now_s = self._clock.monotonic()
        if self._looked_s is not None and now_s - self._looked_s < self._settings.job_poll_ms / 1000:
            return
        self.seen_ms, rows = await self._store.all()
        self.rows = {row.key: row for row in rows}
        self._looked_s = now_s

    def _wants(self, key: JobKey) -> bool:
        """Does this job want a turn, and can it be had here?"""
        row = self.rows.get(key)
        if key in self._held or row is None:
            return True
        free = row.lease_until_ms <= self.seen_ms or row.holder == self._holder
        return free and row.next_due_ms <= self.seen_ms

    def _idle_s(self) -> float:
        """Until the first job is due or can be had."""
        poll_ms = self._settings.job_poll_ms
        rows = [row for key, row in self.rows.items() if key in self.jobs]
        first_ms = min((max(row.next_due_ms, row.lease_until_ms) - self.seen_ms for row in rows), default=poll_ms)
        return max(BREATH_S, min(first_ms, poll_ms) / 1000)

    async def _turn(self, key: JobKey) -> float:
        """One turn of this job, taken where it isn't held yet; the seconds to rest."""
        holding = self._held.get(key) or await self._take(key)
        if holding is None:
            return BREATH_S
        turn = RunningTurn(holding, self._store, self._clock, self._settings, self._signal)
        counts = self.counts[key]
        counts.turns += 1
        try:
            async with asyncio.timeout(self._settings.job_turn_timeout_ms / 1000):
                more = await self.jobs[key].run_once(turn)
            rest_s = turn.rest_s()
            await self._went_well(holding, more=more)
        except LeaseLost as error:
            self._drop(key)
            counts.losses += 1
            log.warning("a job was lost to another process, or may be", job=key.lease, error=str(error))
            return BREATH_S
        except Exception as error:
            counts.failures += 1
            await self._failed(holding, error)
            return BREATH_S
        finally:
            self._shares.worked(key, turn.worked_ms)
            counts.worked_s += turn.worked_ms / 1000
            counts.rested_s += turn.rested_s
        counts.rested_s += rest_s
        return max(BREATH_S, rest_s)

    async def _take(self, key: JobKey) -> Holding | None:
        sent_s = self._clock.monotonic()
        # As a process that follows a dead one of the same name: this one holds nothing of it that it knows of.
        job = await self._store.acquire(key, self._holder, self._settings.job_lease_ms, resume=True)
        if job is None:
            self._looked_s = None
            return None
        self._held[key] = Holding(job, sent_s)
        return self._held[key]

    def _drop(self, key: JobKey) -> None:
        self._held.pop(key, None)
        self._looked_s = None

    async def _went_well(self, holding: Holding, *, more: bool) -> None:
        """Note it; keep the job where there is more to do, but not for ever. Raises DatabaseError."""
        key = holding.job.key
        now_s = self._clock.monotonic()
        if more and (now_s - holding.since_s) * 1000 < self._settings.job_hold_ms:
            if holding.job.failures or now_s - holding.noted_s >= NOTED_EVERY_S:
                holding.job = await self._store.succeeded(holding.job, self._settings.job_lease_ms)
                holding.noted_s = holding.renewed_s = now_s
            return
        await self._store.finish(holding.job, 0 if more else self.jobs[key].interval_ms)
        self._drop(key)

    async def _failed(self, holding: Holding, error: Exception) -> None:
        """Note it, and give the job back until it is tried again, by whoever is first. Raises DatabaseError."""
        key = holding.job.key
        foreseen = isinstance(error, DatabaseError | ObjectStoreError | TimeoutError)
        said = str(error) or f"no end within {self._settings.job_turn_timeout_ms} ms"
        if foreseen:
            log.warning("a job failed, trying again", job=key.lease, error=said, error_type=type(error).__name__)
        else:
            log.error("a job failed by a fault of the program, trying again", job=key.lease, exc_info=error)
            self.unforeseen = [*self.unforeseen, f"{key.lease}: {error!r}"][:UNFORESEEN_MAX]
        self._drop(key)
        retry = retry_ms(holding.job.failures + 1, self._settings.job_retry_ms, self._settings.job_retry_max_ms)
        try:
            await self._store.fail(holding.job, f"{type(error).__name__}: {said}", retry)
        except LeaseLost:
            log.warning("a job that failed was lost to another process meanwhile", job=key.lease)
