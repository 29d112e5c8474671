"""Many JSON values -> Arrow columns: the fast path over everything, the strict parser over what it wasn't sure of.

What a row means, and why one is refused, is said by `parse_json_strict` alone; the compiled reader may accept only what that
module accepts with the same values (held by property tests). Rows are read in slices, so the arrays in between stay small
however many columns are declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakehouse.compiled import place
from lakehouse.decode_walk import Bytes, Ints
from lakehouse.json_arrays import arrow_type, column_array
from lakehouse.json_document import DEPTH_MAX
from lakehouse.json_plan import JsonPlan, plan_json
from lakehouse.json_rows import SLOW, read_documents
from lakehouse.json_values import Value, Window
from lakehouse.parse_json_strict import Rejected, StrictParser
from schemas.columns import Column

CELLS_PER_SLICE = 1 << 20
ROWS_PER_SLICE_MAX = 32_768


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that doesn't fit, by its position in what was parsed."""

    row: int
    cause: str
    error: str


@dataclass(frozen=True, slots=True)
class ParsedValues:
    """One array per column, as long as the input; rejected rows are null in all of them."""

    arrays: tuple[pa.ChunkedArray, ...]
    rejected: tuple[RejectedRow, ...]
    slow_rows: int


class JsonParser:
    """Parses values for declared columns; keeps the plan, has no other state."""

    def __init__(self, columns: Sequence[Column], window: Window = Window()) -> None:
        self.columns = tuple(columns)
        self._plan: JsonPlan = plan_json(self.columns, window)
        self._strict = StrictParser(self.columns, window)
        self._slice = max(1, min(ROWS_PER_SLICE_MAX, CELLS_PER_SLICE // len(self.columns)))

    def parse(self, slab: Bytes, spans: Ints) -> ParsedValues:
        """Parse the values at `spans`, (start in slab, length or -1) of shape (n, 2)."""
        slices: list[list[pa.Array]] = []
        rejected: list[RejectedRow] = []
        slow_rows = 0
        for first in range(0, len(spans), self._slice):
            part = spans[first : first + self._slice]
            arrays, slow = self._fast(slab, part)
            if slow:
                slow_rows += len(slow)
                arrays = self._patched(arrays, slab, part, slow, first, rejected)
            slices.append(arrays)
        columns = tuple(
            pa.chunked_array([arrays[position] for arrays in slices], arrow_type(column.type))
            for position, column in enumerate(self.columns)
        )
        return ParsedValues(columns, tuple(rejected), slow_rows)

    def _fast(self, slab: Bytes, spans: Ints) -> tuple[list[pa.Array], list[int]]:
        """The compiled reader's columns, and the rows it left to the strict parser."""
        plan = self._plan
        rows, columns = len(spans), len(self.columns)
        values = np.empty((columns, rows), dtype=np.int64)
        states = np.zeros((columns, rows), dtype=np.uint8)
        verdicts = np.empty(rows, dtype=np.uint8)
        seen = np.full(len(plan.nodes), -1, dtype=np.int64)
        stack = np.zeros((plan.depth, 2), dtype=np.int32)
        read_documents(
            place(slab),
            len(slab),
            place(spans),
            rows,
            DEPTH_MAX,
            columns,
            plan.depth,
            place(plan.keys),
            place(plan.key_spans),
            place(plan.targets),
            place(plan.nodes),
            place(plan.types),
            place(seen),
            place(stack),
            place(values),
            place(states),
            place(verdicts),
        )
        slow = verdicts == SLOW
        arrays = []
        for position, column in enumerate(self.columns):
            array, more = column_array(column.type, slab, values[position], states[position])
            arrays.append(array)
            if more is not None:
                slow |= more
        return arrays, [int(row) for row in np.flatnonzero(slow)]

    def _patched(
        self, arrays: list[pa.Array], slab: Bytes, spans: Ints, slow: list[int], first: int, rejected: list[RejectedRow]
    ) -> list[pa.Array]:
        """The arrays with the slow rows read by the strict parser; refused ones become rows of nulls."""
        read: list[tuple[Value, ...]] = []
        nothing = (None,) * len(self.columns)
        for row, document in self._documents(slab, spans, slow):
            try:
                read.append(self._strict.parse(document))
            except Rejected as error:
                read.append(nothing)
                rejected.append(RejectedRow(first + row, error.cause, str(error)))
        order = np.arange(len(spans), dtype=np.int64)
        order[slow] = len(spans) + np.arange(len(slow))
        indices = pa.array(order)
        return [
            pa.concat_arrays([array, pa.array([values[position] for values in read], array.type)]).take(indices)
            for position, array in enumerate(arrays)
        ]

    @staticmethod
    def _documents(slab: Bytes, spans: Ints, rows: list[int]) -> Iterator[tuple[int, bytes | None]]:
        for row in rows:
            start, length = int(spans[row, 0]), int(spans[row, 1])
            yield row, None if length < 0 else slab[start : start + length].tobytes()
