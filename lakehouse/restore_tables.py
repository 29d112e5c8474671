"""Tables whose catalog was lost with the database: their newest metadata in the bucket is named to the catalog again.

Owns: a table that the catalog still has is left as it is. Metadata that was written and whose commit is unknown is as good as
a commit: its files are there (nothing is deleted because a commit failed), and its watermark says what it holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pyiceberg.exceptions import NamespaceAlreadyExistsError

from broker.journal.bucket_reads import TableMark
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import store_root_of, warehouse_of
from schemas.settings import Settings


def register_tables(settings: Settings, cluster_id: str, marks: Sequence[TableMark]) -> list[str]:
    """Register those that are missing; what was done, in words."""
    notes: list[str] = []
    root = store_root_of(settings).rstrip("/")
    with contextlib.closing(
        catalog_of(warehouse_of(settings, cluster_id), fsync=settings.fsync == "always")
    ) as catalog:
        for mark in marks:
            identifier = (mark.namespace, mark.name)
            try:
                if catalog.table_exists(identifier):
                    continue
                with contextlib.suppress(NamespaceAlreadyExistsError):
                    catalog.create_namespace((mark.namespace,))
                catalog.register_table(identifier, f"{root}/{mark.key}")
                notes.append(f"table {mark.namespace}.{mark.name} is in the catalog again")
            except Exception as error:  # whatever a catalog raises: one table less must not hide the others
                notes.append(
                    f"table {mark.namespace}.{mark.name} could not be registered: {type(error).__name__}: {error}"
                )
    return notes
