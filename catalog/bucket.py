"""What the bucket has of the metadata (`bucket_snapshots`), and why nothing may be deleted for now (`deletion_holds`).

Owns: a snapshot's row is written after its object is stored, so the newest row says what a restored database would know at
least; while a hold stands nothing is condemned and no bytes are deleted (`catalog/deletions.py` reads both tables).
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.database import Database, Transaction
from catalog.leases import Lease, check

RESTORED = "restored"
"""The hold that `neve restore` leaves."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot in the bucket. It holds every row as of `covers_ms` (Unix ms, the database's clock)."""

    name: str
    taken_ms: int
    covers_ms: int
    bytes: int
    digest: str


class BucketStore:
    """The tables `bucket_snapshots` and `deletion_holds`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def newest(self) -> StoredSnapshot | None:
        """The newest snapshot that is known to be stored."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT name, taken_ms, covers_ms, bytes, digest FROM bucket_snapshots ORDER BY covers_ms DESC LIMIT 1"
            )
        )
        return StoredSnapshot(*rows[0]) if rows else None

    async def stored(self, snapshot: StoredSnapshot, lease: Lease) -> None:
        """A snapshot is in the bucket, or covers a later moment because nothing has changed. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            await check(tx, lease.name, lease.epoch)
            await tx.execute(
                "INSERT INTO bucket_snapshots (name, taken_ms, covers_ms, bytes, digest) VALUES ($1, $2, $3, $4, $5) "
                "ON CONFLICT (name) DO UPDATE SET covers_ms = excluded.covers_ms",
                snapshot.name,
                snapshot.taken_ms,
                snapshot.covers_ms,
                snapshot.bytes,
                snapshot.digest,
            )

        await self._db.transact(body)

    async def forget(self, names: list[str], lease: Lease) -> None:
        """These snapshots are gone from the bucket. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            await check(tx, lease.name, lease.epoch)
            for name in names:
                await tx.execute("DELETE FROM bucket_snapshots WHERE name = $1", name)

        await self._db.transact(body)

    async def forget_all(self) -> None:
        """No snapshots are made any more: deletion doesn't wait for them."""
        await self._db.transact(lambda tx: tx.execute("DELETE FROM bucket_snapshots"))

    async def holds(self) -> list[tuple[str, str]]:
        """(name, reason) of what keeps deletion off."""
        rows = await self._db.snapshot(lambda tx: tx.fetch("SELECT name, reason FROM deletion_holds ORDER BY name"))
        return [(row[0], row[1]) for row in rows]

    async def lift(self) -> int:
        """Let deletion go on; how many holds there were."""
        return await self._db.transact(lambda tx: tx.execute("DELETE FROM deletion_holds"))
