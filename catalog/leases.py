"""Leased jobs: at most one holder at a time by the database's clock, each acquisition with a higher fencing epoch.

A holder that was paused past its lease may still believe in it: whatever it writes names its fencing epoch, and the
write's transaction holds the lease's row and checks it (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from catalog.database import Columns, Database, DatabaseError, Transaction

_LEASE: Columns = (("name", "text"), ("epoch", "bigint"))


def role_lease(role: str, instance: str) -> str:
    """The lease that an agent without Kafka clients, which is in no list of brokers, holds for a role that it has."""
    return f"role:{role}:{instance}"


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

    async def acquire(self, name: str, holder: str, lease_ms: int, *, resume: bool = False) -> Lease | None:
        """Take a lease that is free or has run out; None while somebody else (or an earlier self) holds it.

        `resume` takes over at once what `holder` itself holds: for a process whose predecessor under the same name is known
        to be dead. Should it live after all, the new epoch fences it like any other holder that was too late.
        """
        return await self._db.transact(lambda tx: take(tx, name, holder, lease_ms, resume=resume))

    async def renew(self, lease: Lease, lease_ms: int) -> Lease:
        """Prolong a lease to `lease_ms` from now. Raises LeaseLost."""
        return await self._db.transact(lambda tx: prolong(tx, lease, lease_ms))

    async def renew_all(self, leases: Sequence[Lease], lease_ms: int) -> dict[str, Lease]:
        """Prolong many leases in one transaction; name -> lease. Those that are lost are absent."""
        wanted = {lease.name: lease for lease in leases}
        rows = [(name, wanted[name].epoch) for name in sorted(wanted)]

        async def body(tx: Transaction) -> dict[str, Lease]:
            now = await tx.now_ms()
            await tx.execute_rows(
                "UPDATE leases SET lease_until_ms = $1 FROM {rows} AS r WHERE leases.name = r.name "
                "AND leases.epoch = r.epoch AND leases.lease_until_ms > $2",
                _LEASE,
                rows,
                now + lease_ms,
                now,
            )
            held = await tx.fetch_rows(
                "SELECT l.name, l.lease_until_ms FROM {rows} AS r JOIN leases AS l ON l.name = r.name AND l.epoch = r.epoch "
                "WHERE l.lease_until_ms > $1 ORDER BY l.name",
                _LEASE,
                rows,
                now,
            )
            return {name: replace(wanted[name], lease_until_ms=until) for name, until in held}

        return await self._db.transact(body) if rows else {}

    async def release(self, lease: Lease) -> None:
        """Give a lease back at once; a no-op when it is lost already. Its epoch is never used again."""
        await self._db.transact(lambda tx: give_back(tx, lease))

    async def held_by_prefix(self, prefix: str) -> list[Lease]:
        """Leases that are held now and whose names begin so, by name."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT name, holder, epoch, lease_until_ms FROM leases WHERE substr(name, 1, $2) = $1 "
                "AND lease_until_ms > {now_ms} ORDER BY name",
                prefix,
                len(prefix),
            )
        )
        return [Lease(*row) for row in rows]


async def take(tx: Transaction, name: str, holder: str, lease_ms: int, *, resume: bool = False) -> Lease | None:
    """`LeaseStore.acquire` as a part of a transaction."""
    await tx.execute(
        "INSERT INTO leases (name, holder, epoch, lease_until_ms) VALUES ($1, '', 0, 0) ON CONFLICT (name) DO NOTHING",
        name,
    )
    [(epoch, until, held_by)] = await tx.fetch(
        "SELECT epoch, lease_until_ms, holder FROM leases WHERE name = $1 {for_update}", name
    )
    now = await tx.now_ms()
    if until > now and not (resume and held_by == holder):
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


async def prolong(tx: Transaction, lease: Lease, lease_ms: int) -> Lease:
    """`LeaseStore.renew` as a part of a transaction. Raises LeaseLost."""
    now = await check(tx, lease.name, lease.epoch)
    await tx.execute("UPDATE leases SET lease_until_ms = $2 WHERE name = $1", lease.name, now + lease_ms)
    return replace(lease, lease_until_ms=now + lease_ms)


async def give_back(tx: Transaction, lease: Lease) -> None:
    """`LeaseStore.release` as a part of a transaction."""
    await tx.execute("UPDATE leases SET lease_until_ms = 0 WHERE name = $1 AND epoch = $2", lease.name, lease.epoch)


async def check(tx: Transaction, name: str, epoch: int) -> int:
    """Hold a lease's row to the end of the transaction; returns the database's clock. Raises LeaseLost."""
    rows = await tx.fetch("SELECT epoch, lease_until_ms FROM leases WHERE name = $1 {for_update}", name)
    now = await tx.now_ms()
    if not rows or rows[0][0] != epoch or rows[0][1] <= now:
        raise LeaseLost(f"the lease {name!r} is no longer held under epoch {epoch}: acquire it again")
    return now
