"""Topics: their shards, settings and reserved table names.

Invariants: topic numbers, ids and table names are never used again, also not by a topic recreated under the same name;
a live name is unique, dots and underscores taken for the same; shards are only added; `changed` numbers become visible in their order, so a cache that asks for what changed since its
last number misses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from catalog.configs import Change
from catalog.counters import take
from catalog.database import Columns, Database, DatabaseError, Row, Transaction
from schemas.names import (
    declared_table,
    default_table,
    fold,
    is_reserved,
    is_too_long,
    tables_of,
    with_long_suffix,
    with_suffix,
)

TABLE_CONFIG = "iceberg.table"
_NAME: Columns = (("name", "text"),)
_ID: Columns = (("topic_id", "text"),)
_TABLE: Columns = (("folded", "text"), ("kind", "text"), ("name", "text"))
_ALIKE = (
    "SELECT name FROM topics WHERE replace(name, '.', '_') = replace($1, '.', '_') AND deleted_ms IS NULL ORDER BY name"
)
_SELECT = "SELECT t.topic, t.topic_id, t.name, t.shards, t.config, t.created_ms, t.deleted_ms, t.changed FROM "


class TopicExists(DatabaseError):
    """A live topic has this name."""


class TopicCollides(DatabaseError):
    """A live topic, `existing`, has a name that differs only in dots and underscores."""

    def __init__(self, existing: str) -> None:
        super().__init__(f"topic {existing!r} has a name that differs only in dots and underscores")
        self.existing = existing


class NotMoreShards(DatabaseError):
    """A topic can only get more shards than it has, `shards`."""

    def __init__(self, shards: int) -> None:
        super().__init__(f"the topic has {shards} shards already")
        self.shards = shards


class TopicGone(DatabaseError):
    """There is no such live topic."""


class TableNameTaken(DatabaseError):
    """`iceberg.table` names a table that belongs, or belonged, to another topic: choose another name."""


class TableNameFixed(DatabaseError):
    """`iceberg.table` can't change once a topic exists: its table belongs to it for ever."""


@dataclass(frozen=True, slots=True)
class TopicRow:
    """One topic. `config` holds only what was set; `deleted_ms` is None while it lives."""

    topic: int
    topic_id: UUID
    name: str
    shards: int
    config: Mapping[str, str]
    created_ms: int
    deleted_ms: int | None
    changed: int


class TopicStore:
    """The tables `topics`, `shards` and `table_names`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(self, name: str, topic_id: UUID, shards: int, config: Mapping[str, str]) -> TopicRow:
        """Create a topic with its shards and table names. Name and config are valid.

        Raises TopicExists, TopicCollides, TableNameTaken.
        """

        async def body(tx: Transaction) -> TopicRow:
            # Held to the end: creations and changes of topics run one after the other.
            changed = await take(tx, "topic_change")
            alike = [row[0] for row in await tx.fetch(_ALIKE, name)]
            if name in alike:
                raise TopicExists(f"topic {name!r} exists")
            if alike:
                raise TopicCollides(alike[0])
            topic = await take(tx, "topic")
            row = TopicRow(topic, topic_id, name, shards, dict(config), await tx.now_ms(), None, changed)
            await tx.execute(
                "INSERT INTO topics (topic, topic_id, name, shards, config, created_ms, changed) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7)",
                topic,
                str(topic_id),
                name,
                shards,
                _dump(config),
                row.created_ms,
                changed,
            )
            await _add_shards(tx, topic, range(shards))
            await _reserve_tables(tx, row)
            return row

        return await self._db.transact(body)

    async def delete(self, topic: int) -> None:
        """Mark a topic deleted; its name is free at once. Raises TopicGone. A commit in flight may still land in it."""

        async def body(tx: Transaction) -> None:
            changed = await take(tx, "topic_change")
            count = await tx.execute(
                "UPDATE topics SET deleted_ms = {now_ms}, changed = $2 WHERE topic = $1 AND deleted_ms IS NULL",
                topic,
                changed,
            )
            if not count:
                raise TopicGone(f"there is no live topic number {topic}")

        await self._db.transact(body)

    async def collision(self, name: str) -> str | None:
        """The live topic, if there is one, whose name is this one or differs from it only in dots and underscores."""
        rows = await self._db.snapshot(lambda tx: tx.fetch(_ALIKE, name))
        return rows[0][0] if rows else None

    async def grow(self, topic: int, shards: int) -> TopicRow:
        """Give a topic `shards` shards in all; the new ones are empty. Raises TopicGone, NotMoreShards."""

        async def body(tx: Transaction) -> TopicRow:
            changed = await take(tx, "topic_change")
            row = await _live(tx, topic)
            if shards <= row.shards:
                raise NotMoreShards(row.shards)
            await _add_shards(tx, topic, range(row.shards, shards))
            await tx.execute("UPDATE topics SET shards = $2, changed = $3 WHERE topic = $1", topic, shards, changed)
            return replace(row, shards=shards, changed=changed)

        return await self._db.transact(body)

    async def set_config(self, topic: int, config: Mapping[str, str]) -> TopicRow:
        """Replace a topic's own settings. Raises TopicGone, TableNameFixed."""
        return await self.alter_config(topic, lambda _: config)

    async def alter_config(self, topic: int, change: Change) -> TopicRow:
        """Replace a topic's own settings by `change` of them. Raises TopicGone, TableNameFixed, and what `change` raises."""

        async def body(tx: Transaction) -> TopicRow:
            changed = await take(tx, "topic_change")
            row = await _live(tx, topic)
            config = dict(change(row.config))
            if config.get(TABLE_CONFIG) != row.config.get(TABLE_CONFIG):
                raise TableNameFixed(f"{TABLE_CONFIG} of topic {row.name!r} can't change after the topic was created")
            await tx.execute(
                "UPDATE topics SET config = $2, changed = $3 WHERE topic = $1", topic, _dump(config), changed
            )
            return replace(row, config=config, changed=changed)

        return await self._db.transact(body)

    async def by_names(self, names: Sequence[str]) -> list[TopicRow]:
        """The live topics among `names`, in one query."""
        sql = _SELECT + "{rows} AS r JOIN topics AS t ON t.name = r.name WHERE t.deleted_ms IS NULL ORDER BY t.name"
        rows = [(name,) for name in dict.fromkeys(names)]
        return [_row(row) for row in await self._db.snapshot(lambda tx: tx.fetch_rows(sql, _NAME, rows))]

    async def by_ids(self, ids: Sequence[UUID]) -> list[TopicRow]:
        """The live topics among `ids`, in one query."""
        sql = (
            _SELECT
            + "{rows} AS r JOIN topics AS t ON t.topic_id = r.topic_id WHERE t.deleted_ms IS NULL ORDER BY t.name"
        )
        rows = [(str(topic_id),) for topic_id in dict.fromkeys(ids)]
        return [_row(row) for row in await self._db.snapshot(lambda tx: tx.fetch_rows(sql, _ID, rows))]

    async def all(self) -> list[TopicRow]:
        """Every live topic, by name."""
        sql = _SELECT + "topics AS t WHERE t.deleted_ms IS NULL ORDER BY t.name"
        return [_row(row) for row in await self._db.snapshot(lambda tx: tx.fetch(sql))]

    async def changed_since(self, changed: int) -> list[TopicRow]:
        """Topics created, changed or deleted after that number, in the order of their last change; deleted ones too."""
        sql = _SELECT + "topics AS t WHERE t.changed > $1 ORDER BY t.changed"
        return [_row(row) for row in await self._db.snapshot(lambda tx: tx.fetch(sql, changed))]

    async def tables(self, topic: int) -> dict[str, str]:
        """kind ('main', 'dlq', 'history') -> full table name of a topic, live or deleted."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT kind, name FROM table_names WHERE topic = $1 ORDER BY kind", topic)
        )
        return {row[0]: row[1] for row in rows}


async def _live(tx: Transaction, topic: int) -> TopicRow:
    rows = await tx.fetch(_SELECT + "topics AS t WHERE t.topic = $1 AND t.deleted_ms IS NULL", topic)
    if not rows:
        raise TopicGone(f"there is no live topic number {topic}")
    return _row(rows[0])


async def _add_shards(tx: Transaction, topic: int, shards: range) -> None:
    await tx.execute_rows(
        "INSERT INTO shards (topic, shard, high_watermark, log_start, append_ms) "
        "SELECT $1, r.shard, 0, 0, -1 FROM {rows} AS r",
        (("shard", "integer"),),
        [(shard,) for shard in shards],
        topic,
    )


def _dump(config: Mapping[str, str]) -> str:
    return json.dumps(dict(config), sort_keys=True)


def _row(row: Row) -> TopicRow:
    topic, topic_id, name, shards, config, created_ms, deleted_ms, changed = row
    return TopicRow(topic, UUID(topic_id), name, shards, json.loads(config), created_ms, deleted_ms, changed)


async def _reserve_tables(tx: Transaction, row: TopicRow) -> None:
    """Reserve the topic's table names: as declared or refused, else by default with a suffix where they clash."""
    declared = row.config.get(TABLE_CONFIG)
    if declared:
        candidates = [declared_table(declared)]
    else:
        table = default_table(row.name)
        candidates = [table] if not is_reserved(table) and not is_too_long(table) else []
        candidates += [with_suffix(table, row.topic_id), with_long_suffix(table, row.topic_id)]
    for table in candidates:
        wanted = [(fold(name), kind, name) for kind, name in tables_of(table).items()]
        taken = await tx.fetch_rows(
            "SELECT n.name FROM {rows} AS r JOIN table_names AS n ON n.folded = r.folded", _TABLE, wanted
        )
        if not taken:
            await tx.execute_rows(
                "INSERT INTO table_names (folded, topic, kind, name) SELECT r.folded, $1, r.kind, r.name FROM {rows} AS r",
                _TABLE,
                wanted,
                row.topic,
            )
            return
    raise TableNameTaken(f"table {candidates[0]!r} belongs to another topic; set {TABLE_CONFIG} to a name that is free")
