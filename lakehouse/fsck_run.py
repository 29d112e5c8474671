"""Every table that the metadata knows, checked: what `neve fsck` runs where pyiceberg is installed."""

from __future__ import annotations

import contextlib

from broker.fsck.findings import Report
from broker.objects.port import ObjectStore
from catalog.database import Database, Row
from catalog.exports import ExportStore, LedgerFile
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import store_root_of, warehouse_of
from lakehouse.fsck_tables import TableFsck
from schemas.settings import Settings

_LEDGER = (
    "SELECT shard, offset_first, offset_next, state FROM ledger "
    "WHERE topic = $1 AND kind = $2 AND state <> 'abandoned' ORDER BY shard, offset_next"
)


async def check_tables(settings: Settings, database: Database, store: ObjectStore, cluster_id: str) -> Report:
    """Check them all. Raises DatabaseError, ObjectStoreError."""
    report = Report()
    statuses = await ExportStore(database).statuses()
    if not statuses:
        return report
    warehouse = warehouse_of(settings, cluster_id)
    catalog = catalog_of(warehouse, fsync=settings.fsync == "always")
    with contextlib.closing(catalog):
        fsck = TableFsck(catalog, store, warehouse, store_root_of(settings))
        for status in statuses:
            # The table is read before the log's end: what is committed in between must not look like a table too far ahead.
            ledger = await _ledger(database, status.topic, status.kind)
            table = fsck.load(status, report)
            if table is None:
                continue
            topic_id, marks = await _log_ends(database, status.topic)
            await fsck.check(table, status, topic_id, marks, ledger, report)
    return report


async def _log_ends(database: Database, topic: int) -> tuple[str, dict[int, int]]:
    """The topic's id and high watermarks; none of a topic that is gone."""
    rows = await database.snapshot(
        lambda tx: tx.fetch("SELECT topic_id, deleted_ms FROM topics WHERE topic = $1", topic)
    )
    if not rows:
        return "", {}
    marks: list[Row] = []
    if rows[0][1] is None:
        sql = "SELECT shard, high_watermark FROM shards WHERE topic = $1"
        marks = await database.snapshot(lambda tx: tx.fetch(sql, topic))
    return str(rows[0][0]), {row[0]: row[1] for row in marks}


async def _ledger(database: Database, topic: int, kind: str) -> list[LedgerFile]:
    rows = await database.snapshot(lambda tx: tx.fetch(_LEDGER, topic, kind))
    return [LedgerFile(topic, "main", row[0], row[1], row[2], "", 0, 0, "", state=row[3]) for row in rows]
