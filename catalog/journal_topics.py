"""Topics as the journal keeps them, so that outcomes of a topic made after the last snapshot can be told whose they are."""

from __future__ import annotations

from catalog.database import Columns, Database, Transaction

_TOPIC: Columns = (("topic", "bigint"),)
TOPICS_MAX = 1_000
"""Topics read at once."""


async def topics_since(db: Database, changed: int) -> list[list[object]]:
    """The next topics changed after that number: [topic, topic_id, name, shards, config, created_ms, deleted_ms,
    [[folded, kind, name], ...] of its tables, changed], in the order of their last change."""

    async def body(tx: Transaction) -> list[list[object]]:
        rows = await tx.fetch(
            "SELECT topic, topic_id, name, shards, config, created_ms, deleted_ms, changed FROM topics "
            "WHERE changed > $1 ORDER BY changed LIMIT $2",
            changed,
            TOPICS_MAX,
        )
        tables: dict[int, list[list[object]]] = {}
        for topic, folded, kind, name in await tx.fetch_rows(
            "SELECT n.topic, n.folded, n.kind, n.name FROM {rows} AS r JOIN table_names AS n ON n.topic = r.topic "
            "ORDER BY n.topic, n.folded",
            _TOPIC,
            [(row[0],) for row in rows],
        ):
            tables.setdefault(topic, []).append([folded, kind, name])
        return [[*row[:7], tables.get(row[0], []), row[7]] for row in rows]

    return await db.snapshot(body)
