"""Rows of jobs: what is done again and again, by one holder at a time, with its progress, its last success and its next time.

The holder and its fencing epoch are a lease (`catalog.leases`) of the job's name, and the job's own writes name that lease.
Owns: a job is taken only when it is due by the database's clock; progress, success and failure are told by the holder of
the lease alone, in the transaction that checks it. A holder that dies changes nothing here: the job is still due, and
whoever takes it when the lease has run out goes on from the progress that was saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from catalog.database import Columns, Database, Row, Transaction
from catalog.leases import Lease, LeaseStore, check, give_back, prolong, take

ERROR_LENGTH_MAX = 1_000
_KEYS: Columns = (("lease", "text"),)
_ROW = (
    "j.name, j.scope, COALESCE(l.holder, ''), COALESCE(l.epoch, 0), COALESCE(l.lease_until_ms, 0), j.progress, "
    "j.last_success_ms, j.last_error, j.failures, j.next_due_ms"
)


class JobKey(NamedTuple):
    """Which job. `scope` tells jobs of one name apart, and is empty where there is one."""

    name: str
    scope: str = ""

    @property
    def lease(self) -> str:
        """Name of its lease."""
        return f"{self.name}/{self.scope}" if self.scope else self.name


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job as the database has it. Times are Unix ms by the database's clock."""

    key: JobKey
    holder: str
    """Who holds it or held it last."""
    epoch: int
    lease_until_ms: int
    progress: str
    last_success_ms: int | None
    last_error: str
    """Why it failed the last time; empty after a success."""
    failures: int
    """In a row."""
    next_due_ms: int


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that is held: work under `lease`, from `progress` on."""

    key: JobKey
    lease: Lease
    progress: str
    failures: int


class JobStore:
    """The `jobs` table beside `leases`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def acquire(self, key: JobKey, holder: str, lease_ms: int, *, resume: bool = False) -> HeldJob | None:
        """Take a job that is due and that nobody holds; else None. `resume` as in `LeaseStore.acquire`."""

        async def body(tx: Transaction) -> HeldJob | None:
            await tx.execute(
                "INSERT INTO jobs (lease, name, scope) VALUES ($1, $2, $3) ON CONFLICT (lease) DO NOTHING",
                key.lease,
                key.name,
                key.scope,
            )
            if await _due_in_ms(tx, key) > 0:
                return None
            lease = await take(tx, key.lease, holder, lease_ms, resume=resume)
            if lease is None:
                return None
            if await _due_in_ms(tx, key) > 0:  # somebody has just done it
                await give_back(tx, lease)
                return None
            [(progress, failures)] = await tx.fetch("SELECT progress, failures FROM jobs WHERE lease = $1", key.lease)
            return HeldJob(key, lease, progress, failures)

        return await self._db.transact(body)

    async def save(self, held: HeldJob, progress: str, lease_ms: int) -> HeldJob:
        """Keep how far the job is, and prolong its lease. Raises LeaseLost."""

        async def body(tx: Transaction) -> HeldJob:
            lease = await prolong(tx, held.lease, lease_ms)
            await tx.execute("UPDATE jobs SET progress = $2 WHERE lease = $1", lease.name, progress)
            return replace(held, lease=lease, progress=progress)

        return await self._db.transact(body)

    async def renew_all(self, held: Sequence[HeldJob], lease_ms: int) -> dict[JobKey, HeldJob]:
        """Prolong many; those that are lost are absent."""
        leases = await LeaseStore(self._db).renew_all([one.lease for one in held], lease_ms)
        return {one.key: replace(one, lease=leases[one.key.lease]) for one in held if one.key.lease in leases}

    async def finish(self, held: HeldJob, next_due_in_ms: int) -> None:
        """It succeeded: give it back, due again after so long (0: there is more to do). Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            now = await check(tx, held.lease.name, held.lease.epoch)
            await tx.execute(
                "UPDATE jobs SET last_success_ms = $2, last_error = '', failures = 0, next_due_ms = $3 WHERE lease = $1",
                held.lease.name,
                now,
                now + next_due_in_ms,
            )
            await give_back(tx, held.lease)

        await self._db.transact(body)

    async def fail(self, held: HeldJob, error: str, retry_in_ms: int) -> None:
        """It failed: give it back, due again after so long. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            now = await check(tx, held.lease.name, held.lease.epoch)
            await tx.execute(
                "UPDATE jobs SET last_error = $2, failures = failures + 1, next_due_ms = $3 WHERE lease = $1",
                held.lease.name,
                error.replace("\0", "")[:ERROR_LENGTH_MAX],
                now + retry_in_ms,
            )
            await give_back(tx, held.lease)

        await self._db.transact(body)

    async def succeeded(self, held: HeldJob, lease_ms: int) -> HeldJob:
        """A turn went through and there is more: note the success, keep the job, prolong its lease. Raises LeaseLost."""

        async def body(tx: Transaction) -> HeldJob:
            lease = await prolong(tx, held.lease, lease_ms)
            await tx.execute(
                "UPDATE jobs SET last_success_ms = $2, last_error = '', failures = 0 WHERE lease = $1",
                lease.name,
                lease.lease_until_ms - lease_ms,
            )
            return replace(held, lease=lease, failures=0)

        return await self._db.transact(body)

    async def hurry(self, keys: Sequence[JobKey]) -> None:
        """Make these due now; those that nobody has ever taken are."""
        rows = [(key.lease,) for key in sorted(keys)]
        await self._db.transact(
            lambda tx: tx.execute_rows(
                "UPDATE jobs SET next_due_ms = 0 FROM {rows} AS r WHERE jobs.lease = r.lease", _KEYS, rows
            )
        )

    async def all(self) -> tuple[int, list[JobRow]]:
        """The database's clock, and every job by name and scope."""

        async def body(tx: Transaction) -> tuple[int, list[Row]]:
            rows = await tx.fetch(
                f"SELECT {_ROW} FROM jobs AS j LEFT JOIN leases AS l ON l.name = j.lease ORDER BY j.name, j.scope"
            )
            return await tx.now_ms(), rows

        now_ms, rows = await self._db.snapshot(body)
        return now_ms, [JobRow(JobKey(name, scope), *rest) for name, scope, *rest in rows]


async def _due_in_ms(tx: Transaction, key: JobKey) -> int:
    [(due,)] = await tx.fetch("SELECT next_due_ms FROM jobs WHERE lease = $1", key.lease)
    return int(due) - await tx.now_ms()
