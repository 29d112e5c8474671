"""A lost database, written again in one transaction: a snapshot's rows, what was journalled since, and numbers that go on
above anything that may have been issued.

Owns: an empty database is filled wholly or not at all, one that holds a cluster is refused; deletion is on hold afterwards;
every agent epoch that left objects in the bucket stands as retired, so that nothing of before can be committed, and the
sweeper of orphans finds what is left, once the hold is lifted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from catalog.bucket import RESTORED
from catalog.database import Columns, Database, DatabaseError, Transaction
from catalog.dump import load, shapes
from catalog.outcomes import pack_producer_batches
from catalog.sequence import Extent, ProducerKey, ProducerState, ShardKey, ShardState
from schemas.snapshot import Table

NUMBERS_SKIPPED = 1 << 20
"""Every counter and fencing epoch goes on this far above what is known: more than can be issued between two snapshots."""
EPOCHS_SKIPPED = 1 << 10
"""Agent epochs go on so far above the largest in the bucket; they have 31 bits."""
PRODUCER_IDS_SKIPPED = 1 << 32
ROWS = 5_000
_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_EXTENT: Columns = (
    *_SHARD, ("offset_first", "bigint"), ("offset_next", "bigint"), ("object_id", "bigint"), ("byte_first", "bigint"),
    ("byte_length", "integer"), ("batches", "integer"), ("timestamp_max", "bigint"), ("append_ms", "bigint"),
)  # fmt: skip
_OBJECT: Columns = (
    ("object_id", "bigint"), ("name", "text"), ("bytes", "bigint"), ("committed_ms", "bigint"), ("extents_live", "integer"),
)  # fmt: skip
_PRODUCER: Columns = (
    *_SHARD, ("producer_id", "bigint"), ("producer_epoch", "integer"), ("batches", "blob"), ("updated_ms", "bigint"),
)  # fmt: skip
_LEDGER_END = "SELECT COALESCE(MAX(offset_next), -1) FROM ledger WHERE topic = $1 AND kind = $2 AND shard = $3 AND state <> 'abandoned'"


class NotEmpty(DatabaseError):
    """The database holds a cluster already: nothing was changed."""


@dataclass(slots=True)
class Rows:
    """What is written besides the snapshot's tables."""

    cluster_id: str
    tables: Sequence[Table]
    topics: Sequence[Sequence[object]]
    """Journalled topics, as `journal_topics` reads them; newer than the snapshot's."""
    shards: Mapping[ShardKey, ShardState]
    objects: Sequence[tuple[int, str, int, int, int]]
    extents: Sequence[Extent]
    producers: Mapping[ProducerKey, tuple[ProducerState, int]]
    epochs: Sequence[int]
    """Agent epochs that have objects in the bucket."""
    epoch_next: int
    topic_max: int
    fence: int
    """The largest fencing epoch that a table names."""
    marks: Sequence[tuple[str, str, Mapping[int, int]]] = field(default_factory=list)
    """(topic id, kind, watermark) of every table."""


async def restore(db: Database, rows: Rows) -> None:
    """Write everything. Raises NotEmpty."""

    async def body(tx: Transaction) -> None:
        if await tx.fetch("SELECT 1 FROM cluster"):
            raise NotEmpty(
                "the metadata database holds a cluster already: restore into an empty one. Nothing was changed"
            )
        known = {shape.name: shape for shape in await shapes(tx, db.dialect)}
        for table in rows.tables:
            await load(tx, known, table)
        await _topics(tx, rows)
        await _logs(tx, rows)
        await _numbers(tx, rows)
        await _ledger(tx, rows)
        await tx.execute(
            "INSERT INTO deletion_holds (name, reason, since_ms) VALUES ($1, $2, {now_ms})",
            RESTORED,
            "the database was restored: run `neve fsck --deep`, then `neve fsck --repair`",
        )
        await tx.execute("INSERT INTO cluster (one, cluster_id, created_ms) VALUES (1, $1, {now_ms})", rows.cluster_id)

    await db.transact(body)


async def _topics(tx: Transaction, rows: Rows) -> None:
    # Deleted ones first: a topic made again under the same name must find it free.
    for row in sorted(rows.topics, key=lambda row: row[6] is None):
        topic, topic_id, name, shards, config, created_ms, deleted_ms, tables, changed = row
        await tx.execute("DELETE FROM topics WHERE topic = $1", topic)
        await tx.execute(
            "INSERT INTO topics (topic, topic_id, name, shards, config, created_ms, deleted_ms, changed) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            topic, topic_id, name, shards, config, created_ms, deleted_ms, changed,
        )  # fmt: skip
        assert isinstance(tables, list)
        for folded, kind, table in tables:
            await tx.execute(
                "INSERT INTO table_names (folded, topic, kind, name) VALUES ($1, $2, $3, $4) ON CONFLICT (folded) DO NOTHING",
                folded, topic, kind, table,
            )  # fmt: skip
        assert isinstance(shards, int)
        if deleted_ms is None:
            await tx.execute_rows(
                "INSERT INTO shards (topic, shard, high_watermark, log_start, append_ms) "
                "SELECT $1, r.shard, 0, 0, -1 FROM {rows} AS r WHERE true ON CONFLICT (topic, shard) DO NOTHING",
                (("shard", "integer"),),
                [(shard,) for shard in range(shards)],
                topic,
            )


async def _logs(tx: Transaction, rows: Rows) -> None:
    await _in_steps(
        tx,
        "UPDATE shards SET high_watermark = r.high_watermark, append_ms = r.append_ms FROM {rows} AS r "
        "WHERE shards.topic = r.topic AND shards.shard = r.shard",
        (*_SHARD, ("high_watermark", "bigint"), ("append_ms", "bigint")),
        [(*key, state.high_watermark, state.append_ms) for key, state in rows.shards.items()],
    )
    await _in_steps(
        tx,
        "INSERT INTO objects (object_id, name, bytes, committed_ms, outcome, extents_live) "
        "SELECT r.object_id, r.name, r.bytes, r.committed_ms, NULL, r.extents_live FROM {rows} AS r",
        _OBJECT,
        rows.objects,
    )
    await _in_steps(
        tx,
        "INSERT INTO extents (topic, shard, offset_first, offset_next, object_id, byte_first, byte_length, batches, "
        "timestamp_max, append_ms) SELECT r.topic, r.shard, r.offset_first, r.offset_next, r.object_id, r.byte_first, "
        "r.byte_length, r.batches, r.timestamp_max, r.append_ms FROM {rows} AS r",
        _EXTENT,
        rows.extents,
    )
    await _in_steps(
        tx,
        "INSERT INTO producers (topic, shard, producer_id, producer_epoch, batches, updated_ms) "
        "SELECT r.topic, r.shard, r.producer_id, r.producer_epoch, r.batches, r.updated_ms FROM {rows} AS r WHERE true "
        "ON CONFLICT (topic, shard, producer_id) DO UPDATE SET producer_epoch = excluded.producer_epoch, "
        "batches = excluded.batches, updated_ms = excluded.updated_ms",
        _PRODUCER,
        [
            (*key, state.epoch, pack_producer_batches(state.batches), at_ms)
            for key, (state, at_ms) in rows.producers.items()
        ],
    )


async def _numbers(tx: Transaction, rows: Rows) -> None:
    """Counters and epochs go on above anything that may have been issued."""
    await tx.execute(
        "UPDATE counters SET next = next + $1 WHERE name NOT IN ('agent_epoch', 'producer_id')", NUMBERS_SKIPPED
    )
    newest = max([int(str(row[-1])) for row in rows.topics], default=0)
    for name, least in (
        ("agent_epoch", rows.epoch_next),
        ("topic", rows.topic_max + 1),
        ("topic_change", newest + NUMBERS_SKIPPED),
    ):
        await tx.execute("UPDATE counters SET next = $2 WHERE name = $1 AND next < $2", name, least)
    issued = max([key[2] for key in rows.producers], default=0)
    await tx.execute(
        "UPDATE counters SET next = CASE WHEN next > $1 THEN next ELSE $1 END + $2 WHERE name = 'producer_id'",
        issued,
        PRODUCER_IDS_SKIPPED,
    )
    await tx.execute("UPDATE group_slots SET epoch = epoch + $1", NUMBERS_SKIPPED)
    await tx.execute(
        "INSERT INTO leases (name, holder, epoch, lease_until_ms) "
        "SELECT 'export/' || t.topic, '', 0, 0 FROM topics AS t WHERE true ON CONFLICT (name) DO NOTHING"
    )
    await tx.execute(
        "UPDATE leases SET epoch = CASE WHEN epoch > $1 THEN epoch ELSE $1 END + $2", rows.fence, NUMBERS_SKIPPED
    )
    await _in_steps(
        tx,
        "INSERT INTO epochs (epoch, instance, issued_ms, lease_until_ms, retired, retired_ms) "
        "SELECT r.epoch, 'restored', {now_ms}, {now_ms}, 1, {now_ms} FROM {rows} AS r",
        (("epoch", "bigint"),),
        [(epoch,) for epoch in rows.epochs],
    )


async def _ledger(tx: Transaction, rows: Rows) -> None:
    """Where a table is ahead of its ledger, a row without files bridges what the ledger lost."""
    for topic_id, kind, offsets in rows.marks:
        found = await tx.fetch("SELECT topic FROM topics WHERE topic_id = $1", topic_id)
        for shard, next_ in sorted(offsets.items()) if found else ():
            topic = found[0][0]
            [(end,)] = await tx.fetch(_LEDGER_END, topic, kind, shard)
            if not 0 <= end < next_:
                continue
            [(number,)] = await tx.fetch("UPDATE counters SET next = next + 1 WHERE name = 'ledger' RETURNING next - 1")
            await tx.execute(
                "INSERT INTO ledger (id, topic, kind, shard, offset_first, offset_next, path, bytes, row_count, checksum, "
                "facts, state, batch_id, lease_epoch, created_ms) "
                "VALUES ($1, $2, $3, $4, $5, $6, '', 0, 0, '0:0000000000000000', '{}', 'committed', 'restored', 0, {now_ms})",
                number, topic, kind, shard, end, next_,
            )  # fmt: skip


async def _in_steps(tx: Transaction, sql: str, columns: Columns, rows: Sequence[Sequence[object]]) -> None:
    for at in range(0, len(rows), ROWS):
        await tx.execute_rows(sql, columns, rows[at : at + ROWS])
