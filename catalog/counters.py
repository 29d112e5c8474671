"""Named counters that only grow, in the table `counters`."""

from __future__ import annotations

from catalog.database import DatabaseError, Transaction


async def take(tx: Transaction, name: str, count: int = 1) -> int:
    """The first of `count` fresh numbers. Holds the counter's row, so it also serialises transactions that take from it."""
    rows = await tx.fetch("UPDATE counters SET next = next + $2 WHERE name = $1 RETURNING next", name, count)
    if not rows:
        raise DatabaseError(f"no counter {name!r} in the metadata database")
    return int(rows[0][0]) - count
