"""The cluster's identity as the database carries it: one row, written once."""

from __future__ import annotations

from catalog.database import Database, Transaction


class ClusterStore:
    """The `cluster` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self) -> str | None:
        """The cluster id, or None in an empty database."""
        rows = await self._db.snapshot(lambda tx: tx.fetch("SELECT cluster_id FROM cluster"))
        return str(rows[0][0]) if rows else None

    async def get_or_create(self, candidate: str) -> str:
        """The cluster id; `candidate` becomes it in an empty database. All who race get the same answer."""

        async def body(tx: Transaction) -> str:
            await tx.execute(
                "INSERT INTO cluster (one, cluster_id, created_ms) VALUES (1, $1, {now_ms}) ON CONFLICT (one) DO NOTHING",
                candidate,
            )
            [(cluster_id,)] = await tx.fetch("SELECT cluster_id FROM cluster")
            return str(cluster_id)

        return await self._db.transact(body)
