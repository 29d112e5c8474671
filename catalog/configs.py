"""Configs of brokers, client metrics and groups: what was set, by kind of resource and name.

Invariants: a change reads and writes in one transaction, so two that meet lose nothing; `changed` numbers become visible
in their order, so a cache that asks for what changed since its last number misses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catalog.counters import take
from catalog.database import Database, Transaction

Change = Callable[[Mapping[str, str]], Mapping[str, str]]
"""What is set -> what shall be set. Without effects of its own, since it may run again; what it raises undoes the change."""


@dataclass(frozen=True, slots=True)
class ConfigRow:
    """What is set on one resource. `kind` as DescribeConfigs numbers it; nothing is left in `config` of one that was reset."""

    kind: int
    name: str
    config: Mapping[str, str]
    changed: int


class ConfigStore:
    """The table `configs`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def alter(self, kind: int, name: str, change: Change) -> ConfigRow:
        """Replace what is set by `change` of it. Raises what `change` raises."""

        async def body(tx: Transaction) -> ConfigRow:
            changed = await take(tx, "config_change")  # held to the end: changes run one after the other
            rows = await tx.fetch("SELECT config FROM configs WHERE kind = $1 AND name = $2", kind, name)
            config = dict(change(json.loads(rows[0][0]) if rows else {}))
            await tx.execute(
                "INSERT INTO configs (kind, name, config, changed) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (kind, name) DO UPDATE SET config = excluded.config, changed = excluded.changed",
                kind,
                name,
                json.dumps(config, sort_keys=True),
                changed,
            )
            return ConfigRow(kind, name, config, changed)

        return await self._db.transact(body)

    async def changed_since(self, changed: int) -> list[ConfigRow]:
        """Resources changed after that number, in the order of their last change."""
        sql = "SELECT kind, name, config, changed FROM configs WHERE changed > $1 ORDER BY changed"
        rows = await self._db.snapshot(lambda tx: tx.fetch(sql, changed))
        return [ConfigRow(row[0], row[1], json.loads(row[2]), row[3]) for row in rows]
