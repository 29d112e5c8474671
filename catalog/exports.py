"""Export state: the ledger of Parquet files, and what the exporter last knew of each table.

The ledger is contiguous by offset per (topic, kind, shard): a file is entered only where the one before it ends, by a
holder whose lease still stands. A file is `pending` until its table commit is known to have landed (`committed`) or to
be given up (`abandoned`: its range is free to be written again). The table's own properties are the truth; this is the
exporter's notebook.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

from catalog.counters import take
from catalog.database import Columns, Database, DatabaseError, Row, Transaction
from catalog.leases import check

Kind = Literal["main", "dlq", "history"]
State = Literal["pending", "committed", "abandoned"]
_ID: Columns = (("id", "bigint"),)
_GAP: Columns = (
    ("topic", "bigint"),
    ("kind", "text"),
    ("shard", "integer"),
    ("offset_first", "bigint"),
    ("offset_next", "bigint"),
)
_FILE_COLUMNS = (
    "l.id, l.topic, l.kind, l.shard, l.offset_first, l.offset_next, l.path, l.bytes, l.row_count, l.checksum, l.facts, "
    "l.state, l.batch_id, l.lease_epoch"
)


class LedgerGap(DatabaseError):
    """A file doesn't begin where the ledger ends: read the ledger again before writing more."""


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """One Parquet file that holds the records [offset_first, offset_next) of a shard.

    `path` is empty and `row_count` 0 for a range without rows. `facts` is JSON of the writer's own.
    """

    topic: int
    kind: Kind
    shard: int
    offset_first: int
    offset_next: int
    path: str
    bytes: int
    row_count: int
    checksum: str
    facts: str = "{}"
    id: int = 0
    state: State = "pending"
    batch_id: str = ""
    lease_epoch: int = 0


@dataclass(frozen=True, slots=True, order=True)
class ExportGap:
    """Records [offset_first, offset_next) of a shard that were deleted from the log before they were in the table."""

    topic: int
    kind: Kind
    shard: int
    offset_first: int
    offset_next: int


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """What the exporter last knew of one table. `offsets`: shard -> next offset in the table."""

    topic: int
    kind: Kind
    table_name: str
    table_uuid: str | None
    status: str
    message: str
    offsets: Mapping[int, int]
    committed_ms: int | None


class ExportStore:
    """The tables `ledger` and `exports`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def now_ms(self) -> int:
        """The database's clock, Unix ms."""
        return await self._db.snapshot(lambda tx: tx.now_ms())

    async def add(self, file: LedgerFile, lease_name: str, lease_epoch: int) -> LedgerFile:
        """Enter a pending file. The same file again is a no-op. Raises LeaseLost, LedgerGap."""
        return (await self.add_all([file], lease_name, lease_epoch))[0]

    async def add_all(
        self, files: Sequence[LedgerFile], lease_name: str, lease_epoch: int, gaps: Sequence[ExportGap] = ()
    ) -> list[LedgerFile]:
        """Enter pending files of one topic, all or none; those that are there already are left. `gaps` are what some of them
        stand for without having the rows. Raises LeaseLost, LedgerGap."""

        async def body(tx: Transaction) -> list[LedgerFile]:
            now = await check(tx, lease_name, lease_epoch)
            await tx.execute_rows(
                "INSERT INTO export_gaps (topic, kind, shard, offset_first, offset_next, noticed_ms) "
                "SELECT r.topic, r.kind, r.shard, r.offset_first, r.offset_next, $1 FROM {rows} AS r WHERE true "
                "ON CONFLICT (topic, kind, shard, offset_first) DO UPDATE SET offset_next = excluded.offset_next",
                _GAP,
                [astuple(gap) for gap in sorted(gaps)],
                now,
            )
            return [await _enter(tx, file, lease_epoch, now) for file in files]

        return await self._db.transact(body)

    async def pending(self, topic: int, kind: Kind) -> list[LedgerFile]:
        """Files that wait for a table commit, by shard and offset."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                f"SELECT {_FILE_COLUMNS} FROM ledger AS l WHERE l.topic = $1 AND l.kind = $2 AND l.state = 'pending' "
                "ORDER BY l.shard, l.offset_first",
                topic,
                kind,
            )
        )
        return [_file(row) for row in rows]

    async def ends(self, topic: int, kind: Kind) -> dict[int, int]:
        """shard -> where the next file must begin; shards without files are absent."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT l.shard, MAX(l.offset_next) FROM ledger AS l WHERE l.topic = $1 AND l.kind = $2 "
                "AND l.state <> 'abandoned' GROUP BY l.shard ORDER BY l.shard",
                topic,
                kind,
            )
        )
        return {row[0]: row[1] for row in rows}

    async def mark_committed(self, ids: Sequence[int], batch_id: str, lease_name: str, lease_epoch: int) -> None:
        """Note that a table commit with these files landed. Raises LeaseLost."""
        await self._mark(ids, "committed", batch_id, lease_name, lease_epoch)

    async def mark_abandoned(self, ids: Sequence[int], batch_id: str, lease_name: str, lease_epoch: int) -> None:
        """Give files up; their ranges, and all pending ones of the shards behind them, must be written again.

        Raises LeaseLost, and LedgerGap where a file behind one of these would be left standing.
        """
        await self._mark(ids, "abandoned", batch_id, lease_name, lease_epoch)

    async def _mark(self, ids: Sequence[int], state: State, batch_id: str, lease_name: str, lease_epoch: int) -> None:
        rows = [(number,) for number in sorted(set(ids))]

        async def body(tx: Transaction) -> None:
            await check(tx, lease_name, lease_epoch)
            await tx.execute_rows(
                "UPDATE ledger SET state = $1, batch_id = $2 FROM {rows} AS r WHERE ledger.id = r.id "
                "AND ledger.state = 'pending'",
                _ID,
                rows,
                state,
                batch_id,
            )
            if state == "abandoned":
                standing = await tx.fetch_rows(
                    "SELECT l.id FROM {rows} AS r JOIN ledger AS a ON a.id = r.id JOIN ledger AS l "
                    "ON l.topic = a.topic AND l.kind = a.kind AND l.shard = a.shard AND l.offset_next > a.offset_first "
                    "WHERE l.state <> 'abandoned' ORDER BY l.id",
                    _ID,
                    rows,
                )
                if standing:
                    raise LedgerGap(f"ledger file {standing[0][0]} lies behind one that is given up: give both up")

        await self._db.transact(body)

    async def gaps(self, topic: int | None = None) -> list[ExportGap]:
        """What is missing in the tables of one topic, or of all, in order."""
        where, args = ("", ()) if topic is None else ("WHERE topic = $1 ", (topic,))
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                f"SELECT topic, kind, shard, offset_first, offset_next FROM export_gaps {where}"
                "ORDER BY topic, kind, shard, offset_first",
                *args,
            )
        )
        return [ExportGap(*row) for row in rows]

    async def put_status(self, status: ExportStatus) -> None:
        """Replace a table's row."""
        await self._db.transact(
            lambda tx: tx.execute(
                "INSERT INTO exports (topic, kind, table_name, table_uuid, status, message, offsets, committed_ms) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (topic, kind) DO UPDATE SET "
                "table_name = excluded.table_name, table_uuid = excluded.table_uuid, status = excluded.status, "
                "message = excluded.message, offsets = excluded.offsets, committed_ms = excluded.committed_ms",
                status.topic,
                status.kind,
                status.table_name,
                status.table_uuid,
                status.status,
                status.message,
                json.dumps({str(shard): offset for shard, offset in sorted(status.offsets.items())}),
                status.committed_ms,
            )
        )

    async def forget(self, topic: int, kind: Kind, lease_name: str, lease_epoch: int) -> None:
        """Drop a table's row and give up its ledger, so that the table, or a new one, is begun from itself. Raises LeaseLost."""

        async def body(tx: Transaction) -> None:
            await check(tx, lease_name, lease_epoch)
            await tx.execute("UPDATE ledger SET state = 'abandoned' WHERE topic = $1 AND kind = $2", topic, kind)
            await tx.execute("DELETE FROM exports WHERE topic = $1 AND kind = $2", topic, kind)
            await tx.execute("DELETE FROM export_gaps WHERE topic = $1 AND kind = $2", topic, kind)

        await self._db.transact(body)

    async def statuses(self, topic: int | None = None) -> list[ExportStatus]:
        """Rows of one topic, or of all, by topic and kind."""
        sql = "SELECT topic, kind, table_name, table_uuid, status, message, offsets, committed_ms FROM exports "
        if topic is None:
            rows = await self._db.snapshot(lambda tx: tx.fetch(sql + "ORDER BY topic, kind"))
        else:
            rows = await self._db.snapshot(lambda tx: tx.fetch(sql + "WHERE topic = $1 ORDER BY kind", topic))
        return [
            ExportStatus(
                row[0],
                row[1],
                row[2],
                row[3],
                row[4],
                row[5],
                {int(shard): offset for shard, offset in json.loads(row[6]).items()},
                row[7],
            )
            for row in rows
        ]


async def _enter(tx: Transaction, file: LedgerFile, lease_epoch: int, now: int) -> LedgerFile:
    """Enter one file behind the last one of its shard."""
    assert file.offset_first < file.offset_next, "a ledger file covers at least one offset"
    rows = await tx.fetch(
        f"SELECT {_FILE_COLUMNS} FROM ledger AS l WHERE l.topic = $1 AND l.kind = $2 AND l.shard = $3 "
        "AND l.state <> 'abandoned' ORDER BY l.offset_next DESC LIMIT 1",
        file.topic,
        file.kind,
        file.shard,
    )
    if rows:
        last = _file(rows[0])
        if (last.offset_first, last.offset_next, last.path) == (file.offset_first, file.offset_next, file.path):
            return last
        if last.offset_next != file.offset_first:
            raise LedgerGap(
                f"topic {file.topic} {file.kind} shard {file.shard}: the ledger ends at {last.offset_next}, "
                f"the file begins at {file.offset_first}"
            )
    number = await take(tx, "ledger")
    await tx.execute(
        "INSERT INTO ledger (id, topic, kind, shard, offset_first, offset_next, path, bytes, row_count, checksum, "
        "facts, state, batch_id, lease_epoch, created_ms) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'pending', '', $12, $13)",
        number,
        file.topic,
        file.kind,
        file.shard,
        file.offset_first,
        file.offset_next,
        file.path,
        file.bytes,
        file.row_count,
        file.checksum,
        file.facts,
        lease_epoch,
        now,
    )
    return replace(file, id=number, state="pending", batch_id="", lease_epoch=lease_epoch)


def _file(row: Row) -> LedgerFile:
    number, topic, kind, shard, first, following, path, size, count, checksum, facts, state, batch_id, epoch = row
    return LedgerFile(
        topic, kind, shard, first, following, path, size, count, checksum, facts, number, state, batch_id, epoch
    )
