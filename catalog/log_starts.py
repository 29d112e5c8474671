"""Log starts: raised by retention and DeleteRecords, followed by every agent. What lies below them is removed later.

Invariants owned here: a log start never goes back and never passes the high watermark; numbers of changes become visible
in their order, so whoever asks for what changed since the last number misses nothing.

Lock order: (lease) -> shards sorted -> counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from catalog.counters import take
from catalog.database import Columns, Database, Transaction
from catalog.leases import Lease, check
from catalog.sequence import UNKNOWN_TOPIC_OR_PARTITION, ShardKey

OFFSET_OUT_OF_RANGE = 1
TO_HIGH_WATERMARK = -1
"""As an offset: everything there is."""

_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_START: Columns = (*_SHARD, ("log_start", "bigint"))
_LOCK = (
    "SELECT s.topic, s.shard, s.high_watermark, s.log_start FROM {rows} AS r "
    "JOIN shards AS s ON s.topic = r.topic AND s.shard = r.shard "
    "JOIN topics AS t ON t.topic = s.topic WHERE t.deleted_ms IS NULL ORDER BY s.topic, s.shard {for_update:s}"
)


class LogStart(NamedTuple):
    """The log start of a shard as of change number `changed`."""

    topic: int
    shard: int
    log_start: int
    changed: int


class Raised(NamedTuple):
    """What became of one wish to delete records: a Kafka error, or the log start in force (-1 on error)."""

    error: int
    log_start: int


class LogStartStore:
    """The column `shards.log_start`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def delete_records(self, wanted: Mapping[ShardKey, int]) -> dict[ShardKey, Raised]:
        """Raise log starts to these offsets (-1: the high watermark), each shard by itself.

        An offset below 0 or above the high watermark is OFFSET_OUT_OF_RANGE, one below the log start changes nothing.
        """

        async def body(tx: Transaction) -> dict[ShardKey, Raised]:
            found = await _lock(tx, sorted(wanted))
            answers: dict[ShardKey, Raised] = {}
            starts: dict[ShardKey, int] = {}
            for key, offset in wanted.items():
                if key not in found:
                    answers[key] = Raised(UNKNOWN_TOPIC_OR_PARTITION, -1)
                    continue
                high_watermark, log_start = found[key]
                target = high_watermark if offset == TO_HIGH_WATERMARK else offset
                if not 0 <= target <= high_watermark:
                    answers[key] = Raised(OFFSET_OUT_OF_RANGE, -1)
                    continue
                answers[key] = Raised(0, max(target, log_start))
                if target > log_start:
                    starts[key] = target
            await _write(tx, starts)
            return answers

        return await self._db.transact(body)

    async def advance(self, starts: Mapping[ShardKey, int], lease: Lease) -> int:
        """Raise log starts as retention found; no further than the high watermark. Returns how many moved. Raises LeaseLost."""

        async def body(tx: Transaction) -> int:
            await check(tx, lease.name, lease.epoch)
            found = await _lock(tx, sorted(starts))
            moved = {
                key: min(starts[key], high_watermark)
                for key, (high_watermark, log_start) in found.items()
                if min(starts[key], high_watermark) > log_start
            }
            await _write(tx, moved)
            return len(moved)

        return await self._db.transact(body) if starts else 0

    async def newest_change(self) -> int:
        """The number of the newest change that is visible."""
        rows = await self._db.snapshot(lambda tx: tx.fetch("SELECT next - 1 FROM counters WHERE name = 'start_change'"))
        return int(rows[0][0])

    async def changed_since(self, changed: int, limit: int) -> list[LogStart]:
        """Shards whose log start was last raised after that number, in that order; at most about `limit`."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT s.topic, s.shard, s.log_start, s.start_changed FROM shards AS s "
                "WHERE s.start_changed > $1 AND s.start_changed > 0 ORDER BY s.start_changed LIMIT $2",
                changed,
                limit,
            )
        )
        return [LogStart(*row) for row in rows]


async def _lock(tx: Transaction, keys: Sequence[ShardKey]) -> dict[ShardKey, tuple[int, int]]:
    rows = await tx.fetch_rows(_LOCK, _SHARD, keys)
    return {(topic, shard): (high_watermark, log_start) for topic, shard, high_watermark, log_start in rows}


async def _write(tx: Transaction, starts: Mapping[ShardKey, int]) -> None:
    """Every shard gets a number of its own, so that an answer cut at a limit can be gone on from."""
    if not starts:
        return
    first = await take(tx, "start_change", len(starts))
    await tx.execute_rows(
        "UPDATE shards SET log_start = r.log_start, start_changed = r.changed FROM {rows} AS r "
        "WHERE shards.topic = r.topic AND shards.shard = r.shard",
        (*_START, ("changed", "bigint")),
        [(*key, starts[key], first + at) for at, key in enumerate(sorted(starts))],
    )
