"""Which objects are to be deleted, since when, and which are gone: the table `condemned`.

An object is condemned when nothing refers to it (no extent lies in it, or it was never committed and its epoch is dead),
deleted from the store after a delay, and its rows go when the store has confirmed. Invariants owned here:

- no object with extents is ever condemned, and nothing gives a condemned object extents: the commit transaction refuses it,
  and `condemn` holds the epochs' rows that every commit holds to its end;
- a row of `condemned` stays until the bytes are confirmed gone and the object's epoch is retired; a row of `objects` stays
  until its stored outcome is forgotten: a retry of a commit finds one of them as long as it may come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from catalog.database import Columns, Database, Transaction
from catalog.leases import Lease, check

_ID: Columns = (("object_id", "bigint"),)
_EPOCH: Columns = (("epoch", "bigint"),)
_FOUND: Columns = (("object_id", "bigint"), ("name", "text"), ("bytes", "bigint"))
# Condemned again where it was confirmed gone: a PUT that was given up long ago has landed after all.
_CONDEMN = (
    "INSERT INTO condemned (object_id, name, bytes, condemned_ms) SELECT r.object_id, r.name, r.bytes, {now_ms} "
    "FROM {rows} AS r WHERE true ON CONFLICT (object_id) DO UPDATE SET name = excluded.name, bytes = excluded.bytes, "
    "condemned_ms = excluded.condemned_ms, deleted_ms = NULL WHERE condemned.deleted_ms IS NOT NULL OR condemned.name = ''"
)


class StoredObject(NamedTuple):
    """An object as a listing or its row shows it. `bytes` is its size."""

    object_id: int
    name: str
    bytes: int


class DeletionStore:
    """The table `condemned`, and `objects` as far as nothing lies in them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def condemn_unused(self, limit: int, lease: Lease) -> list[StoredObject]:
        """Condemn committed objects that no extent lies in any more, at most `limit`. Raises LeaseLost."""

        async def body(tx: Transaction) -> list[StoredObject]:
            await check(tx, lease.name, lease.epoch)
            if await on_hold(tx):
                return []
            rows = await tx.fetch(
                "SELECT o.object_id, o.name, o.bytes FROM objects AS o WHERE o.extents_live = 0 AND NOT EXISTS "
                "(SELECT 1 FROM condemned AS c WHERE c.object_id = o.object_id) ORDER BY o.object_id LIMIT $1",
                limit,
            )
            await tx.execute_rows(_CONDEMN, _FOUND, rows)
            return [StoredObject(*row) for row in rows]

        return await self._db.transact(body)

    async def condemn(self, found: Sequence[StoredObject], lease: Lease | None = None) -> list[StoredObject]:
        """Make objects uncommittable before their bytes are deleted; returns those that are not committed, and now condemned.

        Raises LeaseLost where the job's lease is given and lost.
        """

        async def body(tx: Transaction) -> list[StoredObject]:
            if lease is not None:
                await check(tx, lease.name, lease.epoch)
                if await on_hold(tx):
                    return []
            await _lock_epochs(tx, found)
            kept = await _kept(tx, found)
            fresh = [one for one in found if one.object_id not in kept]
            await tx.execute_rows(_CONDEMN, _FOUND, sorted(fresh))
            return fresh

        return await self._db.transact(body)

    async def orphans_in(self, found: Sequence[StoredObject]) -> list[StoredObject]:
        """Those that `condemn` would condemn now."""
        kept = await self._db.snapshot(lambda tx: _kept(tx, found))
        return [one for one in found if one.object_id not in kept]

    async def due(self, delay_ms: int, limit: int) -> list[StoredObject]:
        """Objects condemned longer ago than `delay_ms`, the oldest first.

        None while deletion is on hold; and where the bucket has snapshots of the metadata only what was condemned before the
        newest, because a database that is built from it may refer to the others.
        """
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT c.object_id, c.name, c.bytes FROM condemned AS c WHERE c.deleted_ms IS NULL AND c.name <> '' "
                "AND c.condemned_ms <= {now_ms} - $1 AND NOT EXISTS (SELECT 1 FROM deletion_holds) "
                "AND c.condemned_ms < COALESCE((SELECT MAX(s.covers_ms) FROM bucket_snapshots AS s), 9223372036854775807) "
                "ORDER BY c.condemned_ms, c.object_id LIMIT $2",
                delay_ms,
                limit,
            )
        )
        return [StoredObject(*row) for row in rows]

    async def confirm(self, object_ids: Sequence[int], lease: Lease) -> None:
        """The store has confirmed that these are gone. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            await check(tx, lease.name, lease.epoch)
            await tx.execute_rows(
                "UPDATE condemned SET deleted_ms = {now_ms} FROM {rows} AS r WHERE condemned.object_id = r.object_id",
                _ID,
                [(object_id,) for object_id in sorted(object_ids)],
            )

        await self._db.transact(body)

    async def forget(self, limit: int, lease: Lease) -> int:
        """Drop rows of objects that are confirmed gone and that no commit can name any more. Raises LeaseLost."""

        async def body(tx: Transaction) -> int:
            await check(tx, lease.name, lease.epoch)
            gone = await tx.fetch(
                "SELECT c.object_id FROM condemned AS c JOIN objects AS o ON o.object_id = c.object_id "
                "WHERE c.deleted_ms IS NOT NULL AND o.outcome IS NULL ORDER BY c.object_id LIMIT $1",
                limit,
            )
            await tx.execute_rows(
                "DELETE FROM objects WHERE object_id IN (SELECT r.object_id FROM {rows} AS r)", _ID, gone
            )
            over = await tx.fetch(
                "SELECT c.object_id FROM condemned AS c WHERE c.deleted_ms IS NOT NULL "
                "AND NOT EXISTS (SELECT 1 FROM objects AS o WHERE o.object_id = c.object_id) "
                "AND NOT EXISTS (SELECT 1 FROM epochs AS e WHERE e.epoch = (c.object_id >> 32) AND e.retired = 0) "
                "ORDER BY c.object_id LIMIT $1",
                limit,
            )
            await tx.execute_rows(
                "DELETE FROM condemned WHERE object_id IN (SELECT r.object_id FROM {rows} AS r)", _ID, over
            )
            return max(len(gone), len(over))

        return await self._db.transact(body)

    async def waiting(self) -> tuple[int, int]:
        """(objects, bytes) condemned and not confirmed gone."""
        [(count, size)] = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM condemned WHERE deleted_ms IS NULL")
        )
        return int(count), int(size)


async def on_hold(tx: Transaction) -> bool:
    """Is deletion off until somebody has looked (`neve restore`, `neve fsck`)?"""
    return bool(await tx.fetch("SELECT 1 FROM deletion_holds LIMIT 1"))


async def _lock_epochs(tx: Transaction, found: Sequence[StoredObject]) -> None:
    """Wait for commits in flight: they hold the row of their epoch."""
    epochs = sorted({one.object_id >> 32 for one in found})
    await tx.fetch_rows(
        "SELECT e.epoch FROM {rows} AS r JOIN epochs AS e ON e.epoch = r.epoch ORDER BY e.epoch {for_update:e}",
        _EPOCH,
        [(epoch,) for epoch in epochs],
    )


async def _kept(tx: Transaction, found: Sequence[StoredObject]) -> Mapping[int, None]:
    """Ids of those that are committed, or are condemned and wait for their deletion."""
    rows = await tx.fetch_rows(
        "SELECT r.object_id FROM {rows} AS r LEFT JOIN objects AS o ON o.object_id = r.object_id "
        "LEFT JOIN condemned AS c ON c.object_id = r.object_id "
        "WHERE (c.object_id IS NULL AND o.object_id IS NOT NULL) OR (c.deleted_ms IS NULL AND c.name <> '')",
        _ID,
        [(one.object_id,) for one in found],
    )
    return dict.fromkeys(int(row[0]) for row in rows)
