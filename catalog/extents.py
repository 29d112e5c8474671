"""Where records lie: extents, high watermarks and log starts, each answer from one snapshot.

A `ShardSnapshot` holds what one Fetch answer of a shard needs, read together, so that a reader never serves over a gap:
its extents follow one another without one from the offset asked for. Unknown shards and deleted topics give None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from catalog.database import Columns, Database, Transaction
from catalog.sequence import Extent, ShardKey

_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_QUERY: Columns = (*_SHARD, ("wanted", "bigint"))
_EXTENT_COLUMNS = (
    "e.topic, e.shard, e.offset_first, e.offset_next, e.object_id, e.byte_first, e.byte_length, e.batches, "
    "e.timestamp_max, e.append_ms"
)
_LIVE_SHARDS = (
    "SELECT s.topic, s.shard, s.high_watermark, s.log_start FROM {rows} AS r "
    "JOIN shards AS s ON s.topic = r.topic AND s.shard = r.shard "
    "JOIN topics AS t ON t.topic = s.topic WHERE t.deleted_ms IS NULL"
)
# The inner query finds the last of the $1 rows by the primary key, so that the outer one reads those and no more.
_FIND = (
    f"SELECT {_EXTENT_COLUMNS}, o.name FROM {{rows}} AS r "
    "JOIN extents AS e ON e.topic = r.topic AND e.shard = r.shard AND e.offset_next > r.wanted "
    "AND e.offset_next <= COALESCE((SELECT x.offset_next FROM extents AS x WHERE x.topic = r.topic "
    "AND x.shard = r.shard AND x.offset_next > r.wanted ORDER BY x.offset_next LIMIT 1 OFFSET $1), 9223372036854775807) "
    "JOIN objects AS o ON o.object_id = e.object_id ORDER BY e.topic, e.shard, e.offset_next"
)
# A scan in offset order from the log start that ends at the first hit.
_FIRST_FROM_TIME = (
    f"SELECT {_EXTENT_COLUMNS}, o.name FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id "
    "WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3 AND e.timestamp_max >= $4 "
    "ORDER BY e.offset_next LIMIT 1"
)
_OF_MAX_TIME = (
    f"SELECT {_EXTENT_COLUMNS}, o.name FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id "
    "WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3 "
    "ORDER BY e.timestamp_max DESC, e.offset_next LIMIT 1"
)


class ShardQuery(NamedTuple):
    """From which offset on a shard's extents are wanted, and about how many bytes of them."""

    topic: int
    shard: int
    offset: int
    bytes_max: int = 2**63 - 1


class PlacedExtent(NamedTuple):
    """An extent and the name of the object that holds it."""

    extent: Extent
    object_name: str


class Watermarks(NamedTuple):
    """A shard's bounds: records are in [log_start, high_watermark)."""

    high_watermark: int
    log_start: int


@dataclass(frozen=True, slots=True)
class ShardSnapshot:
    """One shard as it was at one moment. `extents` are contiguous; the first contains the offset asked for. None below the
    high watermark means that their rows are missing: metadata that this program didn't leave so."""

    topic: int
    shard: int
    high_watermark: int
    log_start: int
    extents: tuple[PlacedExtent, ...]


class ExtentStore:
    """Reads of `shards` and `extents`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find_extents(self, queries: Sequence[ShardQuery], rows_max: int) -> list[ShardSnapshot | None]:
        """One snapshot of many shards, in the order of `queries`: at most `rows_max` extents each, up to its byte budget.

        The first extent is given whatever its size. An offset outside [log_start, high_watermark) gives no extents.
        """
        keys = sorted({(query.topic, query.shard) for query in queries})
        wanted = sorted({(query.topic, query.shard, query.offset) for query in queries})
        # With one offset per shard rows are told apart by their shard; a repeated shard is asked for by itself.
        if len(wanted) != len(keys):
            return [(await self.find_extents([query], rows_max))[0] for query in queries]

        async def body(tx: Transaction) -> tuple[dict[ShardKey, Watermarks], dict[ShardKey, list[PlacedExtent]]]:
            bounds = await _bounds(tx, keys)
            inside = [
                row for row in wanted if (at := bounds.get(row[:2])) and at.log_start <= row[2] < at.high_watermark
            ]
            found: dict[ShardKey, list[PlacedExtent]] = {}
            for row in await tx.fetch_rows(_FIND, _QUERY, inside, rows_max - 1):
                found.setdefault((row[0], row[1]), []).append(_placed(row))
            return bounds, found

        bounds, found = await self._db.snapshot(body)
        return [_snapshot(query, bounds, found) for query in queries]

    async def watermarks(self, keys: Sequence[ShardKey]) -> dict[ShardKey, Watermarks]:
        """Bounds of many shards in one query; shards that are gone are absent."""
        return await self._db.snapshot(lambda tx: _bounds(tx, sorted(set(keys))))

    async def first_from_time(self, topic: int, shard: int, timestamp: int, above: int = 0) -> PlacedExtent | None:
        """The first extent that ends above the log start and above `above`, and whose largest timestamp (Unix ms) is at
        least `timestamp`."""
        return await self._one(topic, shard, _FIRST_FROM_TIME, timestamp, above=above)

    async def of_max_time(self, topic: int, shard: int) -> PlacedExtent | None:
        """The first extent that holds the shard's largest timestamp."""
        return await self._one(topic, shard, _OF_MAX_TIME)

    async def _one(self, topic: int, shard: int, sql: str, *args: int, above: int = 0) -> PlacedExtent | None:
        async def body(tx: Transaction) -> PlacedExtent | None:
            bounds = (await _bounds(tx, [(topic, shard)])).get((topic, shard))
            if bounds is None:
                return None
            rows = await tx.fetch(sql, topic, shard, max(bounds.log_start, above), *args)
            return _placed(rows[0]) if rows else None

        return await self._db.snapshot(body)


def _placed(row: Sequence[object]) -> PlacedExtent:
    return PlacedExtent(Extent._make(row[:10]), str(row[10]))


async def _bounds(tx: Transaction, keys: Sequence[ShardKey]) -> dict[ShardKey, Watermarks]:
    rows = await tx.fetch_rows(_LIVE_SHARDS, _SHARD, keys)
    return {(topic, shard): Watermarks(watermark, start) for topic, shard, watermark, start in rows}


def _snapshot(
    query: ShardQuery,
    bounds: Mapping[ShardKey, Watermarks],
    found: Mapping[ShardKey, Sequence[PlacedExtent]],
) -> ShardSnapshot | None:
    """Cut at the byte budget, and at a gap: what lies beyond missing rows is never given, and the shard's readers, who get
    nothing below the high watermark, say so. One damaged shard must not fail those that are read with it."""
    key = (query.topic, query.shard)
    if key not in bounds:
        return None
    taken: list[PlacedExtent] = []
    bytes_taken = 0
    for placed in found.get(key, ()):
        extent = placed.extent
        if taken:
            if extent.offset_first != taken[-1].extent.offset_next or bytes_taken >= query.bytes_max:
                break
        elif extent.offset_first > query.offset:
            break
        taken.append(placed)
        bytes_taken += extent.byte_length
    return ShardSnapshot(*key, *bounds[key], tuple(taken))
