"""One chunk: a slice of a topic's log, decoded once and written as data files for every table of the topic.

Runs in a worker thread. Invariants owned here: every table gets exactly its rows of `[its position, end)` of each partition,
where the ends are the same for all tables of the chunk; rows that don't fit are dead letters of the same chunk; nothing
here commits anything, so whatever fails leaves orphan files and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakehouse.data_files import FileWriter, WrittenFile
from lakehouse.dead_letters import dead_letters
from lakehouse.decode import DecodedChunk, DecodeLimits, decode_runs
from lakehouse.export_plan import Invalid, RowKind, TableKind
from lakehouse.latest import LatestLimits, add_changes, merge, nothing_changes, read_bounded, with_tombstones
from lakehouse.log_slice import LogSlice
from lakehouse.parse_json import RejectedRow
from lakehouse.rows import RowBuilder
from schemas.row_checksum import RowChecksum, checksum_rows

NO_KEY = "null_key"


class InvalidRecord(Exception):
    """A record doesn't fit and the topic asks to pause."""


@dataclass(frozen=True, slots=True)
class Target:
    """A table that takes rows of a chunk."""

    kind: TableKind
    rows: RowKind
    table: Table
    positions: Mapping[int, int]
    """Partition -> first offset it has not."""

    def position(self, partition: int) -> int:
        """The first offset of a partition that the table has not."""
        return self.positions.get(partition, 0)


@dataclass(slots=True)
class TableChunk:
    """What a chunk brings to one table."""

    target: Target
    files: list[WrittenFile] = field(default_factory=list)
    removed: list[DataFile] = field(default_factory=list)
    """Files that `files` replace (latest tables)."""
    checksums: dict[int, RowChecksum] = field(default_factory=dict)
    """Partition -> count and checksum of the records taken."""

    @property
    def rows(self) -> int:
        """Records taken; a latest table keeps fewer."""
        return sum(one[0] for one in self.checksums.values())


@dataclass(slots=True)
class Chunk:
    """A written chunk: partition -> end, the same for all its tables."""

    chunk_id: str
    ends: dict[int, int]
    tables: list[TableChunk]


@dataclass(frozen=True, slots=True)
class ChunkRules:
    """How a topic's records become rows."""

    builder: RowBuilder
    invalid: Invalid
    decode: DecodeLimits
    partitions_max: int
    latest: LatestLimits


class ChunkWriter:
    """Writes one chunk. `open_dlq` opens or makes the table of dead letters; it is called only when there is one."""

    def __init__(
        self, chunk_id: str, rules: ChunkRules, targets: Sequence[Target], open_dlq: Callable[[], Target]
    ) -> None:
        self._id = chunk_id
        self._rules = rules
        self._targets = list(targets)
        self._open_dlq = open_dlq
        self._chunks = {target.kind: TableChunk(target) for target in targets}
        self._writers: dict[TableKind, FileWriter] = {
            target.kind: self._writer(target) for target in targets if target.rows == "append"
        }
        self._newest: dict[TableKind, pa.Table] = {}
        self._ends: dict[int, int] = {}

    def write(self, log: LogSlice) -> Chunk:
        """Decode the slice and write its rows. Raises CorruptRun, InvalidRecord, TooManyKeys, OSError, ArrowException."""
        try:
            for partition, runs in log.runs.items():
                for decoded in decode_runs(runs, self._rules.decode):
                    if not self._take(partition, decoded):
                        return self._finished()
                    # Freed buffers go back at once: the exporter's memory is bounded, whatever the allocator likes to keep.
                    pa.default_memory_pool().release_unused()
            return self._finished()
        finally:
            for writer in self._writers.values():
                writer.close()

    def _take(self, partition: int, decoded: DecodedChunk) -> bool:
        """Add decoded rows to every table; False where the chunk is full and ends in front of, or inside, them."""
        if decoded.offset_next <= min(target.position(partition) for target in self._targets):
            return True
        rows = self._rules.builder.build(decoded)
        dead, keyless = self._dead(decoded, rows.dead)
        cut = self._cut(partition, rows.main, decoded.offset_next)
        if cut <= decoded.offset_first:
            return False
        for target in list(self._targets):
            if target.kind != "dlq":
                self._add(target, partition, rows.main, rows.tombstones, rows.checksum, cut, keyless)
        self._add_dead(partition, dead, cut)
        self._ends[partition] = cut
        return cut == decoded.offset_next

    def _cut(self, partition: int, rows: pa.Table, end: int) -> int:
        """Where this chunk must end so that no table gets more partitions in one commit than allowed."""
        cut = end
        for kind, writer in self._writers.items():
            if kind == "dlq":
                continue
            target = self._chunks[kind].target
            mine = between(rows, target.position(partition), end)
            room = writer.room_for(mine)
            if room < mine.num_rows:
                cut = min(cut, mine["_kafka_offset"][room].as_py())
        return cut

    def _add(
        self,
        target: Target,
        partition: int,
        rows: pa.Table,
        tombstones: Any,
        checksum: RowChecksum,
        cut: int,
        keyless: frozenset[int],
    ) -> None:
        start = target.position(partition)
        mine = between(rows, start, cut)
        if mine.num_rows != rows.num_rows:
            first = int(np.searchsorted(rows["_kafka_offset"].to_numpy(), start))
            tombstones = tombstones[first : first + mine.num_rows]
        if target.rows == "latest":
            mine = with_tombstones(mine, tombstones)
            if keyless:
                mine = mine.filter(pc.is_valid(mine["_kafka_key"]))
            self._newest[target.kind] = add_changes(self._newest.get(target.kind), mine, self._rules.latest)
        else:
            self._writers[target.kind].write(mine)
        self._count(target.kind, partition, checksum if mine.num_rows == rows.num_rows else checksum_of(mine))

    def _dead(self, decoded: DecodedChunk, dead: pa.Table) -> tuple[pa.Table, frozenset[int]]:
        """Dead letters with those of latest tables: records without a key. Also the offsets of the latter."""
        if not any(target.rows == "latest" for target in self._targets):
            return dead, frozenset()
        known = set(dead["_kafka_offset"].to_pylist())
        missing = [int(row) for row in np.flatnonzero(decoded.keys[:, 1] < 0) if int(decoded.offsets[row]) not in known]
        if not missing:
            return dead, frozenset()
        error = "a latest table needs a key on every record"
        more = dead_letters(decoded, [RejectedRow(row, NO_KEY, error) for row in missing], self._rules.builder.window)
        both = pa.concat_tables([dead, more]).sort_by("_kafka_offset")
        return both, frozenset(int(decoded.offsets[row]) for row in missing)

    def _add_dead(self, partition: int, dead: pa.Table, cut: int) -> None:
        dead = dead.filter(pc.less(dead["_kafka_offset"], cut))
        start = min(target.position(partition) for target in self._targets if target.kind != "dlq")
        dead = dead.filter(pc.greater(dead["_kafka_offset_next"], start))
        if dead.num_rows == 0 or self._rules.invalid == "drop":
            return
        if self._rules.invalid == "pause":
            offset, cause = dead["_kafka_offset"][0].as_py(), dead["cause"][0].as_py()
            raise InvalidRecord(f"partition {partition} offset {offset}: {cause}: {dead['error'][0].as_py()}")
        if "dlq" not in self._chunks:
            target = self._open_dlq()
            self._targets.append(target)
            self._chunks["dlq"] = TableChunk(target)
            self._writers["dlq"] = self._writer(target)
        target = self._chunks["dlq"].target
        dead = dead.filter(pc.greater(dead["_kafka_offset_next"], target.position(partition)))
        self._writers["dlq"].write(dead)
        self._count("dlq", partition, checksum_of(dead))

    def _count(self, kind: TableKind, partition: int, checksum: RowChecksum) -> None:
        sums = self._chunks[kind].checksums
        sums[partition] = sums.get(partition, RowChecksum()) + checksum

    def _finished(self) -> Chunk:
        for kind, writer in self._writers.items():
            self._chunks[kind].files = writer.finish()
        for kind, newest in self._newest.items():
            self._rewrite(self._chunks[kind], newest)
        return Chunk(self._id, self._ends, list(self._chunks.values()))

    def _rewrite(self, chunk: TableChunk, newest: pa.Table) -> None:
        """The whole latest table anew, in place of all its files."""
        table = chunk.target.table
        scan = table.scan()
        with scan.to_arrow_batch_reader() as reader:
            read = read_bounded(reader, reader.schema, self._rules.latest)
        current = as_built(read, self._rules.builder.schema)
        if nothing_changes(current, newest):
            return
        kept = merge(current, newest, self._rules.latest)
        chunk.removed = [task.file for task in scan.plan_files()]
        with self._writer(chunk.target) as writer:
            writer.write(kept)
            chunk.files = writer.finish()

    def _writer(self, target: Target) -> FileWriter:
        stem = f"{target.kind}-{self._id}"
        limit = self._rules.partitions_max if target.rows == "append" else 2**31
        return FileWriter(target.table, stem, partitions_max=limit)


def between(rows: pa.Table, first: int, next_: int) -> pa.Table:
    """Rows of offsets `[first, next_)`; `rows` is in offset order."""
    if rows.num_rows == 0:
        return rows
    offsets = rows["_kafka_offset"].to_numpy()
    start, end = np.searchsorted(offsets, [first, next_])
    return rows if (start, end) == (0, rows.num_rows) else rows.slice(int(start), int(end - start))


def checksum_of(rows: pa.Table) -> RowChecksum:
    """Checksum of rows that are only a part of what was decoded together, one by one."""
    values = rows["_kafka_value"].to_pylist() if "_kafka_value" in rows.column_names else [None] * rows.num_rows
    columns = [rows[name].to_pylist() for name in ("_kafka_partition", "_kafka_offset", "_kafka_key")]
    return checksum_rows(zip(*columns, values, strict=True))


def as_built(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows as read from a table, in the columns and types that the builder gives."""
    columns = []
    for one in schema:
        column = rows[one.name]
        if isinstance(column.type, pa.BaseExtensionType) and not isinstance(one.type, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        columns.append(column.cast(one.type))
    return pa.Table.from_arrays(columns, schema=schema)
