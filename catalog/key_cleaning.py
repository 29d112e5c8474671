"""How far the logs of compacted topics are compacted by key, and what of them waits.

Owns: `touched_through` is raised before anything below it is rewritten, so whoever compares a log with something else knows
which part of it may lack records; `cleaned_through` only when all below it is done. Both only grow. Written under the lease
of the one job that compacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from catalog.database import Columns, Database, Transaction
from catalog.leases import Lease, check
from catalog.outcomes import unpack_producer_batches
from catalog.sequence import ShardKey

_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_TIME = "CASE WHEN e.timestamp_max >= 0 THEN e.timestamp_max ELSE o.committed_ms END"
_STATE = (
    "SELECT s.high_watermark, s.log_start, k.cleaned_through, k.dirty_since_ms FROM shards AS s "
    "JOIN topics AS t ON t.topic = s.topic LEFT JOIN key_cleaning AS k ON k.topic = s.topic AND k.shard = s.shard "
    "WHERE s.topic = $1 AND s.shard = $2 AND t.deleted_ms IS NULL"
)
_YOUNG = (
    "SELECT MIN(e.offset_first) FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id "
    "WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3 "
    f"AND (o.committed_ms > $4 OR {_TIME} > $5)"
)
_BYTES = (
    "SELECT COALESCE(SUM(CASE WHEN e.offset_next <= $4 THEN e.byte_length ELSE 0 END), 0), "
    "COALESCE(SUM(CASE WHEN e.offset_next > $4 AND e.offset_next <= $5 THEN e.byte_length ELSE 0 END), 0), "
    "MAX(CASE WHEN e.offset_next <= $5 THEN e.offset_next ELSE 0 END), "
    f"MIN(CASE WHEN e.offset_next > $4 THEN {_TIME} END) "
    "FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id "
    "WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3"
)
_OLDEST_DIRTY = (
    f"SELECT MIN({_TIME}) FROM extents AS e JOIN objects AS o ON o.object_id = e.object_id "
    "WHERE e.topic = $1 AND e.shard = $2 AND e.offset_next > $3"
)
_PRODUCERS = (
    "SELECT producer_id, producer_epoch, batches FROM producers WHERE topic = $1 AND shard = $2 ORDER BY producer_id"
)


class LogBounds(NamedTuple):
    """What must not be compacted yet. `offset_max`: nothing at or above it. Times in ms, by the database's clock."""

    offset_max: int
    tail_ms: int
    """Extents committed less than this ago stay."""
    lag_ms: int
    """Extents with a record younger than this stay."""


@dataclass(frozen=True, slots=True)
class Dirt:
    """A compacted log as one snapshot shows it. Times are Unix ms."""

    now_ms: int
    log_start: int
    dirty_first: int
    """The first offset that isn't compacted yet."""
    cleanable_next: int
    """Behind the last extent that may be compacted now; `dirty_first` or less where there is none."""
    clean_bytes: int
    cleanable_bytes: int
    dirty_since_ms: int | None
    """The oldest of what isn't compacted yet, whether it may be or not; None where there is nothing."""


class ProducerEntry(NamedTuple):
    """A producer that is remembered: its epoch, and where its newest batch begins (None: it has none)."""

    producer_id: int
    epoch: int
    offset: int | None


class Cleaned(NamedTuple):
    """How far a shard is."""

    cleaned_through: int
    touched_through: int
    cleaned_ms: int | None


class KeyCleaningStore:
    """The table `key_cleaning`, and reads of `extents` and `producers` for it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def dirt(self, key: ShardKey, bounds: LogBounds) -> Dirt | None:
        """What a shard's log has to be compacted; None where it is gone. Reads all its extents."""

        async def body(tx: Transaction) -> Dirt | None:
            rows = await tx.fetch(_STATE, *key)
            if not rows:
                return None
            high, start, cleaned, since = rows[0]
            now_ms = await tx.now_ms()
            dirty_first = max(cleaned or 0, start)
            [(young,)] = await tx.fetch(_YOUNG, *key, dirty_first, now_ms - bounds.tail_ms, now_ms - bounds.lag_ms)
            limit = min(high, bounds.offset_max, high if young is None else young)
            [(clean, cleanable, end, oldest)] = await tx.fetch(_BYTES, *key, start, dirty_first, limit)
            known = [one for one in (since, oldest) if one is not None]
            return Dirt(
                now_ms,
                start,
                dirty_first,
                end or 0,
                int(clean),
                int(cleanable),
                min(known) if oldest is not None else None,
            )

        return await self._db.snapshot(body)

    async def producers(self, key: ShardKey) -> list[ProducerEntry]:
        """The producers that the shard remembers. Ask after `dirt`: a producer's last batch is then not below without it."""
        rows = await self._db.snapshot(lambda tx: tx.fetch(_PRODUCERS, *key))
        return [_producer(*row) for row in rows]

    async def states(self, keys: Sequence[ShardKey]) -> dict[ShardKey, Cleaned]:
        """How far shards are; those never compacted are absent."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch_rows(
                "SELECT k.topic, k.shard, k.cleaned_through, k.touched_through, k.cleaned_ms FROM {rows} AS r "
                "JOIN key_cleaning AS k ON k.topic = r.topic AND k.shard = r.shard",
                _SHARD,
                sorted(set(keys)),
            )
        )
        return {(row[0], row[1]): Cleaned(row[2], row[3], row[4]) for row in rows}

    async def note_dirty(self, key: ShardKey, since_ms: int, lease: Lease) -> None:
        """Remember since when something waits, so that merging extents can't make it younger. Raises LeaseLost."""
        await self._write(
            "INSERT INTO key_cleaning (topic, shard, dirty_since_ms) VALUES ($1, $2, $3) ON CONFLICT (topic, shard) "
            "DO UPDATE SET dirty_since_ms = $3 WHERE COALESCE(key_cleaning.dirty_since_ms, $3 + 1) > $3",
            key, since_ms, lease,
        )  # fmt: skip

    async def begin(self, key: ShardKey, through: int, lease: Lease) -> None:
        """Records below `through` are about to be removed. Raises LeaseLost."""
        await self._write(
            "INSERT INTO key_cleaning (topic, shard, touched_through) VALUES ($1, $2, $3) ON CONFLICT (topic, shard) "
            "DO UPDATE SET touched_through = $3 WHERE key_cleaning.touched_through < $3",
            key, through, lease,
        )  # fmt: skip

    async def finish(self, key: ShardKey, through: int, lease: Lease) -> None:
        """All below `through` is compacted. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            now_ms = await check(tx, lease.name, lease.epoch)
            [(oldest,)] = await tx.fetch(_OLDEST_DIRTY, *key, through)
            await tx.execute(
                "UPDATE key_cleaning SET cleaned_through = $3, dirty_since_ms = $4, cleaned_ms = $5 "
                "WHERE topic = $1 AND shard = $2 AND cleaned_through <= $3 AND touched_through >= $3",
                *key,
                through,
                oldest,
                now_ms,
            )

        await self._db.transact(body)

    async def _write(self, sql: str, key: ShardKey, number: int, lease: Lease) -> None:
        async def body(tx: Transaction) -> None:
            await check(tx, lease.name, lease.epoch)
            await tx.execute(sql, *key, number)

        await self._db.transact(body)


def _producer(producer_id: int, epoch: int, batches: bytes) -> ProducerEntry:
    remembered = unpack_producer_batches(bytes(batches))
    return ProducerEntry(producer_id, epoch, remembered[-1].offset if remembered else None)
