"""Declared columns as the flat arrays that the compiled JSON reader is led by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lakehouse.decode_walk import Bytes, Ints, Longs
from lakehouse.json_fields import KINDS
from lakehouse.json_values import Window
from schemas.columns import Column

NEVER_EQUAL = -1
"""Length of a member's name that can't stand in JSON without escapes: such names are left to the strict parser."""


@dataclass(frozen=True, slots=True)
class JsonPlan:
    """The tree of declared paths; see `json_rows.read_document` for the arrays' shapes."""

    columns: tuple[Column, ...]
    window: Window
    keys: Bytes
    key_spans: Ints
    targets: Ints
    nodes: Ints
    types: Longs
    depth: int


@dataclass(slots=True)
class _Node:
    members: dict[str, _Node | int] = field(default_factory=dict)


def plan_json(columns: Sequence[Column], window: Window) -> JsonPlan:
    """Lay the declared paths out, breadth first, so the members of an object are adjacent and in declared order."""
    root = _Node()
    for position, column in enumerate(columns):
        node = root
        for part in column.path[:-1]:
            inner = node.members.setdefault(part, _Node())
            assert isinstance(inner, _Node)
            node = inner
        node.members[column.path[-1]] = position
    keys = bytearray()
    key_spans: list[tuple[int, int]] = []
    targets: list[int] = []
    nodes: list[tuple[int, int]] = []
    queue = [root]
    for node in queue:
        nodes.append((len(targets), len(node.members)))
        for name, target in node.members.items():
            raw = name.encode("utf-8")
            key_spans.append((len(keys), NEVER_EQUAL if '"' in name or "\\" in name else len(raw)))
            keys += raw
            if isinstance(target, _Node):
                targets.append(len(queue))
                queue.append(target)
            else:
                targets.append(~target)
    types = [
        (KINDS[column.type.name], column.type.precision, column.type.scale, window.first_us, window.next_us)
        for column in columns
    ]
    return JsonPlan(
        columns=tuple(columns),
        window=window,
        keys=np.frombuffer(bytes(keys), dtype=np.uint8).copy(),
        key_spans=np.array(key_spans, dtype=np.int32),
        targets=np.array(targets, dtype=np.int32),
        nodes=np.array(nodes, dtype=np.int32),
        types=np.array(types, dtype=np.int64),
        depth=max(len(column.path) for column in columns),
    )
