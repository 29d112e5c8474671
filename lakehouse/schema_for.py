"""Table schemas: from declared columns to Iceberg, and from an Iceberg table's own schema to Arrow with field ids.

Flat metadata columns first, then the value's, all optional (layout version 1). Ids given here are provisional: Iceberg
assigns its own when the table is created, so files are always written with `file_schema(table.schema())`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakehouse.dead_letters import FIELDS as DEAD_LETTER_FIELDS
from lakehouse.row_columns import METADATA_FIELDS, VALUE_FIELD
from schemas.columns import Column, ColumnType

LAYOUT_VERSION = 1
FIELD_ID = b"PARQUET:field_id"

_TYPES: dict[str, IcebergType] = {
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "string": StringType(),
    "json": StringType(),
    "binary": BinaryType(),
    "uuid": UUIDType(),
}
_OF_ARROW: dict[pa.DataType, IcebergType] = {
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.timestamp("us", tz="UTC"): TimestamptzType(),
}
_TO_ARROW: dict[IcebergType, pa.DataType] = {
    BooleanType(): pa.bool_(),
    IntegerType(): pa.int32(),
    LongType(): pa.int64(),
    FloatType(): pa.float32(),
    DoubleType(): pa.float64(),
    DateType(): pa.date32(),
    TimeType(): pa.time64("us"),
    TimestampType(): pa.timestamp("us"),
    TimestamptzType(): pa.timestamp("us", tz="UTC"),
    StringType(): pa.string(),
    BinaryType(): pa.binary(),
    UUIDType(): pa.uuid(),
}


def table_schema(columns: Sequence[Column] = ()) -> Schema:
    """The Iceberg schema of a main table: typed with columns, raw without."""
    fields: list[tuple[str, IcebergType | None]] = [(name, _OF_ARROW.get(kind)) for name, kind in METADATA_FIELDS]
    if columns:
        fields += [(column.name, iceberg_type(column.type)) for column in columns]
    else:
        fields.append((VALUE_FIELD[0], BinaryType()))
    return _numbered(fields)


def dead_letter_schema() -> Schema:
    """The Iceberg schema of `<table>__dlq`."""
    return _numbered([(name, _OF_ARROW.get(kind)) for name, kind in DEAD_LETTER_FIELDS])


def iceberg_type(column: ColumnType) -> IcebergType:
    """The Iceberg type of a declared type."""
    return DecimalType(column.precision, column.scale) if column.name == "decimal" else _TYPES[column.name]


def file_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema that data files of a table are written with: the table's names and order, and its ids at every level."""
    return pa.schema([_arrow_field(field) for field in schema.fields])


def _numbered(fields: Sequence[tuple[str, IcebergType | None]]) -> Schema:
    """Optional fields with ids from 1; None stands for the headers' type, whose inner ids come after all others."""
    inner = len(fields) + 1
    numbered = []
    for field_id, (name, kind) in enumerate(fields, start=1):
        numbered.append(NestedField(field_id, name, kind or _headers_type(inner), required=False))
        inner += 3 if kind is None else 0
    return Schema(*numbered)


def _headers_type(first_id: int) -> ListType:
    header = StructType(
        NestedField(first_id + 1, "key", StringType(), required=False),
        NestedField(first_id + 2, "value", BinaryType(), required=False),
    )
    return ListType(first_id, header, element_required=False)


def _arrow_field(field: NestedField) -> pa.Field:
    return _with_id(field.name, _arrow_type(field.field_type), field.field_id)


def _with_id(name: str, kind: pa.DataType, field_id: int) -> pa.Field:
    return pa.field(name, kind, metadata={FIELD_ID: str(field_id).encode()})


def _arrow_type(kind: IcebergType) -> pa.DataType:
    if isinstance(kind, DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, ListType):
        return pa.list_(_with_id("element", _arrow_type(kind.element_type), kind.element_id))
    if isinstance(kind, StructType):
        return pa.struct([_arrow_field(field) for field in kind.fields])
    found = _TO_ARROW.get(kind)
    if found is None:
        raise ValueError(f"the table has a column of type {kind}, which the exporter doesn't write")
    return found
