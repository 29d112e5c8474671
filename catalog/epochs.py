"""Agent epochs: issued once, leased by the database's clock, rotated, retired for ever.

Invariants: an epoch number is never issued twice; a lease that has run out can't be renewed; once an epoch is retired
no commit under it lands any more, because commits and `retire` take the same row lock (see catalog/commits.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.counters import take
from catalog.database import Database, Transaction


@dataclass(frozen=True, slots=True)
class EpochLease:
    """One issued epoch. Times are Unix ms by the database's clock; compare them only with each other."""

    epoch: int
    issued_ms: int
    lease_until_ms: int


class EpochStore:
    """The `epochs` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def issue(self, instance: str, lease_ms: int) -> EpochLease:
        """A fresh epoch, leased for `lease_ms`."""

        async def body(tx: Transaction) -> EpochLease:
            epoch = await take(tx, "agent_epoch")
            now = await tx.now_ms()
            await tx.execute(
                "INSERT INTO epochs (epoch, instance, issued_ms, lease_until_ms) VALUES ($1, $2, $3, $4)",
                epoch,
                instance,
                now,
                now + lease_ms,
            )
            return EpochLease(epoch, now, now + lease_ms)

        return await self._db.transact(body)

    async def renew(self, epoch: int, lease_ms: int) -> EpochLease | None:
        """The lease prolonged to `lease_ms` from now; None where it is lost (run out or retired): take a new epoch."""

        async def body(tx: Transaction) -> EpochLease | None:
            # The lock first, then the clock: waiting for a commit must not make a lease look younger than it is.
            rows = await tx.fetch(
                "SELECT issued_ms, lease_until_ms, retired FROM epochs WHERE epoch = $1 {for_update}", epoch
            )
            now = await tx.now_ms()
            if not rows or rows[0][2] or rows[0][1] <= now:
                return None
            await tx.execute("UPDATE epochs SET lease_until_ms = $2 WHERE epoch = $1", epoch, now + lease_ms)
            return EpochLease(epoch, rows[0][0], now + lease_ms)

        return await self._db.transact(body)

    async def retire(self, epoch: int) -> None:
        """End an epoch for ever; returns when no commit under it is in flight any more."""
        await self._db.transact(
            lambda tx: tx.execute(
                "UPDATE epochs SET retired = 1, retired_ms = COALESCE(retired_ms, {now_ms}) WHERE epoch = $1", epoch
            )
        )

    async def retire_lapsed(self) -> list[int]:
        """Retire every epoch whose lease has run out; returns them. Only then are they dead, and their orphans too."""

        async def body(tx: Transaction) -> list[int]:
            rows = await tx.fetch(
                "SELECT epoch FROM epochs WHERE retired = 0 AND lease_until_ms <= {now_ms} ORDER BY epoch {for_update}"
            )
            await tx.execute_rows(
                "UPDATE epochs SET retired = 1, retired_ms = {now_ms} FROM {rows} AS r "
                "WHERE epochs.epoch = r.epoch AND lease_until_ms <= {now_ms}",
                (("epoch", "bigint"),),
                [(epoch,) for (epoch,) in rows],
            )
            return [epoch for (epoch,) in rows]

        return await self._db.transact(body)

    async def live(self, epoch: int) -> bool:
        """True while the epoch is neither retired nor past its lease."""

        async def body(tx: Transaction) -> bool:
            rows = await tx.fetch(
                "SELECT 1 FROM epochs WHERE epoch = $1 AND retired = 0 AND lease_until_ms > {now_ms}", epoch
            )
            return bool(rows)

        return await self._db.snapshot(body)
