"""`neve fsck` on tables: what a table's current snapshot needs, what the ledger says, and where the log ends, compared.

Only reads. The checks are pure functions over values; the shell loads tables through the catalog and lists the store once
per table. Safe beside a running exporter: files are listed after the table was read, so a commit in between only adds files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import Table

from broker.fsck.findings import Report
from broker.objects.port import ObjectStore
from catalog.exports import ExportStatus
from catalog.iceberg.warehouse import Warehouse, WarehouseError
from lakehouse.watermark import TOPIC_ID, WatermarkUnreadable, goes_back, read_watermark


class LedgerRange(Protocol):
    """Of a ledger file: what it covers, and whether it is known to be in the table."""

    @property
    def shard(self) -> int: ...
    @property
    def offset_first(self) -> int: ...
    @property
    def offset_next(self) -> int: ...
    @property
    def state(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Needed:
    """One file that a table's current snapshot needs. `bytes` is None where nothing says its size."""

    location: str
    bytes: int | None


def check_ledger(where: str, files: Sequence[LedgerRange], report: Report) -> dict[int, int]:
    """A table's ledger without what was given up, by shard and offset; shard -> end of what is known to be committed."""
    ends: dict[int, int] = {}
    committed: dict[int, int] = {}
    for file in sorted(files, key=lambda one: (one.shard, one.offset_first, one.offset_next)):
        end = ends.get(file.shard)
        covers = f"[{file.offset_first}, {file.offset_next})"
        if end is not None and file.offset_first > end:
            report.add("ledger-hole", f"{where}/{file.shard}", f"no file covers [{end}, {file.offset_first})")
        elif end is not None and file.offset_first < end:
            report.add("ledger-overlap", f"{where}/{file.shard}", f"{covers} begins before {end}")
        ends[file.shard] = max(end or 0, file.offset_next)
        if file.state == "committed":
            committed[file.shard] = max(committed.get(file.shard, 0), file.offset_next)
    return committed


def check_marks(
    where: str,
    watermark: Mapping[int, int],
    high_watermarks: Mapping[int, int],
    known: Mapping[int, int],
    committed: Mapping[int, int],
    report: Report,
) -> None:
    """A table's watermark beside the log's ends and beside what the metadata says was committed to it."""
    for shard, next_ in sorted(watermark.items()):
        high = high_watermarks.get(shard)
        if high is not None and next_ > high:
            report.add("table-ahead", f"{where}/{shard}", f"the table ends at {next_}, the log at {high}")
    for what, floor in (("exports", known), ("ledger", committed)):
        words = goes_back(floor, watermark)
        if words:
            report.add("table-behind", where, f"{words} ({what})")
            return


def check_files(where: str, needed: Iterable[Needed], listed: Mapping[str, int], report: Report) -> set[str]:
    """What a table needs beside what the store has (location -> bytes); the locations that are needed."""
    wanted: set[str] = set()
    for file in needed:
        wanted.add(file.location)
        size = listed.get(file.location)
        if size is None:
            report.add("table-file-missing", where, file.location)
        elif file.bytes is not None and size != file.bytes:
            report.add("table-file-size", where, f"{file.location}: {size} bytes, not {file.bytes}")
        report.checked["table_files"] += 1
    return wanted


class TableFsck:
    """One run over the tables that exports know."""

    def __init__(self, catalog: Catalog, store: ObjectStore, warehouse: Warehouse, store_root: str) -> None:
        self._catalog = catalog
        self._store = store
        self._warehouse = warehouse
        self._root = store_root.rstrip("/")

    def load(self, status: ExportStatus, report: Report) -> Table | None:
        """A table as it is now; None, and said so, where it can't be had."""
        namespace, _, name = status.table_name.rpartition(".")
        try:
            return self._catalog.load_table((*namespace.split("."), name))
        except NoSuchTableError:
            if status.committed_ms is not None:
                report.add("table-missing", status.table_name, f"last committed to at {status.committed_ms} (Unix ms)")
        except Exception as error:  # whatever a catalog or a file raises: the table can't be read
            report.add("table-unreadable", status.table_name, f"{type(error).__name__}: {error}")
        return None

    async def check(
        self,
        table: Table,
        status: ExportStatus,
        topic_id: str,
        high_watermarks: Mapping[int, int],
        ledger: Sequence[LedgerRange],
        report: Report,
    ) -> None:
        """One table; status and ledger were read before it, the high watermarks after it (none where the topic is gone)."""
        where = status.table_name
        committed = check_ledger(where, ledger, report)
        report.checked["tables"] += 1
        if table.properties.get(TOPIC_ID) != topic_id:
            report.add("table-foreign", where, f"it belongs to topic id {table.properties.get(TOPIC_ID)}")
            return
        try:
            mark = read_watermark(table.properties)
        except WatermarkUnreadable as error:
            report.add("table-unreadable", where, str(error))
            return
        check_marks(where, mark.offsets, high_watermarks, status.offsets, committed, report)
        needed, broken = _needed(table)
        try:
            listed = await self._listed(table.location())
        except WarehouseError as error:
            report.notes.append(f"{where}: files not checked, {error}")
            return
        wanted = check_files(where, needed, listed, report)
        if broken and not any(one.location not in listed for one in needed):
            report.add("table-unreadable", where, broken)
        if not broken:
            for location in sorted(listed.keys() - wanted - _older(table)):
                if location.startswith(table.location().rstrip("/") + "/data/"):
                    report.add("table-orphan", where, location)

    async def _listed(self, location: str) -> dict[str, int]:
        """location -> bytes of everything below a table's folder."""
        key = self._warehouse.key_of(location, self._root)
        return {f"{self._root}/{info.key}": info.bytes async for page in self._store.list(key) for info in page}


def _older(table: Table) -> set[str]:
    """Data files of snapshots that the metadata still names besides the current one."""
    found: set[str] = set()
    current = table.metadata.current_snapshot_id
    for snapshot in table.metadata.snapshots:
        if snapshot.snapshot_id == current:
            continue
        try:
            for manifest in snapshot.manifests(table.io):
                found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
        except Exception:
            continue  # a snapshot of the past that can't be read frees nothing and breaks nothing
    return found


def _needed(table: Table) -> tuple[list[Needed], str]:
    """Every file of the current snapshot, and what kept some from being known, in words."""
    needed = [Needed(table.metadata_location, None)]
    snapshot = table.current_snapshot()
    if snapshot is None:
        return needed, ""
    needed.append(Needed(snapshot.manifest_list, None))
    try:
        manifests = snapshot.manifests(table.io)
    except Exception as error:
        return needed, f"manifest list {snapshot.manifest_list}: {type(error).__name__}: {error}"
    broken = ""
    for manifest in manifests:
        needed.append(Needed(manifest.manifest_path, manifest.manifest_length))
        try:
            needed += [
                Needed(entry.data_file.file_path, entry.data_file.file_size_in_bytes)
                for entry in manifest.fetch_manifest_entry(table.io)
                if entry.status is not ManifestEntryStatus.DELETED
            ]
        except Exception as error:
            broken = f"manifest {manifest.manifest_path}: {type(error).__name__}: {error}"
    return needed, broken
