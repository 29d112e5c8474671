"""Pages of topics and their partitions, by name, with a cursor to go on from. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Cursor(NamedTuple):
    """Where a page begins: a topic, and a partition in it."""

    topic: str
    partition: int


class InvalidCursor(ValueError):
    """A cursor that no page ever ended with."""


class Piece(NamedTuple):
    """A topic on a page, with the partitions that are told; of one that isn't there `shards` is None."""

    topic: str
    shards: range | None


def first_topic(wanted: Iterable[str] | None, cursor: Cursor | None) -> str:
    """The name from which topics are told. `wanted`: the topics asked for, None for all. Raises InvalidCursor."""
    if cursor is None:
        return ""
    if cursor.partition < 0 or (wanted is not None and cursor.topic not in wanted):
        raise InvalidCursor(f"no page goes on from partition {cursor.partition} of topic {cursor.topic!r}")
    return cursor.topic


def page(topics: Mapping[str, int | None], cursor: Cursor | None, limit: int) -> tuple[list[Piece], Cursor | None]:
    """The page from the cursor on, and where the next one begins.

    `topics`: name -> number of partitions, None for a topic that isn't there; those before the cursor are passed over.
    """
    pieces: list[Piece] = []
    left = max(limit, 1)
    for name in sorted(topics):
        if cursor is not None and name < cursor.topic:
            continue
        if not left:
            return pieces, Cursor(name, 0)
        shards = topics[name]
        if shards is None:
            pieces.append(Piece(name, None))
            continue
        first = min(cursor.partition, shards) if cursor is not None and cursor.topic == name else 0
        after = min(first + left, shards)
        pieces.append(Piece(name, range(first, after)))
        left -= after - first
        if after < shards:
            return pieces, Cursor(name, after)
    return pieces, None
