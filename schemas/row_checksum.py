"""The checksum of a set of rows: what the ledger keeps per range and what `neve verify` recomputes.

A row's message is the ASCII text `partition:offset:key length:value length:` (decimal; a null's length is `-`), then the
bytes of key and value. Its hash is the first 8 bytes of the message's MD5, little-endian. The checksum of a set of rows is
their count and the sum of their hashes modulo 2^64: independent of order, and checksums of disjoint sets add up. A row in
two places counts twice, a row lost or changed shows; it is no defence against somebody who forges rows.

Tables in raw mode and dead letters have the value; tables with typed columns don't, there every value counts as null.
Written as `count:sum in 16 hexadecimal digits`. Three implementations agree: this one, `SQL_SUM` for DuckDB over the table,
and the exporter's compiled one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import md5
from typing import NamedTuple

MODULUS = 1 << 64


class RowChecksum(NamedTuple):
    """Count and sum of hashes of a set of rows."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: object) -> RowChecksum:
        """The checksum of two disjoint sets together."""
        if not isinstance(other, RowChecksum):
            return NotImplemented
        return RowChecksum(self.rows + other.rows, (self.total + other.total) % MODULUS)

    def __str__(self) -> str:
        return f"{self.rows}:{self.total:016x}"


def parse_checksum(text: str) -> RowChecksum:
    """Read what `str` wrote. Raises ValueError."""
    count, _, total = text.partition(":")
    return RowChecksum(int(count), int(total, 16))


def row_hash(partition: int, offset: int, key: bytes | None, value: bytes | None) -> int:
    """The hash of one row, 0 to 2^64 - 1."""
    key_length = "-" if key is None else str(len(key))
    value_length = "-" if value is None else str(len(value))
    message = f"{partition}:{offset}:{key_length}:{value_length}:".encode() + (key or b"") + (value or b"")
    return int.from_bytes(md5(message, usedforsecurity=False).digest()[:8], "little")


def checksum_rows(rows: Iterable[tuple[int, int, bytes | None, bytes | None]]) -> RowChecksum:
    """The checksum of rows of (partition, offset, key, value)."""
    count = total = 0
    for row in rows:
        count += 1
        total += row_hash(*row)
    return RowChecksum(count, total % MODULUS)


def sql_sum(with_value: bool) -> str:
    """DuckDB expressions `count, sum` over a table's rows, sum as UBIGINT; `with_value` where it has `_kafka_value`.

    DuckDB's md5_number reads the digest as a little-endian number.
    """
    value_length = "coalesce(octet_length(_kafka_value)::VARCHAR, '-')" if with_value else "'-'"
    value = " || coalesce(_kafka_value, ''::BLOB)" if with_value else ""
    head = f"concat(_kafka_partition, ':', _kafka_offset, ':', coalesce(octet_length(_kafka_key)::VARCHAR, '-'), ':', {value_length}, ':')"
    number = f"md5_number(encode({head}) || coalesce(_kafka_key, ''::BLOB){value})"
    return f"count(*), (coalesce(sum(({number} % {MODULUS}::UHUGEINT)::UBIGINT), 0) % {MODULUS})::UBIGINT"
