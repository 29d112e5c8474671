"""What the cluster holds, for tools: bytes of shards, the producers whose state is remembered, changes of topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from catalog.database import Columns, Database
from catalog.outcomes import unpack_producer_batches
from catalog.sequence import ShardKey

_TOPIC: Columns = (("topic", "bigint"),)
_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))


class ShardProducer(NamedTuple):
    """An idempotent producer's state on a shard. `updated_ms` is Unix ms by the database's clock, of its last batch."""

    topic: int
    shard: int
    producer_id: int
    epoch: int
    last_sequence: int
    updated_ms: int


class HoldingsStore:
    """Reads of `extents`, `producers` and `counters`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def shard_bytes(self, topics: Sequence[int]) -> dict[ShardKey, int]:
        """Bytes of the record batches of every shard of these topics; empty shards are absent."""
        rows = [(topic,) for topic in topics]
        found = await self._db.snapshot(
            lambda tx: tx.fetch_rows(
                "SELECT e.topic, e.shard, CAST(SUM(e.byte_length) AS BIGINT) FROM {rows} AS r "
                "JOIN extents AS e ON e.topic = r.topic GROUP BY e.topic, e.shard",
                _TOPIC,
                rows,
            )
        )
        return {(topic, shard): int(amount) for topic, shard, amount in found}

    async def producers(self, shards: Sequence[ShardKey]) -> list[ShardProducer]:
        """The producers that these shards remember, by shard and producer id."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch_rows(
                "SELECT p.topic, p.shard, p.producer_id, p.producer_epoch, p.batches, p.updated_ms FROM {rows} AS r "
                "JOIN producers AS p ON p.topic = r.topic AND p.shard = r.shard "
                "ORDER BY p.topic, p.shard, p.producer_id",
                _SHARD,
                list(shards),
            )
        )
        return [_producer(*row) for row in rows]

    async def topic_changes(self) -> int:
        """How many changes of topics there were."""
        [(following,)] = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT next FROM counters WHERE name = 'topic_change'")
        )
        return int(following) - 1


def _producer(topic: int, shard: int, producer_id: int, epoch: int, batches: bytes, updated_ms: int) -> ShardProducer:
    remembered = unpack_producer_batches(bytes(batches))
    last = remembered[-1].last_sequence if remembered else -1
    return ShardProducer(topic, shard, producer_id, epoch, last, updated_ms)
