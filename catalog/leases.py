"""Leased jobs: at most one holder at a time by the database's clock, each acquisition with a higher fencing epoch.

A holder that was paused past its lease may still believe in it: whatever it writes names its fencing epoch, and the
write's transaction holds the lease's row and checks it (`check`).
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.database import Database, DatabaseError, Transaction


class LeaseLost(DatabaseError):
    """The lease has another holder or epoch, or has run out: stop the job and acquire again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A held lease. `lease_until_ms` is Unix ms by the database's clock."""

    name: str
    holder: str
    epoch: int
    lease_until_ms: int


class LeaseStore:
    """The `leases` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def acquire(self, name: str, holder: str, lease_ms: int) -> Lease | None:
        """Take a lease that is free or has run out; None while somebody else (or an earlier self) holds it."""

        async def body(tx: Transaction) -> Lease | None:
            await tx.execute(
                "INSERT INTO leases (name, holder, epoch, lease_until_ms) VALUES ($1, '', 0, 0) "
                "ON CONFLICT (name) DO NOTHING",
                name,
            )
            [(epoch, until)] = await tx.fetch(
                "SELECT epoch, lease_until_ms FROM leases WHERE name = $1 {for_update}", name
            )
            now = await tx.now_ms()
            if until > now:
                return None
            lease = Lease(name, holder, epoch + 1, now + lease_ms)
            await tx.execute(
                "UPDATE leases SET holder = $2, epoch = $3, lease_until_ms = $4 WHERE name = $1",
                name,
                holder,
                lease.epoch,
                lease.lease_until_ms,
            )
            return lease

        return await self._db.transact(body)

    async def renew(self, lease: Lease, lease_ms: int) -> Lease:
        """Prolong a lease to `lease_ms` from now. Raises LeaseLost."""

        async def body(tx: Transaction) -> Lease:
            now = await check(tx, lease.name, lease.epoch)
            await tx.execute("UPDATE leases SET lease_until_ms = $2 WHERE name = $1", lease.name, now + lease_ms)
            return Lease(lease.name, lease.holder, lease.epoch, now + lease_ms)

        return await self._db.transact(body)

    async def release(self, lease: Lease) -> None:
        """Give a lease back at once; a no-op when it is lost already. Its epoch is never used again."""
        await self._db.transact(
            lambda tx: tx.execute(
                "UPDATE leases SET lease_until_ms = 0 WHERE name = $1 AND epoch = $2", lease.name, lease.epoch
            )
        )


async def check(tx: Transaction, name: str, epoch: int) -> int:
    """Hold a lease's row to the end of the transaction; returns the database's clock. Raises LeaseLost."""
    rows = await tx.fetch("SELECT epoch, lease_until_ms FROM leases WHERE name = $1 {for_update}", name)
    now = await tx.now_ms()
    if not rows or rows[0][0] != epoch or rows[0][1] <= now:
        raise LeaseLost(f"the lease {name!r} is no longer held under epoch {epoch}: acquire it again")
    return now
