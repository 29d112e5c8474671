"""Retired agent epochs as the sweeper of orphans sees them: when their objects are listed next, and when for the last time.

Objects below a dead epoch that were never committed can't be any more. They are listed again and again over a day, at
growing intervals, because a PUT that was given up may land late. Then the epoch's row goes: a commit without it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.database import Database, Transaction
from catalog.leases import Lease, check


@dataclass(frozen=True, slots=True)
class DeadEpoch:
    """A retired epoch whose objects are to be listed now. `last` is true where they are listed for the last time."""

    epoch: int
    retired_ms: int
    last: bool


class DeadEpochStore:
    """The retired rows of `epochs`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def due(self, delay_ms: int, sweep_ms: int, limit: int) -> list[DeadEpoch]:
        """Epochs retired at least `delay_ms` ago whose next listing is due, the oldest first."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT e.epoch, COALESCE(e.retired_ms, e.lease_until_ms), {now_ms} FROM epochs AS e "
                "WHERE e.retired = 1 AND COALESCE(e.sweep_ms, COALESCE(e.retired_ms, e.lease_until_ms) + $1) <= {now_ms} "
                "ORDER BY e.epoch LIMIT $2",
                delay_ms,
                limit,
            )
        )
        return [DeadEpoch(epoch, retired_ms, now_ms - retired_ms >= sweep_ms) for epoch, retired_ms, now_ms in rows]

    async def swept(self, epoch: DeadEpoch, lease: Lease) -> None:
        """Its objects were listed and judged, all of them: again when twice the time has passed, or never. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            now_ms = await check(tx, lease.name, lease.epoch)
            if epoch.last:
                await tx.execute("DELETE FROM epochs WHERE epoch = $1 AND retired = 1", epoch.epoch)
            else:
                again_ms = now_ms + max(1, now_ms - epoch.retired_ms)
                await tx.execute("UPDATE epochs SET sweep_ms = $2 WHERE epoch = $1", epoch.epoch, again_ms)

        await self._db.transact(body)
