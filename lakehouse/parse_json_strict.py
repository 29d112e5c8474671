"""One JSON document -> one row, strictly and in pure Python: the meaning of `iceberg.mode=json`.

The exporter's fast path hands every row it is not sure of to this module, and `neve verify` reads every row with it; tests
hold the two equal. No numba, numpy or Arrow here.

What a row is: the document is a UTF-8 JSON object. A declared member that is missing or null is null; a path through a
missing or null object is null; a path through anything else is refused. A declared member, or an object on a declared path,
that occurs twice is refused, since readers disagree on which one counts; other duplicates don't matter. Members nobody
declared must be JSON and are otherwise ignored. A null value (no document at all) is a row of nulls on an append table;
an empty value is not JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lakehouse.json_document import DEPTH_MAX, Node, Rejected, read_document
from lakehouse.json_values import Value, Window, convert
from schemas.columns import Column

__all__ = ["Rejected", "StrictParser", "Value", "Window"]

ERROR_CHARS_MAX = 500


@dataclass(slots=True)
class _Members:
    """Declared members of one object: columns by position, and objects that paths go through."""

    columns: dict[str, int] = field(default_factory=dict)
    objects: dict[str, _Members] = field(default_factory=dict)


class StrictParser:
    """Parses documents for declared columns. `window` bounds timestamps."""

    def __init__(self, columns: Sequence[Column], window: Window = Window(), depth_max: int = DEPTH_MAX) -> None:
        self._columns = tuple(columns)
        self._window = window
        self._depth_max = depth_max
        self._root = _Members()
        for position, column in enumerate(self._columns):
            members = self._root
            for part in column.path[:-1]:
                members = members.objects.setdefault(part, _Members())
            members.columns[column.path[-1]] = position

    def parse(self, document: bytes | None) -> tuple[Value, ...]:
        """One value per column, in the order declared. Raises Rejected with a cause and what is wrong where."""
        row: list[Value] = [None] * len(self._columns)
        if document is None:
            return tuple(row)
        try:
            node = read_document(document, self._depth_max)
            if node.kind != "object":
                raise Rejected("not_an_object", f"the value is a JSON {node.kind}, not an object")
            self._read(node, self._root, row, "")
        except Rejected as error:
            message = str(error).encode("utf-8", "backslashreplace").decode("utf-8")
            raise Rejected(error.cause, message[:ERROR_CHARS_MAX]) from error
        return tuple(row)

    def _read(self, node: Node, members: _Members, row: list[Value], prefix: str) -> None:
        seen: set[str] = set()
        for name, value in node.members:
            position = members.columns.get(name)
            inner = members.objects.get(name)
            if position is None and inner is None:
                continue
            path = prefix + name
            if name in seen:
                raise Rejected("duplicate_key", f"{path!r} occurs twice")
            seen.add(name)
            if position is not None:
                row[position] = self._convert(value, position, path)
            elif inner is not None and value.kind == "object":
                self._read(value, inner, row, path + ".")
            elif value.kind != "null":
                raise Rejected("type_mismatch", f"{path!r} is a JSON {value.kind}, and columns are declared inside it")

    def _convert(self, value: Node, position: int, path: str) -> Value:
        try:
            return convert(value, self._columns[position].type, self._window)
        except Rejected as error:
            raise Rejected(error.cause, f"{path!r}: {error}") from error
