"""What shall be mirrored and when: from a topic's settings to tables, and from what is known to the next step. Pure.

Invariants owned here: a topic's tables follow from its settings alone; settings that can't be carried out are said in words
(`PlanError`, shown as Config Issue) and export nothing, rather than something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from schemas.columns import Column, ColumnsError, parse_columns
from schemas.config_types import split_list
from schemas.table_config import parse_start
from schemas.topic_config import value_of

TableKind = Literal["main", "history", "dlq"]
RowKind = Literal["append", "latest"]
Invalid = Literal["dlq", "pause", "drop"]


class PlanError(ValueError):
    """Settings of a topic that can't be carried out; the message says which to change."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table of a topic that takes records."""

    kind: TableKind
    name: str
    """Full dotted name, reserved for this topic."""
    rows: RowKind
    partition_by: str
    """`iceberg.partition.by` of append tables; '' is unpartitioned."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What a topic's settings ask for."""

    topic: int
    topic_id: UUID
    topic_name: str
    shards: int
    created_ms: int
    tables: tuple[TablePlan, ...]
    """The main table first, then its history."""
    dlq_name: str
    columns: tuple[Column, ...] | None
    """Declared columns; None keeps values raw."""
    lag_ms: int
    start: str | int
    """'earliest', 'latest' or Unix ms."""
    invalid: Invalid


def plan_topic(
    *,
    topic: int,
    topic_id: UUID,
    name: str,
    shards: int,
    created_ms: int,
    config: Mapping[str, str],
    tables: Mapping[str, str],
) -> TopicPlan | None:
    """The plan of a topic, or None where it is not mirrored. `tables`: kind -> reserved full name. Raises PlanError."""
    mode = value_of("iceberg.mode", config)
    if mode == "disabled":
        return None
    rows = _row_kind(config)
    partition_by = value_of("iceberg.partition.by", config)
    main = TablePlan("main", tables["main"], rows, partition_by or "day(_kafka_timestamp)" if rows == "append" else "")
    found = [main]
    if rows == "latest" and value_of("iceberg.history", config) == "true":
        found.append(TablePlan("history", tables["history"], "append", "day(_kafka_timestamp)"))
    invalid: Invalid = _one_of(value_of("iceberg.invalid", config))
    return TopicPlan(
        topic=topic,
        topic_id=topic_id,
        topic_name=name,
        shards=shards,
        created_ms=created_ms,
        tables=tuple(found),
        dlq_name=tables["dlq"],
        columns=_columns(mode, value_of("iceberg.columns", config)),
        lag_ms=int(value_of("iceberg.target.lag.ms", config)),
        start=parse_start(value_of("iceberg.start", config)),
        invalid=invalid,
    )


def is_excluded(pattern: str, name: str) -> bool:
    """True where the setting `iceberg_exclude` keeps this topic from being mirrored."""
    return bool(pattern) and re.search(pattern, name) is not None


def _row_kind(config: Mapping[str, str]) -> RowKind:
    kind = value_of("iceberg.kind", config)
    if kind == "auto":
        return "latest" if "compact" in split_list(value_of("cleanup.policy", config)) else "append"
    return "latest" if kind == "latest" else "append"


def _one_of(word: str) -> Invalid:
    if word == "pause":
        return "pause"
    return "drop" if word == "drop" else "dlq"


def _columns(mode: str, declared: str) -> tuple[Column, ...] | None:
    if mode == "schema":
        raise PlanError(
            "iceberg.mode=schema needs a schema registry, which this version has not: declare iceberg.columns"
        )
    if mode == "raw" or (mode == "auto" and not declared.strip()):
        return None
    try:
        return parse_columns(declared)
    except ColumnsError as error:
        raise PlanError(f"iceberg.mode={mode}: {error}") from error


@dataclass(slots=True)
class Backlog:
    """When records that are not in the table yet were seen first and last. Milliseconds by the exporter's clock."""

    first_ms: int | None = None
    last_ms: int | None = None
    high: int = 0

    def see(self, now_ms: int, high: int, behind: bool) -> None:
        """Take note of the sum of high watermarks, and of whether the tables are behind it."""
        if not behind:
            self.first_ms = self.last_ms = None
        elif self.first_ms is None or high > self.high:
            self.first_ms = now_ms if self.first_ms is None else self.first_ms
            self.last_ms = now_ms
        self.high = high

    def is_due(self, now_ms: int, *, bytes_behind: int, chunk_bytes: int, lag_ms: int, idle_ms: int) -> bool:
        """True where a chunk should be exported now: it is full, its first record has waited its lag, or nothing more comes."""
        if self.first_ms is None or self.last_ms is None:
            return False
        return bytes_behind >= chunk_bytes or now_ms - self.first_ms >= lag_ms or now_ms - self.last_ms >= idle_ms
