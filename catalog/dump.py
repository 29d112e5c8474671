"""All rows of the metadata, out of one database and into another: what snapshots are made of, and what `neve restore` loads.

Every table is taken unless it is named here with the reason, so that a table of a later migration isn't forgotten. Leases and
holders are left behind: whoever held them is not there any more; their epochs are kept, because they only grow.
Tables and columns that the other side doesn't have are left out: migrations only add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from catalog.database import Database, DatabaseError, Transaction
from schemas.snapshot import SnapshotHead, SnapshotWriter, Table

LEFT_OUT: Mapping[str, str] = {
    "schema_versions": "belongs to the database itself",
    "cluster": "stands in the snapshot's head and in cluster.json",
    "agents": "leases of processes",
    "epochs": "leases of processes; the counter is kept",
    "jobs": "when what was last done; leases keep the epochs",
    "faults": "set on purpose, for a while",
    "condemned": "found again by listing; nothing of before can be committed any more",
    "deletion_holds": "about the database that was restored",
    "bucket_snapshots": "about the snapshots themselves",
}
CONSTANTS: Mapping[tuple[str, str], str] = {
    ("leases", "holder"): "''",
    ("leases", "lease_until_ms"): "0",
    ("group_slots", "holder"): "''",
    ("group_slots", "broker_id"): "0",
    ("group_slots", "lease_until_ms"): "0",
    ("objects", "outcome"): "NULL",
}
"""Columns whose values are of no use elsewhere, and what is written instead."""
FOREIGN_PREFIXES = ("sqlite_", "iceberg_", "pg_")
"""Tables that aren't of the metadata: the database's own, and the Iceberg catalog's."""
PAGE = 5_000
Kind = Literal["number", "float", "text", "blob"]
_KINDS: Mapping[str, Kind] = {
    "bigint": "number", "integer": "number", "text": "text", "blob": "blob", "bytea": "blob", "double precision": "float",
}  # fmt: skip


class TableShape(NamedTuple):
    """A table's name, its columns with their kinds, and its primary key."""

    name: str
    columns: tuple[tuple[str, Kind], ...]
    key: tuple[str, ...]


async def shapes(tx: Transaction, dialect: str) -> list[TableShape]:
    """Every table of the metadata, by name."""
    found: list[TableShape] = []
    for name in await _names(tx, dialect):
        rows = await tx.fetch(
            "SELECT name, lower(type), pk FROM pragma_table_info($1) ORDER BY cid"
            if dialect == "sqlite"
            else "SELECT c.column_name::text, c.data_type::text, COALESCE(k.ordinal_position, 0)::int "
            "FROM information_schema.columns AS c LEFT JOIN (information_schema.key_column_usage AS k "
            "JOIN information_schema.table_constraints AS t ON t.constraint_name = k.constraint_name "
            "AND t.table_schema = k.table_schema AND t.table_name = k.table_name AND t.constraint_type = 'PRIMARY KEY') "
            "ON k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name "
            "WHERE c.table_schema = current_schema() AND c.table_name = $1 ORDER BY c.ordinal_position",
            name,
        )
        columns = tuple((row[0], _kind(name, row[0], row[1])) for row in rows)
        key = tuple(row[0] for row in sorted((row for row in rows if row[2]), key=lambda row: int(row[2])))
        if not key:
            raise DatabaseError(f"table {name} has no primary key: it can't be read page by page")
        found.append(TableShape(name, columns, key))
    return found


async def dump(db: Database, cluster_id: str) -> tuple[SnapshotHead, SnapshotWriter]:
    """Every row, as of one moment. Everything committed before the head's `taken_ms` is in it."""

    async def body(tx: Transaction) -> tuple[SnapshotHead, SnapshotWriter]:
        # The first statement fixes what is seen; the clock is read a little later, hence the second taken off.
        [(version,)] = await tx.fetch("SELECT MAX(version) FROM schema_versions")
        head = SnapshotHead(cluster_id, await tx.now_ms() - 1_000, int(version))
        writer = SnapshotWriter(head)
        for shape in await shapes(tx, db.dialect):
            if shape.name not in LEFT_OUT:
                await _dump_table(tx, shape, writer)
        return head, writer

    return await db.snapshot(body)


async def load(tx: Transaction, known: Mapping[str, TableShape], table: Table) -> int:
    """Insert rows of a table that is empty, or was when the first of them came; how many."""
    shape = known.get(table.name)
    if shape is None or table.name in LEFT_OUT or not table.rows:
        return 0
    if table.name == "counters":  # migrations have made them; those that the snapshot doesn't have stay
        for row in table.rows:
            await tx.execute("DELETE FROM counters WHERE name = $1", row[table.columns.index("name")])
    kinds = dict(shape.columns)
    taken = [at for at, column in enumerate(table.columns) if column in kinds]
    columns = [table.columns[at] for at in taken]
    rows = [[row[at] for at in taken] for row in table.rows]
    picks = ", ".join(f"r.{column}" for column in columns)
    if any(kinds[column] == "float" for column in columns):
        values = ", ".join(f"${n + 1}" for n in range(len(columns)))
        for row in rows:
            await tx.execute(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})", *row)
        return len(rows)
    types = [(column, "bigint" if kinds[column] == "number" else kinds[column]) for column in columns]
    for at in range(0, len(rows), PAGE):
        await tx.execute_rows(
            f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {picks} FROM {{rows}} AS r",
            types,  # type: ignore[arg-type]
            rows[at : at + PAGE],
        )
    return len(rows)


async def _names(tx: Transaction, dialect: str) -> list[str]:
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if dialect == "sqlite"
        else "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() "
        "AND table_type = 'BASE TABLE'"
    )
    return sorted(row[0] for row in await tx.fetch(sql) if not row[0].startswith(FOREIGN_PREFIXES))


def _kind(table: str, column: str, declared: str) -> Kind:
    kind = _KINDS.get(declared)
    if kind is None:
        raise DatabaseError(f"column {column} of table {table} has the type {declared}, which no snapshot can hold")
    return kind


async def _dump_table(tx: Transaction, shape: TableShape, writer: SnapshotWriter) -> None:
    columns = [column for column, _ in shape.columns]
    writer.table(shape.name, columns, [at for at, (_, kind) in enumerate(shape.columns) if kind == "blob"])
    picks = ", ".join(CONSTANTS.get((shape.name, column), column) for column in columns)
    key = ", ".join(shape.key)
    marks = ", ".join(f"${n + 1}" for n in range(len(shape.key)))
    at = [columns.index(column) for column in shape.key]
    rows: Sequence[Sequence[Any]] = await tx.fetch(f"SELECT {picks} FROM {shape.name} ORDER BY {key} LIMIT {PAGE}")
    while rows:
        writer.add(rows)
        if len(rows) < PAGE:
            return
        last = [rows[-1][n] for n in at]
        rows = await tx.fetch(
            f"SELECT {picks} FROM {shape.name} WHERE ({key}) > ({marks}) ORDER BY {key} LIMIT {PAGE}", *last
        )
