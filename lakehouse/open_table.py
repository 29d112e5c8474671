"""Finds or makes the table of a (topic, kind), and says for certain whether it is ours.

Invariants owned here: a table is made at most once per topic id and kind (a crash behind the creation finds it again by
its `neve.topic-id`); a table that somebody else made under the name is never touched; a table that is known to have
existed is not made anew behind its owner's back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from lakehouse.commit import RESET, CatalogDown, Refusal, TableRefused
from lakehouse.watermark import COLUMNS, KIND, OFFSETS_START, ROWS, TOPIC_ID, Watermark, offsets_text, ownership
from schemas.columns import Column, declaration_of

TABLE_PROPERTIES: Mapping[str, str] = {
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    # Small enough that one merge, which is done in Python, stays below the cost of a commit.
    "commit.manifest.target-size-bytes": str(512 * 1024),
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
    "write.format.default": "parquet",
}
"""What keeps commits flat (manifests merged, old metadata files leaving), for us and for other engines that write."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a table shall be."""

    namespace: str
    name: str
    topic_id: UUID
    topic: str
    kind: str
    """main, history, dlq."""
    schema: Schema
    partition_spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC
    start: Mapping[int, int] = field(default_factory=dict)
    """Partition -> first offset wanted."""
    rows: str = "append"
    """append or latest."""
    columns: Sequence[Column] = ()
    """Declared columns of the values; none in raw mode."""
    started_ms: int = 0
    """Time up to which a table without rows is complete."""

    @property
    def identifier(self) -> tuple[str, str]:
        """For the catalog."""
        return self.namespace, self.name

    @property
    def dotted(self) -> str:
        """For people."""
        return f"{self.namespace}.{self.name}"


def open_table(catalog: Catalog, spec: TableSpec, known_uuid: UUID | None, warehouse: str) -> Table:
    """The table of `spec`. Made where it never existed (`known_uuid` None). Raises TableRefused, CatalogDown."""
    try:
        table = _load(catalog, spec)
        if table is None:
            if known_uuid is not None:
                message = f"{spec.dotted} was dropped or renamed; rename it back, or {RESET} to begin a new table"
                raise TableRefused(Refusal.DROPPED, message)
            table = _create(catalog, spec, warehouse)
    except TableRefused:
        raise
    except Exception as error:
        raise CatalogDown(f"{spec.dotted} can't be opened: {error}") from error
    _must_be_ours(table, spec, known_uuid)
    return table


def _load(catalog: Catalog, spec: TableSpec) -> Table | None:
    try:
        return catalog.load_table(spec.identifier)
    except NoSuchTableError:
        return None


def _create(catalog: Catalog, spec: TableSpec, warehouse: str) -> Table:
    if not catalog.namespace_exists((spec.namespace,)):
        try:
            catalog.create_namespace((spec.namespace,))
        except NamespaceAlreadyExistsError:
            pass  # another exporter was faster
    start = Watermark(dict(spec.start), 0, "", spec.started_ms)
    properties = {
        **TABLE_PROPERTIES,
        **ownership(spec.topic_id, spec.topic, spec.kind, spec.rows),
        **start.properties(),
        OFFSETS_START: offsets_text(spec.start),
    }
    if spec.columns:
        properties[COLUMNS] = declaration_of(spec.columns)
    # The topic id in the path keeps the files of a recreated topic's table apart from the old one's.
    location = f"{warehouse}/{spec.namespace}/{spec.name}-{spec.topic_id.hex[:12]}"
    try:
        return catalog.create_table(
            spec.identifier,
            schema=spec.schema,
            location=location,
            partition_spec=spec.partition_spec,
            properties=properties,
        )
    except TableAlreadyExistsError:
        return catalog.load_table(spec.identifier)


def _must_be_ours(table: Table, spec: TableSpec, known_uuid: UUID | None) -> None:
    if known_uuid is not None and table.metadata.table_uuid != known_uuid:
        message = f"{spec.dotted} was dropped and created anew by someone else; rename it away, and {RESET} to begin a new one"
        raise TableRefused(Refusal.RECREATED, message)
    owner, kind = table.properties.get(TOPIC_ID), table.properties.get(KIND)
    rows = table.properties.get(ROWS)
    if (owner, kind) == (str(spec.topic_id), spec.kind) and rows != spec.rows:
        message = (
            f"{spec.dotted} is a table of kind {rows} and the topic's settings ask for {spec.rows}: "
            f"set iceberg.kind={rows}, or drop the table and {RESET} to have it made anew"
        )
        raise TableRefused(Refusal.FOREIGN, message)
    if owner != str(spec.topic_id) or kind != spec.kind:
        whose = f"belongs to topic id {owner} as {kind}" if owner else "was made by someone else"
        message = (
            f"{spec.dotted} exists and {whose}; drop or rename it, or recreate the topic with another iceberg.table"
        )
        raise TableRefused(Refusal.FOREIGN, message)
