"""A decoded chunk -> rows for the main table and rows for the dead letters, with their checksums.

Owns: every offset of the chunk that has a record is in exactly one of the two tables; refused rows carry a cause; row
order is offset order. Pure but for the CPU it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.dead_letters import dead_letters
from lakehouse.decode import DecodedChunk
from lakehouse.json_arrays import arrow_type
from lakehouse.json_values import Window
from lakehouse.parse_json import JsonParser, RejectedRow
from lakehouse.parse_raw import raw_values
from lakehouse.row_columns import METADATA_FIELDS, VALUE_FIELD, metadata_arrays, outside_window
from lakehouse.row_hash import checksum_spans
from schemas.columns import Column
from schemas.row_checksum import RowChecksum, checksum_rows


@dataclass(frozen=True, slots=True)
class ExportRows:
    """What offsets `[offset_first, offset_next)` of one partition become.

    `checksum` is over the main table's rows (with values in raw mode, see `schemas.row_checksum`), `dead_checksum` over the
    dead letters' (key and raw value). `tombstones` says per row of `main` whether the record's value was null.
    """

    partition: int
    offset_first: int
    offset_next: int
    main: pa.Table
    dead: pa.Table
    checksum: RowChecksum
    dead_checksum: RowChecksum
    tombstones: npt.NDArray[np.bool_]
    timestamp_max_ms: int
    """Largest record timestamp in the chunk, -1 without one."""
    slow_rows: int


class RowBuilder:
    """Turns chunks into rows by one table's rules: raw without columns, typed with them."""

    def __init__(self, columns: Sequence[Column] = (), window: Window = Window()) -> None:
        self.columns = tuple(columns)
        self.window = window
        self._parser = JsonParser(self.columns, window) if self.columns else None
        fields = [*METADATA_FIELDS, *((column.name, arrow_type(column.type)) for column in self.columns)]
        if not self.columns:
            fields.append(VALUE_FIELD)
        self.schema = pa.schema([pa.field(name, kind) for name, kind in fields])

    def build(self, chunk: DecodedChunk) -> ExportRows:
        """The rows of a chunk; raises nothing for what records contain."""
        rejected: dict[int, RejectedRow] = {}
        slow_rows = 0
        values: list[pa.Array | pa.ChunkedArray]
        if self._parser is None:
            values = [raw_values(chunk)]
        else:
            parsed = self._parser.parse(chunk.slab, chunk.values)
            values = list(parsed.arrays)
            slow_rows = parsed.slow_rows
            rejected = {refused.row: refused for refused in parsed.rejected}
        for row in np.flatnonzero(outside_window(chunk.timestamps_ms, self.window)).tolist():
            error = f"the record's timestamp, {int(chunk.timestamps_ms[row])} ms, is outside what the table takes"
            rejected[row] = RejectedRow(row, "timestamp_out_of_range", error)
        main = pa.Table.from_arrays([*metadata_arrays(chunk, self.window), *values], schema=self.schema)
        kept = None
        if rejected:
            kept = np.ones(chunk.rows, dtype=np.bool_)
            kept[list(rejected)] = False
            main = main.filter(pa.array(kept))
        refused = [rejected[row] for row in sorted(rejected)]
        dead = dead_letters(chunk, refused, self.window)
        tombstones = chunk.values[:, 1] < 0
        return ExportRows(
            partition=chunk.partition,
            offset_first=chunk.offset_first,
            offset_next=chunk.offset_next,
            main=main,
            dead=dead,
            checksum=self._checksum(chunk, kept),
            dead_checksum=_dead_checksum(dead),
            tombstones=tombstones if kept is None else tombstones[kept],
            timestamp_max_ms=int(chunk.timestamps_ms.max()) if chunk.rows else -1,
            slow_rows=slow_rows,
        )

    def _checksum(self, chunk: DecodedChunk, kept: npt.NDArray[np.bool_] | None) -> RowChecksum:
        offsets, keys, values = chunk.offsets, chunk.keys, chunk.values
        if kept is not None:
            offsets, keys, values = offsets[kept], keys[kept], values[kept]
        return checksum_spans(chunk.partition, offsets, chunk.slab, keys, values, with_value=not self.columns)


def _dead_checksum(dead: pa.Table) -> RowChecksum:
    columns = ("_kafka_partition", "_kafka_offset", "_kafka_key", "_kafka_value")
    return checksum_rows(zip(*(dead.column(name).to_pylist() for name in columns), strict=True))
