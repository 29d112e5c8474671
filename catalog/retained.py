"""What the log still holds: the oldest extents of every shard, and the removal of those that lie below its log start.

Written by one leased job alone. Invariants owned here: an extent of a live topic is removed only where it ends at or below
the log start; whatever is removed is counted off its object in the same transaction, so `objects.extents_live` is always
the number of extents that refer to it; a deleted topic's shard goes when no commit can add to it any more. Compaction
replaces extents meanwhile: those to be removed are locked first, then their objects, both in order, as it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from catalog.database import Columns, Database, Row, Transaction
from catalog.deletions import on_hold
from catalog.leases import Lease, check
from catalog.sequence import ShardKey

_ID: Columns = (("object_id", "bigint"),)
_RELEASED: Columns = (("object_id", "bigint"), ("extents", "integer"))
_HEAD: Columns = (("topic", "bigint"), ("shard", "integer"), ("offset_next", "bigint"))
_SHARDS = (
    "SELECT s.topic, s.shard, s.high_watermark, s.log_start, (SELECT MIN(x.offset_next) FROM extents AS x "
    "WHERE x.topic = s.topic AND x.shard = s.shard) FROM shards AS s "
    "WHERE (s.topic, s.shard) > ($1, $2) ORDER BY s.topic, s.shard LIMIT $3"
)
_HEADS = (
    "SELECT e.topic, e.shard, e.timestamp_max, o.committed_ms FROM {rows} AS r "
    "JOIN extents AS e ON e.topic = r.topic AND e.shard = r.shard AND e.offset_next = r.offset_next "
    "JOIN objects AS o ON o.object_id = e.object_id"
)
_OLDEST = (
    "SELECT e.offset_next, e.timestamp_max, o.committed_ms, e.byte_length FROM extents AS e "
    "JOIN objects AS o ON o.object_id = e.object_id WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3 "
    "ORDER BY e.offset_next LIMIT $4"
)
_BELOW = (
    "SELECT e.offset_next, e.object_id, e.byte_length FROM extents AS e WHERE e.topic = $1 AND e.shard = $2 "
    "AND e.offset_next <= COALESCE((SELECT s.log_start FROM shards AS s JOIN topics AS t ON t.topic = s.topic "
    "WHERE s.topic = $1 AND s.shard = $2 AND t.deleted_ms IS NULL), 9223372036854775807) "
    "ORDER BY e.offset_next LIMIT $3 {for_update:e}"
)
_SIZE = (
    "SELECT COALESCE(SUM(w.byte_length), 0), MAX(w.offset_next), COUNT(*), MIN(w.offset_first) FROM "
    "(SELECT e.byte_length, e.offset_next, e.offset_first FROM extents AS e WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3 ORDER BY e.offset_next LIMIT $4) AS w"
)


class OldExtent(NamedTuple):
    """One of a shard's oldest extents. Times are Unix ms."""

    offset_next: int
    timestamp_ms: int
    """Its newest record's, or when it was committed where no record has a time."""
    committed_ms: int
    bytes: int


class ShardHead(NamedTuple):
    """A shard with its oldest extent; `oldest_next` is None where it has none."""

    topic: int
    shard: int
    high_watermark: int
    log_start: int
    oldest_next: int | None
    oldest_ms: int
    """Time of that extent's newest record."""


class Trimmed(NamedTuple):
    """What one step removed of a shard: everything that ended up to `through`; and whether there may be more."""

    extents: int
    bytes: int
    through: int
    more: bool


class Size(NamedTuple):
    """Bytes of a shard's next extents, the offsets they cover, and whether there may be more behind them."""

    bytes: int
    offset_first: int
    offset_next: int
    more: bool


class RetainedStore:
    """Reads and removals of old rows of `extents`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def heads(self, after: ShardKey, limit: int) -> tuple[int, list[ShardHead]]:
        """The database's clock, and the next shards behind `after`, those of deleted topics too, each with its oldest extent."""

        async def body(tx: Transaction) -> tuple[int, list[ShardHead]]:
            shards = await tx.fetch(_SHARDS, *after, limit)
            heads = [(row[0], row[1], row[4]) for row in shards if row[4] is not None]
            times = {(row[0], row[1]): _time(row[2], row[3]) for row in await tx.fetch_rows(_HEADS, _HEAD, heads)}
            found = [
                ShardHead(topic, shard, high, start, oldest, times.get((topic, shard), 0))
                for topic, shard, high, start, oldest in shards
            ]
            return await tx.now_ms(), found

        return await self._db.snapshot(body)

    async def oldest(self, key: ShardKey, above: int, limit: int) -> list[OldExtent]:
        """The oldest extents that end above this offset."""
        rows = await self._db.snapshot(lambda tx: tx.fetch(_OLDEST, *key, above, limit))
        return [
            OldExtent(next_, _time(timestamp, committed), committed, size) for next_, timestamp, committed, size in rows
        ]

    async def size(self, key: ShardKey, above: int, limit: int) -> Size:
        """Of the next extents that end above this offset."""
        [(size, end, count, first)] = await self._db.snapshot(lambda tx: tx.fetch(_SIZE, *key, above, limit))
        if end is None:
            return Size(0, above, above, False)
        return Size(int(size), int(first), int(end), count == limit)

    async def trim(self, key: ShardKey, limit: int, lease: Lease) -> Trimmed:
        """Remove the oldest extents below the log start (all, of a deleted topic), at most `limit`. Raises LeaseLost."""

        async def body(tx: Transaction) -> Trimmed:
            await check(tx, lease.name, lease.epoch)
            if await on_hold(tx):
                return Trimmed(0, 0, 0, False)
            rows = await tx.fetch(_BELOW, *key, limit)
            await _remove(tx, key, rows)
            through = rows[-1][0] if rows else 0
            return Trimmed(len(rows), sum(row[2] for row in rows), through, len(rows) == limit)

        return await self._db.transact(body)

    async def drop_shard(self, key: ShardKey, lease: Lease) -> bool:
        """Drop a deleted topic's shard with what was known of it; False while it has extents. Raises LeaseLost.

        Its row is locked first: a commit that still saw the topic has ended by then, and none can come after.
        """

        async def body(tx: Transaction) -> bool:
            await check(tx, lease.name, lease.epoch)
            locked = await tx.fetch(
                "SELECT s.shard FROM shards AS s JOIN topics AS t ON t.topic = s.topic "
                "WHERE s.topic = $1 AND s.shard = $2 AND t.deleted_ms IS NOT NULL {for_update:s}",
                *key,
            )
            where = "WHERE topic = $1 AND shard = $2"
            if not locked or await tx.fetch(f"SELECT 1 FROM extents {where} LIMIT 1", *key):
                return False
            for table in ("producers", "key_cleaning", "shards"):
                await tx.execute(f"DELETE FROM {table} {where}", *key)
            return True

        return await self._db.transact(body)


def _time(timestamp: int, committed_ms: int) -> int:
    """As Kafka judges a segment: by its largest timestamp, or by when it was written where its records have none."""
    return timestamp if timestamp >= 0 else committed_ms


async def _remove(tx: Transaction, key: ShardKey, rows: Sequence[Row]) -> None:
    if not rows:
        return
    await tx.execute("DELETE FROM extents WHERE topic = $1 AND shard = $2 AND offset_next <= $3", *key, rows[-1][0])
    released = Counter(row[1] for row in rows)
    await tx.fetch_rows(
        "SELECT o.object_id FROM {rows} AS r JOIN objects AS o ON o.object_id = r.object_id "
        "ORDER BY o.object_id {for_update:o}",
        _ID,
        [(object_id,) for object_id in sorted(released)],
    )
    await tx.execute_rows(
        "UPDATE objects SET extents_live = extents_live - r.extents FROM {rows} AS r "
        "WHERE objects.object_id = r.object_id",
        _RELEASED,
        sorted(released.items()),
    )
