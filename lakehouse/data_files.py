"""Data files of one table: rows written as Parquet, one file per partition value, and what a commit needs to know of each.

Invariants owned here: a file holds rows of one partition value of the table's spec; its statistics come from its own
footer; its name is never used twice. Files are written row group by row group, so memory stays at one chunk of rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform, HourTransform, IdentityTransform, MonthTransform, YearTransform
from pyiceberg.typedef import Record

from lakehouse.schema_for import file_schema
from lakehouse.write_parquet import align, open_writer

PartitionValue = tuple[int | float | str | bytes | Decimal | None, ...]
"""As a manifest stores them: dates as days, times and timestamps as microseconds, uuids as bytes."""

_UNIT_US = {DayTransform: 86_400_000_000, HourTransform: 3_600_000_000}


class OtherSpec(Exception):
    """Somebody changed the table's partitioning after the file was written: it has to be written again."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished data file. `partition` holds the values of the spec's fields; `metadata` its footer where it is at hand."""

    path: str
    bytes: int
    rows: int
    partition: PartitionValue
    metadata: pq.FileMetaData | None = None
    spec_id: int = 0
    """The partition spec that `partition` belongs to."""

    def facts(self) -> dict[str, Any]:
        """As JSON for the ledger."""
        return {
            "path": self.path,
            "bytes": self.bytes,
            "rows": self.rows,
            "partition": [_to_json(value) for value in self.partition],
            "spec": self.spec_id,
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> WrittenFile:
        """The inverse of `facts`; the footer is read again when it is needed."""
        partition = tuple(_of_json(value) for value in facts["partition"])
        return cls(facts["path"], facts["bytes"], facts["rows"], partition, spec_id=facts.get("spec", 0))


@dataclass(frozen=True, slots=True)
class _OpenFile:
    """A file being written; its footer comes when it is closed."""

    path: str
    writer: pq.ParquetWriter
    stream: Any
    footers: list[pq.FileMetaData]

    def close(self) -> int:
        """Close, durably; answers the bytes written."""
        try:
            self.writer.close()
            size: int = self.stream.tell()
        finally:
            self.stream.close()
        return size


class FileWriter:
    """Writes one chunk of a table's rows into one file per partition value. Close it, or leave orphan files behind."""

    def __init__(self, table: Table, stem: str, *, partitions_max: int) -> None:
        self._table = table
        self._stem = stem
        self._partitions_max = partitions_max
        self._schema = file_schema(table.schema())
        self._open: dict[PartitionValue, _OpenFile] = {}
        self.rows = 0

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was not finished; those files stay orphans."""
        open_files, self._open = list(self._open.values()), {}
        for file in open_files:
            # They stay orphans whatever comes of it; on a full disk even closing fails, and must not hide why.
            with contextlib.suppress(OSError, pa.ArrowException):
                file.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows; the caller has asked `room_for`."""
        for value, part in split(rows, self._table.schema(), self._table.spec()):
            self._writer(value).write_table(align(part, self._schema))
        self.rows += rows.num_rows

    def room_for(self, rows: pa.Table) -> int:
        """How many of the rows, from the first on, fit before there would be more partitions than a commit may touch."""
        firsts = first_rows(rows, self._table.schema(), self._table.spec())
        new = sorted(first for value, first in firsts if value not in self._open)
        room = self._partitions_max - len(self._open)
        return rows.num_rows if len(new) <= room else new[room]

    def _writer(self, value: PartitionValue) -> pq.ParquetWriter:
        if value not in self._open:
            path = f"{self._table.location()}/data/{self._stem}-{len(self._open):05d}.parquet"
            stream = self._table.io.new_output(path).create()
            footers: list[pq.FileMetaData] = []
            self._open[value] = _OpenFile(path, open_writer(stream, self._schema, collected=footers), stream, footers)
        return self._open[value].writer

    def finish(self) -> list[WrittenFile]:
        """Close the files; durable when this returns."""
        written = []
        for value, file in list(self._open.items()):
            size = file.close()
            footer = file.footers[0]
            spec_id = self._table.spec().spec_id
            written.append(WrittenFile(file.path, size, footer.num_rows, value, footer, spec_id))
            del self._open[value]
        return written


def data_file(table: Table, file: WrittenFile) -> DataFile:
    """What a commit adds. Reads the footer where it isn't at hand; a missing or damaged file raises OSError or ArrowException,
    and one that was written under another partition spec than the table has now raises OtherSpec."""
    if file.spec_id != table.spec().spec_id:
        raise OtherSpec(f"{file.path} was written under partition spec {file.spec_id}, the table has another now")
    footer = file.metadata
    if footer is None:
        with table.io.new_input(file.path).open() as stream:
            footer = pq.read_metadata(stream)
    statistics = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(table.schema(), table.properties), parquet_path_to_id_mapping(table.schema())
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record(*file.partition),
        file_size_in_bytes=file.bytes,
        sort_order_id=None,
        spec_id=table.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def split(rows: pa.Table, schema: Schema, spec: PartitionSpec) -> list[tuple[PartitionValue, pa.Table]]:
    """Rows by partition value, in the order of the values' first rows."""
    if rows.num_rows == 0:
        return []
    if spec.is_unpartitioned():
        return [((), rows)]
    groups = _groups(rows, schema, spec, "list")
    if len(groups) == 1:
        return [(groups[0][0], rows)]
    return [(value, rows.take(members.values)) for value, members in groups]


def first_rows(rows: pa.Table, schema: Schema, spec: PartitionSpec) -> list[tuple[PartitionValue, int]]:
    """(partition value, its first row)."""
    if rows.num_rows == 0:
        return []
    if spec.is_unpartitioned():
        return [((), 0)]
    return [(value, first.as_py()) for value, first in _groups(rows, schema, spec, "min")]


def _groups(rows: pa.Table, schema: Schema, spec: PartitionSpec, what: str) -> list[tuple[PartitionValue, pa.Scalar]]:
    names = [f"_partition_{index}" for index in range(len(spec.fields))]
    values = [partition_values(rows, schema, one) for one in spec.fields]
    numbers = pa.array(np.arange(rows.num_rows, dtype=np.int64))
    keyed = pa.table([*values, numbers], names=[*names, "_row"])
    groups = keyed.group_by(names, use_threads=False).aggregate([("_row", what)])
    return [
        (tuple(groups[name][at].as_py() for name in names), groups[f"_row_{what}"][at]) for at in range(groups.num_rows)
    ]


def partition_values(rows: pa.Table, schema: Schema, part: PartitionField) -> pa.Array | pa.ChunkedArray:
    """A partition field's value of every row, as the specification's transforms give it (days since 1970 and so on)."""
    column = rows[schema.find_column_name(part.source_id)]
    transform = part.transform
    if isinstance(transform, IdentityTransform):
        return _stored(column)
    if isinstance(transform, (DayTransform, HourTransform)):
        micros = pc.cast(column, pa.int64()) if pa.types.is_timestamp(column.type) else _date_micros(column)
        return pc.cast(_floor_divide(micros, _UNIT_US[type(transform)]), pa.int32())
    if isinstance(transform, (MonthTransform, YearTransform)):
        years = pc.subtract(pc.year(column), 1970)
        if isinstance(transform, YearTransform):
            return pc.cast(years, pa.int32())
        return pc.cast(pc.add(pc.multiply(years, 12), pc.subtract(pc.month(column), 1)), pa.int32())
    arrow = transform.pyarrow_transform(schema.find_type(part.source_id))
    return arrow(column)


def _stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Moments as the whole numbers they are stored as; other columns as they are."""
    if pa.types.is_date(column.type):
        return pc.cast(column, pa.int32())
    if pa.types.is_timestamp(column.type) or pa.types.is_time(column.type):
        return pc.cast(column, pa.int64())
    return column


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return {"decimal": str(value)} if isinstance(value, Decimal) else value


def _of_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return bytes.fromhex(value["bytes"]) if "bytes" in value else Decimal(value["decimal"])


def _date_micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.multiply(pc.cast(pc.cast(column, pa.int32()), pa.int64()), _UNIT_US[DayTransform])


def _floor_divide(numbers: pa.ChunkedArray, divisor: int) -> pa.ChunkedArray:
    """Rounding down, in whole numbers: Arrow's division rounds towards zero, and floats lose microseconds after 2255."""
    quotient = pc.divide(numbers, divisor)
    too_high = pc.greater(pc.multiply(quotient, divisor), numbers)
    return pc.subtract(quotient, pc.cast(too_high, pa.int64()))


def files_of(facts: Sequence[Mapping[str, Any]]) -> list[WrittenFile]:
    """Files as the ledger has them."""
    return [WrittenFile.from_facts(one) for one in facts]
