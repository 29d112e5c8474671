"""The metadata as `neve fsck` reads it, in pages of one snapshot, and the few repairs that can't make anything worse.

Repairs: an object's count of extents is counted anew while its row is held (a removal counts down only behind that lock);
counters are raised, never lowered; rows of a deleted topic's shard go only where the shard's own row is gone, because then
no commit can add to it and no job looks at it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from catalog.database import Database, Row, Transaction
from catalog.sequence import Extent, ShardKey

_EXTENTS = (
    "SELECT e.topic, e.shard, e.offset_first, e.offset_next, e.object_id, e.byte_first, e.byte_length, e.batches, "
    "e.timestamp_max, e.append_ms FROM extents AS e "
)
_OBJECTS = (
    "SELECT o.object_id, o.name, o.bytes, o.extents_live, c.object_id FROM objects AS o "
    "LEFT JOIN condemned AS c ON c.object_id = o.object_id "
)
ID_MAX = 2**63 - 1

COUNTERS: Mapping[str, str] = {
    "agent_epoch": "SELECT MAX(n) FROM (SELECT MAX(epoch) AS n FROM epochs UNION ALL SELECT MAX(object_id >> 32) FROM objects) AS m",
    "topic": "SELECT MAX(topic) FROM topics",
    "topic_change": "SELECT MAX(changed) FROM topics",
    "producer_id": "SELECT MAX(producer_id) FROM producers",
    "ledger": "SELECT MAX(id) FROM ledger",
    "config_change": "SELECT MAX(changed) FROM configs",
    "start_change": "SELECT MAX(start_changed) FROM shards",
}
"""Counter -> the largest number of it that is in use."""


class CounterRow(NamedTuple):
    """A counter's next number and the largest one in use."""

    name: str
    next: int
    used: int


async def extents_after(tx: Transaction, key: tuple[int, int, int], limit: int) -> list[Extent]:
    """The next extents behind (topic, shard, offset_next)."""
    rows = await tx.fetch(
        _EXTENTS
        + "WHERE (e.topic, e.shard, e.offset_next) > ($1, $2, $3) ORDER BY e.topic, e.shard, e.offset_next LIMIT $4",
        *key,
        limit,
    )
    return [Extent._make(row) for row in rows]


async def objects_after(tx: Transaction, object_id: int, limit: int) -> list[Row]:
    """(object_id, name, bytes, extents_live, condemned id or None) of the next objects."""
    return await tx.fetch(_OBJECTS + "WHERE o.object_id > $1 ORDER BY o.object_id LIMIT $2", object_id, limit)


async def extents_in(tx: Transaction, after: int, through: int) -> list[Extent]:
    """Extents that refer to objects in (after, through]; reads all extents there are."""
    rows = await tx.fetch(
        _EXTENTS + "WHERE e.object_id > $1 AND e.object_id <= $2 ORDER BY e.object_id, e.byte_first", after, through
    )
    return [Extent._make(row) for row in rows]


async def counters(tx: Transaction) -> list[CounterRow]:
    """Every counter whose numbers can be looked for."""
    following = {row[0]: row[1] for row in await tx.fetch("SELECT name, next FROM counters")}
    found = []
    for name, sql in COUNTERS.items():
        [(used,)] = await tx.fetch(sql)
        found.append(CounterRow(name, following.get(name, 0), 0 if used is None else int(used)))
    return found


class FsckStore:
    """What is read outside of the snapshot, and repairs."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def objects_of(self, epoch: int) -> tuple[list[Row], dict[int, None]]:
        """Rows of an epoch's objects (as `objects_after`), and the numbers condemned there that the store hasn't confirmed."""
        bounds = (epoch << 32, (epoch + 1) << 32)

        async def body(tx: Transaction) -> tuple[list[Row], dict[int, None]]:
            rows = await tx.fetch(_OBJECTS + "WHERE o.object_id >= $1 AND o.object_id < $2", *bounds)
            waiting = await tx.fetch(
                "SELECT object_id FROM condemned WHERE object_id >= $1 AND object_id < $2 AND deleted_ms IS NULL "
                "AND name <> ''",
                *bounds,
            )
            return rows, {row[0]: None for row in waiting}

        return await self._db.snapshot(body)

    async def epochs_with_extents(self) -> list[int]:
        """Epochs of objects that extents lie in, ascending."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT DISTINCT object_id >> 32 FROM objects WHERE extents_live > 0 ORDER BY 1")
        )
        return [int(row[0]) for row in rows]

    async def epoch(self, epoch: int) -> tuple[int, bool, int | None]:
        """(the next epoch that will be issued, is there a row that isn't retired, ms since it was retired)."""

        async def body(tx: Transaction) -> tuple[int, bool, int | None]:
            [(following,)] = await tx.fetch("SELECT next FROM counters WHERE name = 'agent_epoch'")
            rows = await tx.fetch(
                "SELECT retired, {now_ms} - COALESCE(retired_ms, lease_until_ms) FROM epochs WHERE epoch = $1", epoch
            )
            if not rows:
                return int(following), False, None
            return int(following), not rows[0][0], int(rows[0][1]) if rows[0][0] else None

        return await self._db.snapshot(body)

    async def still_referenced(self, object_id: int) -> bool:
        """Does an object's row count extents now?"""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT 1 FROM objects WHERE object_id = $1 AND extents_live > 0", object_id)
        )
        return bool(rows)

    async def extents_of(self, object_id: int) -> list[Extent]:
        """Extents in one object now; reads all extents there are."""
        return await self._db.snapshot(lambda tx: extents_in(tx, object_id - 1, object_id))

    async def recount(self, object_ids: Sequence[int]) -> int:
        """Count these objects' extents anew; how many rows changed."""

        async def body(tx: Transaction) -> int:
            changed = 0
            for object_id in sorted(object_ids):
                # The lock first: whoever removes extents at this moment counts down behind it.
                await tx.fetch("SELECT 1 FROM objects WHERE object_id = $1 {for_update}", object_id)
                [(count,)] = await tx.fetch("SELECT COUNT(*) FROM extents WHERE object_id = $1", object_id)
                changed += await tx.execute(
                    "UPDATE objects SET extents_live = $2 WHERE object_id = $1 AND extents_live <> $2", object_id, count
                )
            return changed

        return await self._db.transact(body)

    async def raise_counter(self, name: str, above: int) -> None:
        """Let a counter go on above a number; it never goes back."""
        await self._db.transact(
            lambda tx: tx.execute("UPDATE counters SET next = $2 WHERE name = $1 AND next < $2", name, above + 1)
        )

    async def drop_rows_of_deleted(self, key: ShardKey) -> list[int] | None:
        """Drop extents and producers of a deleted topic's shard whose own row is gone; the objects they lay in.

        None where the topic isn't deleted, or the shard has its row: then nothing is done.
        """

        async def body(tx: Transaction) -> list[int] | None:
            topic = await tx.fetch("SELECT deleted_ms FROM topics WHERE topic = $1 {for_update}", key[0])
            shard = await tx.fetch("SELECT 1 FROM shards WHERE topic = $1 AND shard = $2", *key)
            if not topic or topic[0][0] is None or shard:
                return None
            rows = await tx.fetch("SELECT DISTINCT object_id FROM extents WHERE topic = $1 AND shard = $2", *key)
            for table in ("extents", "producers"):
                await tx.execute(f"DELETE FROM {table} WHERE topic = $1 AND shard = $2", *key)
            return [int(row[0]) for row in rows]

        return await self._db.transact(body)
