"""A topic's open tables: found or made, read, and brought together with the ledger.

Opening is the only way back after anything went wrong: it reads watermark, epoch, topic id and table uuid anew. Invariant
owned here: nothing is written for a table before that, and a table that is refused stays untouched until a person acts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import parse_transform
from pyiceberg.types import UUIDType

from catalog.exports import ExportStatus, ExportStore, LedgerFile
from catalog.leases import Lease
from lakehouse.commit import CatalogDown, TableCommitter, TableState
from lakehouse.data_files import WrittenFile
from lakehouse.export_plan import PlanError, RowKind, TableKind, TopicPlan
from lakehouse.ledger_recovery import ledger_files, recover
from lakehouse.open_table import TableSpec, open_table
from lakehouse.schema_for import dead_letter_schema, table_schema


@dataclass(slots=True)
class OpenTable:
    """One table as its exporter holds it."""

    kind: TableKind
    name: str
    rows: RowKind
    committer: TableCommitter
    state: TableState
    ends: dict[int, int]
    """Partition -> where its next ledger file begins: the watermark and what waits for its commit."""
    skipped: dict[int, int] = field(default_factory=dict)
    """Partition -> offset below which nothing is left to take although the watermark lies lower (dead letters)."""
    waiting: list[LedgerFile] = field(default_factory=list)
    footers: dict[str, WrittenFile] = field(default_factory=dict)
    """Path -> data file with its footer, for those that were written since this was opened."""
    removed: list[DataFile] = field(default_factory=list)
    """Data files that what waits replaces (latest tables)."""
    committed_ms: int | None = None

    @property
    def positions(self) -> dict[int, int]:
        """Partition -> next offset to be taken."""
        shards = sorted(self.ends.keys() | self.skipped.keys())
        return {shard: max(self.ends.get(shard, 0), self.skipped.get(shard, 0)) for shard in shards}


@dataclass(frozen=True, slots=True)
class TableMaker:
    """Opens a topic's tables under one lease."""

    catalog: Catalog
    warehouse: str
    exports: ExportStore
    plan: TopicPlan
    lease: Lease

    async def known(self) -> dict[str, ExportStatus]:
        """kind -> what is known of the topic's tables."""
        return {one.kind: one for one in await self.exports.statuses(self.plan.topic)}

    def open_now(
        self,
        kind: TableKind,
        name: str,
        rows: RowKind,
        partition_by: str,
        start: Mapping[int, int],
        known: ExportStatus | None,
    ) -> OpenTable:
        """Open or make a table, in the worker thread. Raises TableRefused, CommitterFenced, CatalogDown, PlanError."""
        schema = dead_letter_schema() if kind == "dlq" else table_schema(self.plan.columns or ())
        namespace, _, short = name.rpartition(".")
        spec = TableSpec(
            namespace,
            short,
            self.plan.topic_id,
            self.plan.topic_name,
            kind,
            schema,
            partition_spec(partition_by, schema),
            start,
            rows,
            () if kind == "dlq" else self.plan.columns or (),
            self.plan.created_ms,
        )
        uuid = UUID(known.table_uuid) if known is not None and known.table_uuid else None
        table = open_table(self.catalog, spec, uuid, self.warehouse)
        _must_have_columns(table.schema(), schema, name)
        committer = TableCommitter(
            self.catalog,
            spec.identifier,
            topic_id=self.plan.topic_id,
            table_uuid=table.metadata.table_uuid,
            epoch=self.lease.epoch,
            floor={} if known is None else known.offsets,
        )
        state = committer.read()
        opened = OpenTable(kind, name, rows, committer, state, dict(state.watermark.offsets))
        opened.committed_ms = None if known is None else known.committed_ms
        return opened

    def exists(self, name: str) -> bool:
        """True where the catalog has a table of this name. Raises CatalogDown."""
        namespace, _, short = name.rpartition(".")
        try:
            return self.catalog.table_exists((namespace, short))
        except Exception as error:
            raise CatalogDown(f"{name} can't be looked up: {error}") from error

    async def settle(self, opened: OpenTable) -> None:
        """Bring the ledger in line with the table's watermark; the ends go behind what waits. Raises LeaseLost."""
        topic, name, epoch = self.plan.topic, self.lease.name, self.lease.epoch
        pending = await self.exports.pending(topic, opened.kind)
        found = recover(opened.state.watermark.offsets, pending, reusable=opened.rows == "append")
        batch_id = opened.state.watermark.batch_id
        if found.landed:
            await self.exports.mark_committed(found.landed, batch_id, name, epoch)
        if found.given_up:
            await self.exports.mark_abandoned(found.given_up, batch_id, name, epoch)
        opened.waiting = list(found.waiting)
        opened.ends = dict(found.ends)
        await self._catch_up(opened)

    async def _catch_up(self, opened: OpenTable) -> None:
        """A commit of an earlier holder may land after its files were given up: then the ledger ends before the watermark.

        The ranges in between are entered as found in the table, so that the ledger goes on without a gap.
        """
        topic, name, epoch = self.plan.topic, self.lease.name, self.lease.epoch
        mark = opened.state.watermark
        ends = await self.exports.ends(topic, opened.kind)
        found = {shard: next_ for shard, next_ in mark.offsets.items() if ends.get(shard, next_) < next_}
        if not found:
            return
        rows = ledger_files(
            topic=topic,
            kind=opened.kind,
            chunk_id=f"found-{mark.batch_id}",
            positions=ends,
            ends=found,
            checksums={},
            files=[],
            replaced=[],
        )
        entered = await self.exports.add_all(rows, name, epoch)
        await self.exports.mark_committed([one.id for one in entered], mark.batch_id, name, epoch)


def partition_spec(partition_by: str, schema: Schema) -> PartitionSpec:
    """`iceberg.partition.by` (fields by comma, checked when it was set) as a spec. Raises PlanError for unknown columns."""
    if not partition_by.strip():
        return UNPARTITIONED_PARTITION_SPEC
    fields: list[PartitionField] = []
    labels: set[str] = set()
    for index, text in enumerate(_fields(partition_by)):
        name, _, inner = text.partition("(")
        arguments = [part.strip() for part in inner.rstrip(")").split(",")] if inner else []
        column = arguments[-1] if inner else name
        found = {one.name.casefold(): one for one in schema.fields}.get(column.casefold())
        if found is None:
            raise PlanError(f"iceberg.partition.by names the column {column!r}, which the table has not")
        transform = f"{name}[{arguments[0]}]" if len(arguments) == 2 else name if inner else "identity"
        label = found.name if transform == "identity" else f"{found.name}_{name}"
        if label in labels:
            raise PlanError(f"iceberg.partition.by asks for {name} of {column} twice")
        if transform != "identity" and label.casefold() in {one.name.casefold() for one in schema.fields}:
            raise PlanError(
                f"iceberg.partition.by: {text} would be called {label}, as a column is: rename it with 'as'"
            )
        labels.add(label)
        made = PartitionField(
            source_id=found.field_id,
            field_id=PARTITION_FIELD_ID_START + index,
            transform=parse_transform(transform),
            name=label,
        )
        if not made.transform.can_transform(found.field_type):
            raise PlanError(f"iceberg.partition.by: {name} can't be taken of {column}, which is {found.field_type}")
        if isinstance(found.field_type, UUIDType):
            # DuckDB 1.5 looks into the wrong bucket, pyiceberg 0.12 into the wrong partition: both find nothing.
            raise PlanError(f"iceberg.partition.by: engines prune wrongly by {column}, a uuid; use another column")
        fields.append(made)
    return PartitionSpec(*fields)


def _fields(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    parts, depth, last = [], 0, 0
    for at, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append(text[last:at])
            last = at + 1
    return [part.strip() for part in [*parts, text[last:]]]


def _must_have_columns(has: Schema, wants: Schema, name: str) -> None:
    """The table may have columns of others besides; ours must be there with their types."""
    types = {one.name: str(_without_ids(one.field_type)) for one in has.fields}
    for one in wants.fields:
        wanted = str(_without_ids(one.field_type))
        if types.get(one.name) != wanted:
            raise PlanError(
                f"the settings ask for {name}.{one.name} {wanted}, the table has {types.get(one.name, 'no such column')}: "
                "set iceberg.mode and iceberg.columns back, or recreate the topic"
            )


def _without_ids(kind: Any) -> str:
    """A type's words without field ids, which the catalog assigns anew."""
    return re.sub(r"\b\d+: ", "", str(kind))
