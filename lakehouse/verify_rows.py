"""What one record should look like as a row, by the pure-Python rules, and the same row as DuckDB reads it from the table.

Both sides become the same text of the declared columns' stored values (days, microseconds, exact decimals), which is
hashed with the row's place. Nothing of the exporter's compiled readers is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

import duckdb

from lakehouse.json_values import Window
from lakehouse.parse_json_strict import Rejected, StrictParser
from schemas.columns import Column
from schemas.kafka.records import Record

ROWS_AT_ONCE = 10_000
NO_TIMESTAMP = -1
MODULUS = 1 << 64

SQL_MOMENTS = (
    "(coalesce(sum((md5_number(encode(concat(_kafka_offset, ':', coalesce(epoch_us(_kafka_timestamp)::VARCHAR, '-')))) "
    f"% {MODULUS}::UHUGEINT)::UBIGINT), 0) % {MODULUS})::UBIGINT"
)
"""DuckDB expression: the sum of `moment_hash` over a table's rows."""

_SQL_HEADERS = (
    "array_to_string(list_transform(_kafka_headers, lambda one: "
    "concat(octet_length(encode(one.key)), ':', one.key, '=', coalesce(hex(one.value), '-'))), ',')"
)
SQL_HEADERS = (
    f"(coalesce(sum((md5_number(encode(concat(_kafka_offset, ':', {_SQL_HEADERS}))) % {MODULUS}::UHUGEINT)::UBIGINT) "
    f"FILTER (WHERE len(_kafka_headers) > 0), 0) % {MODULUS})::UBIGINT"
)
"""DuckDB expression: the sum of `headers_hash` over a table's rows."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """How records of a topic become rows: raw without columns, typed with them."""

    columns: tuple[Column, ...] = ()
    window: Window = field(default_factory=Window)
    _parsers: list[StrictParser] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.columns:
            self._parsers.append(StrictParser(self.columns, self.window))

    def cells(self, record: Record) -> str | None:
        """The declared columns' values as text ('' in raw mode); None where the record doesn't fit the table."""
        if record.timestamp != NO_TIMESTAMP and not self.window.holds(record.timestamp * 1000):
            return None
        if not self._parsers:
            return ""
        try:
            return repr(self._parsers[0].parse(record.value))
        except Rejected:
            return None

    def moment_hash(self, record: Record) -> int:
        """The hash of offset and timestamp; a timestamp that a table can't hold is null in it."""
        micros = record.timestamp * 1000
        known = record.timestamp != NO_TIMESTAMP and self.window.holds(micros)
        return text_hash(f"{record.offset}:{micros if known else '-'}")

    def read(self, lake: duckdb.DuckDBPyConnection, source: str) -> Iterator[tuple[int, int]]:
        """(partition, `cells_hash`) of every row of a table with these columns."""
        selected = ", ".join(_expression(column) for column in self.columns)
        found = lake.execute(f"SELECT _kafka_partition, _kafka_offset, {selected} FROM {source}")
        while rows := found.fetchmany(ROWS_AT_ONCE):
            for partition, offset, *values in rows:
                stored = tuple(map(_stored, self.columns, values))
                yield int(partition), cells_hash(int(offset), repr(stored))


def headers_hash(record: Record) -> int:
    """The hash of a record's offset and headers, in their order; 0 without any. Keys that are no UTF-8 are mended as
    the tables' strings are."""
    if not record.headers:
        return 0
    parts = []
    for name, value in record.headers:
        key = name.decode("utf-8", "replace")
        parts.append(f"{len(key.encode())}:{key}={'-' if value is None else value.hex().upper()}")
    return text_hash(f"{record.offset}:{','.join(parts)}")


def cells_hash(offset: int, cells: str) -> int:
    """The hash of a row's offset and declared columns, 0 to 2^64 - 1."""
    return text_hash(f"{offset}:{cells}")


def text_hash(text: str) -> int:
    """The first 8 bytes of the MD5, little-endian."""
    return int.from_bytes(md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:8], "little")


def _expression(column: Column) -> str:
    name = quoted(column.name)
    if column.type.name == "date":
        return f"({name} - DATE '1970-01-01')"
    if column.type.name in ("time", "timestamp", "timestamptz"):
        return f"epoch_us({name})"
    return f"{name}::VARCHAR" if column.type.name == "uuid" else name


def _stored(column: Column, value: Any) -> Any:
    return bytes.fromhex(value.replace("-", "")) if column.type.name == "uuid" and value is not None else value


def quoted(name: str) -> str:
    """A name for SQL."""
    return '"' + name.replace('"', '""') + '"'
