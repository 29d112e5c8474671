"""What `neve verify` found: values, and how they are shown as JSON, as a table, and as one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Compared:
    """One partition of one table: what the log says and what the table has."""

    table: str
    partition: int
    first: int
    watermark: int
    expected_rows: int
    table_rows: int
    dead_letters: int
    expected_checksum: str
    table_checksum: str
    difference: str
    """'' where all agrees."""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole comparison."""

    topic: str
    snapshots: Mapping[str, int | None]
    partitions: Sequence[Compared]

    @property
    def equal(self) -> bool:
        """True where nothing differs."""
        return all(not one.difference for one in self.partitions)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "topic": self.topic,
            "equal": self.equal,
            "snapshots": dict(self.snapshots),
            "rows": sum(one.table_rows for one in self.partitions),
            "partitions": [asdict(one) for one in self.partitions],
        }

    def columns(self) -> list[str]:
        """Headings of `rows`."""
        return [
            "table",
            "partition",
            "offsets",
            "expected rows",
            "table rows",
            "dead letters",
            "checksum",
            "difference",
        ]

    def rows(self) -> list[list[Any]]:
        """For a table on a terminal."""
        return [
            [
                one.table,
                one.partition,
                f"{one.first}..{one.watermark}",
                one.expected_rows,
                one.table_rows,
                one.dead_letters,
                one.table_checksum.partition(":")[2],
                one.difference or "none",
            ]
            for one in self.partitions
        ]

    def title(self) -> str:
        """Heading of the report."""
        return f"{self.topic}: log and tables"

    def verdict(self) -> str:
        """The last line."""
        count = sum(one.table_rows for one in self.partitions)
        if self.equal:
            tables = len(self.snapshots)
            return f"equal: {count} rows in {tables} table{'' if tables == 1 else 's'} are exactly what the log says"
        return f"DIFFERENT in {sum(1 for one in self.partitions if one.difference)} places"
