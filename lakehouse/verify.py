"""`neve verify`: a topic's log and its tables, compared at pinned snapshots. None of the exporter's code is used.

The log is read from a running system and decoded in pure Python; the tables are read with DuckDB at the snapshots that
their metadata named first (main, then history, then dead letters, which are always at or ahead of the main table).
Compared per partition: rows, least and largest offset, the checksum of `schemas.row_checksum`, timestamps, headers, and in
tables with declared columns their values, which the strict parser reads from each record; a record that fits must not be a dead
letter, and any other one must be, unless the topic drops them. A latest table is compared with the last value per
(partition, key) of the whole replay. Rows below the log start, whose records are gone, are left out on both sides. So are,
in tables that keep every record, rows whose records key compaction has removed from the log: as far as it came, the log's
records must be in the table, and behind that both must be equal.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

import duckdb
import numpy as np
import pyarrow as pa

from lakehouse.duck import QueryError
from lakehouse.query import open_lake
from lakehouse.verify_log import MODULUS, DeadRanges, Expected, Tally, dead_ranges
from lakehouse.verify_report import Compared, Report
from lakehouse.verify_rows import SQL_HEADERS, SQL_MOMENTS, RowRules, quoted
from lakehouse.watermark import COLUMNS, OFFSETS_START, ROWS, WatermarkUnreadable, parse_offsets, read_watermark
from schemas.columns import Column, parse_columns
from schemas.row_checksum import sql_sum
from schemas.settings import Settings

HTTP_TIMEOUT_S = 30.0
BROKEN = ("broken_batch", "decompression")
NO_KEY = "null_key"
KEPT = "neve_kept_offsets"


class VerifyError(Exception):
    """The comparison can't be made; the message says why and what to do."""


class ReadLog(Protocol):
    """Reads a topic's log: (topic, partition -> first, partition -> next) gives (partition, whole batches) in order."""

    def __call__(self, topic: str, first: Mapping[int, int], next_: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """Batches that hold `[first, next)` of each partition; they may begin before and end behind."""
        ...


@dataclass(frozen=True, slots=True)
class Pinned:
    """One table at the snapshot that is verified."""

    name: str
    snapshot_id: int | None
    watermark: Mapping[int, int]
    start: Mapping[int, int]
    """Partition -> first offset that is compared: where the table begins, or the log."""
    with_value: bool
    latest: bool
    columns: tuple[Column, ...] = ()
    """Declared columns; none in raw mode."""

    def sql(self) -> str:
        """The table at its snapshot."""
        namespace, _, name = self.name.rpartition(".")
        return f"lake.{quoted(namespace)}.{quoted(name)} AT (VERSION => {self.snapshot_id})"

    def compared(self) -> str:
        """What is true of rows that are compared: they lie at or above `start`."""
        below = " OR ".join(
            f"(_kafka_partition = {partition} AND _kafka_offset < {start})"
            for partition, start in self.start.items()
            if start
        )
        return f"NOT ({below or 'false'})"


def verify_topic(topic: str, *, http: str, read_log: ReadLog, settings: Settings | None = None) -> Report:
    """Compare. Raises VerifyError."""
    facts = _topic_facts(http, topic)
    try:
        pinned: dict[str, Pinned] = {
            kind: _pin(http, facts.names[kind], facts.log_starts)
            for kind in ("main", "history", "dlq")
            if kind in facts.names
        }
        with open_lake(http, settings) as lake:
            bytes_max = (settings or Settings()).max_decompressed_message_bytes
            expected = _replayed(topic, pinned, facts, lake, read_log, bytes_max)
            return _compare(topic, pinned, expected, lake, _rows_kept(lake, expected, _topic_facts(http, topic)))
    except (QueryError, duckdb.Error) as error:
        raise VerifyError(str(error)) from error


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What an agent says of a topic's tables and its log."""

    names: Mapping[str, str]
    """kind -> table, of those that exist."""
    drop: bool
    """Records that don't fit are dropped."""
    log_starts: Mapping[int, int]
    compacted: Mapping[int, int]
    """Partition -> below which offset key compaction may have removed records by now."""


def _replayed(
    topic: str,
    pinned: Mapping[str, Pinned],
    facts: TopicFacts,
    lake: duckdb.DuckDBPyConnection,
    read_log: ReadLog,
    max_bytes: int,
) -> dict[int, Expected]:
    """What the tables should hold, by partition, from the log."""
    main, history, dlq = pinned["main"], pinned.get("history"), pinned.get("dlq")
    expected = _expected(main, history, _dead_rows(lake, dlq), drop=facts.drop)
    for partition in facts.compacted:
        if partition in expected:
            expected[partition].kept = array("q")
    first = {p: one.first for p, one in expected.items()}
    next_ = {p: max(one.watermark, one.history_watermark) for p, one in expected.items()}
    for partition, batches in read_log(topic, first, next_):
        expected[partition].take(batches, max_bytes)
    return expected


def _rows_kept(lake: duckdb.DuckDBPyConnection, expected: Mapping[int, Expected], facts: TopicFacts) -> str:
    """What is true of rows that the log, read before `facts`, still has records for. Raises VerifyError."""
    below = []
    for partition, through in sorted(facts.compacted.items()):
        if partition in expected and expected[partition].kept is None:
            raise VerifyError(f"key compaction began on partition {partition} while it was compared: run it again")
        below.append(f"(_kafka_partition = {partition} AND _kafka_offset < {through})")
    if not below:
        return "true"
    kept = {partition: one.kept for partition, one in expected.items() if one.kept}
    partitions = np.concatenate(
        [np.full(len(offsets), partition, np.int32) for partition, offsets in kept.items()] or [np.empty(0, np.int32)]
    )
    offsets = np.concatenate([np.frombuffer(one, np.int64) for one in kept.values()] or [np.empty(0, np.int64)])
    lake.register(KEPT, pa.table({"kept_partition": partitions, "kept_offset": offsets}))
    inside = f"(_kafka_partition, _kafka_offset) IN (SELECT (kept_partition, kept_offset) FROM {KEPT})"
    return f"(NOT ({' OR '.join(below)}) OR {inside})"


def _compare(
    topic: str,
    pinned: Mapping[str, Pinned],
    expected: Mapping[int, Expected],
    lake: duckdb.DuckDBPyConnection,
    kept: str,
) -> Report:
    main, history, dlq = pinned["main"], pinned.get("history"), pinned.get("dlq")
    rows = _compared(
        main, _tallies(lake, main, "true" if main.latest else kept), expected, lambda one: (one.main(), one.watermark)
    )
    if history is not None:
        tallies = _tallies(lake, history, kept)
        rows += _compared(history, tallies, expected, lambda one: (one.history, one.history_watermark))
    if dlq is not None:
        tallies = _tallies(lake, dlq, f"{_where_dead(main)} AND {kept}")
        rows += _compared(dlq, tallies, expected, lambda one: (one.dead_records, one.watermark))
    rows = [_unexplained(row, expected[row.partition]) if row.table == main.name else row for row in rows]
    return Report(topic, {one.name: one.snapshot_id for one in pinned.values()}, rows)


def _expected(
    main: Pinned, history: Pinned | None, dead: Sequence[tuple[int, int, int, str]], *, drop: bool
) -> dict[int, Expected]:
    all_dead = dead_ranges([row[:3] for row in dead])
    without_keys = dead_ranges([row[:3] for row in dead if row[3] != NO_KEY])
    history_marks = {} if history is None else history.watermark
    return {
        partition: Expected(
            partition,
            main.start.get(partition, 0),
            main.with_value,
            main.watermark.get(partition, 0),
            history_marks.get(partition, 0),
            all_dead.get(partition, DeadRanges()),
            without_keys.get(partition, DeadRanges()),
            latest=main.latest,
            rules=RowRules(main.columns),
            drop=drop,
        )
        for partition in sorted(main.watermark.keys() | history_marks.keys())
    }


def _compared(
    table: Pinned,
    found: Mapping[int, Tally],
    expected: Mapping[int, Expected],
    what: Callable[[Expected], tuple[Tally, int]],
) -> list[Compared]:
    rows = []
    for partition in sorted(expected.keys() | found.keys()):
        has = found.get(partition, Tally())
        one = expected.get(partition)
        wants, watermark = (Tally(), 0) if one is None else what(one)
        rows.append(
            Compared(
                table.name,
                partition,
                0 if one is None else one.first,
                watermark,
                wants.count,
                has.count,
                0 if one is None else one.dead_records.count + one.broken_batches,
                str(wants.checksum),
                str(has.checksum),
                _difference(wants, has),
            )
        )
    return rows


def _difference(wants: Tally, has: Tally) -> str:
    """What differs first, in words."""
    if wants.count != has.count:
        return f"{abs(wants.count - has.count)} rows {'missing' if has.count < wants.count else 'too many'}"
    if (wants.offset_min, wants.offset_max) != (has.offset_min, has.offset_max):
        return f"offsets {has.offset_min}..{has.offset_max} instead of {wants.offset_min}..{wants.offset_max}"
    if wants.sum != has.sum:
        return "the checksums differ: some rows are not what was acknowledged"
    if wants.moments != has.moments:
        return "the timestamps differ: some rows have another one than was acknowledged"
    if wants.headers != has.headers:
        return "the headers differ: some rows have others than were acknowledged"
    return "" if wants.cells == has.cells else "the columns differ: some rows hold other values than their records"


def _unexplained(row: Compared, expected: Expected) -> Compared:
    """A broken batch must be a dead letter, and other records must be where they belong."""
    if row.difference or not (expected.unexplained or expected.misplaced):
        return row
    if expected.misplaced:
        return replace(row, difference=expected.misplaced[0])
    return replace(row, difference=f"the broken batch at offset {expected.unexplained[0]} is no dead letter")


def _tallies(lake: duckdb.DuckDBPyConnection, table: Pinned, where: str = "true") -> dict[int, Tally]:
    """partition -> what the table has at its snapshot; an offset that stands there twice counts twice."""
    if table.snapshot_id is None:
        return {}
    sql = (
        f"SELECT _kafka_partition, min(_kafka_offset), max(_kafka_offset), {sql_sum(table.with_value)}, "
        f"{SQL_MOMENTS}, {SQL_HEADERS} "
        f"FROM {table.sql()} WHERE {table.compared()} AND {where} GROUP BY _kafka_partition"
    )
    found = {
        int(partition): Tally(int(count), int(total), int(moments), 0, int(headers), int(least), int(largest))
        for partition, least, largest, count, total, moments, headers in lake.execute(sql).fetchall()
    }
    if table.columns:
        for partition, hashed in RowRules(table.columns).read(
            lake, f"{table.sql()} WHERE {table.compared()} AND {where}"
        ):
            found[partition].cells = (found[partition].cells + hashed) % MODULUS
    return found


def _dead_rows(lake: duckdb.DuckDBPyConnection, dlq: Pinned | None) -> list[tuple[int, int, int, str]]:
    """(partition, offset, next offset, cause) of every dead letter."""
    if dlq is None or dlq.snapshot_id is None:
        return []
    sql = f"SELECT _kafka_partition, _kafka_offset, _kafka_offset_next, cause FROM {dlq.sql()}"
    return [(int(row[0]), int(row[1]), int(row[2]), str(row[3])) for row in lake.execute(sql).fetchall()]


def _where_dead(main: Pinned) -> str:
    """Dead letters of single records below the main table's watermark: those in front of it wait for their rows."""
    below = " OR ".join(
        f"(_kafka_partition = {partition} AND _kafka_offset < {next_})" for partition, next_ in main.watermark.items()
    )
    causes = ", ".join(f"'{cause}'" for cause in BROKEN)
    return f"cause NOT IN ({causes}) AND ({below or 'false'})"


def _pin(http: str, name: str, log_starts: Mapping[int, int]) -> Pinned:
    """A table's snapshot and the watermark that belongs to it, from one reading of its metadata."""
    namespace, _, table = name.rpartition(".")
    levels = quote("\x1f".join(namespace.split(".")), safe="")
    answer = _get(http, f"/iceberg/v1/namespaces/{levels}/tables/{quote(table, safe='')}")["metadata"]
    properties = answer["properties"]
    try:
        mark = read_watermark(properties)
        begun = parse_offsets(properties.get(OFFSETS_START, "{}"))
    except WatermarkUnreadable as error:
        raise VerifyError(f"{name}: {error}") from error
    start = {p: max(begun.get(p, 0), log_starts.get(p, 0)) for p in sorted(begun.keys() | log_starts.keys())}
    schemas = {one["schema-id"]: one for one in answer["schemas"]}
    columns = {field["name"] for field in schemas[answer["current-schema-id"]]["fields"]}
    snapshot_id = answer.get("current-snapshot-id")
    pinned = None if snapshot_id in (None, -1) else int(snapshot_id)
    latest = properties.get(ROWS) == "latest"
    declared = properties.get(COLUMNS)
    typed = parse_columns(declared) if declared else ()
    return Pinned(name, pinned, mark.offsets, start, "_kafka_value" in columns, latest, typed)


def _topic_facts(http: str, topic: str) -> TopicFacts:
    """What is so now. Raises VerifyError where the topic has no table yet."""
    known = [one for one in _get(http, "/v1/exports") if one["topic"] == topic]
    found = {str(one["kind"]): str(one["table"]) for one in known if one["committed_ms"] is not None}
    if "main" not in found:
        raise VerifyError(f"topic {topic!r} has no table with rows yet; {_why_not(known)}")
    log_starts, compacted = (
        {int(partition): int(offset) for partition, offset in known[0].get(name, {}).items()}
        for name in ("log_starts", "compacted")
    )
    return TopicFacts(found, any(one.get("invalid") == "drop" for one in known), log_starts, compacted)


def _why_not(known: Sequence[Mapping[str, Any]]) -> str:
    """What is known of tables that were never committed."""
    main = next((one for one in known if one["kind"] == "main"), None)
    if main is None:
        return "is there such a topic, is it mirrored (iceberg.mode, iceberg_exclude), and does an agent have the role export?"
    words = f"{main.get('status', 'Pending')} {main.get('message', '')}".strip()
    return f"its export says: {words}; wait for its first commit"


def _get(http: str, path: str) -> Any:
    url = http.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise VerifyError(f"--http wants a URL like http://127.0.0.1:8080, not {http!r}")
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise VerifyError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise VerifyError(
            f"no agent at {http} ({error}); start one with `neve agent`, or name it with --http"
        ) from error
