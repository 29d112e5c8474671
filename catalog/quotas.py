"""Client quotas as they are stored: which entity has which quotas. What they mean is `broker.quotas`' business.

Invariants: a change is applied wholly or not at all, and takes a number of the counter `client_quota_change`, so that an
agent that asks for the counter knows whether anything changed since it last read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from catalog.counters import take
from catalog.database import Database, Transaction

Entity = tuple[tuple[str, str | None], ...]
"""(type, name) of each part, sorted by type; the name None stands for the default."""
Quotas = Mapping[Entity, Mapping[str, float]]

_COUNTER = "client_quota_change"


class QuotaChange(NamedTuple):
    """One quota of one entity; None takes it away."""

    entity: Entity
    quota: str
    amount: float | None


class StoredQuotas(NamedTuple):
    """Every quota, by entity and by name, and the number of the last change in it."""

    change: int
    quotas: Quotas


class QuotaStore:
    """The table `client_quotas`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def change(self) -> int:
        """The number of the last change."""
        return await self._db.snapshot(_last_change)

    async def read(self) -> StoredQuotas:
        """Everything, from one snapshot."""

        async def body(tx: Transaction) -> StoredQuotas:
            change = await _last_change(tx)
            quotas: dict[Entity, dict[str, float]] = {}
            for entity, quota, amount in await tx.fetch(
                "SELECT entity, quota, amount FROM client_quotas ORDER BY entity, quota"
            ):
                quotas.setdefault(_entity(entity), {})[quota] = float(amount)
            return StoredQuotas(change, quotas)

        return await self._db.snapshot(body)

    async def alter(self, changes: Sequence[QuotaChange]) -> None:
        """Apply changes, in their order."""

        async def body(tx: Transaction) -> None:
            await take(tx, _COUNTER)  # held to the end: changes run one after the other
            for entity, quota, amount in changes:
                if amount is None:
                    await tx.execute(
                        "DELETE FROM client_quotas WHERE entity = $1 AND quota = $2", entity_text(entity), quota
                    )
                else:
                    await tx.execute(
                        "INSERT INTO client_quotas (entity, quota, amount) VALUES ($1, $2, $3) "
                        "ON CONFLICT (entity, quota) DO UPDATE SET amount = excluded.amount",
                        entity_text(entity),
                        quota,
                        amount,
                    )

        await self._db.transact(body)


async def _last_change(tx: Transaction) -> int:
    [(following,)] = await tx.fetch("SELECT next FROM counters WHERE name = $1", _COUNTER)
    return int(following) - 1


def entity_text(entity: Entity) -> str:
    """An entity as its row names it."""
    return json.dumps(dict(entity), ensure_ascii=False, separators=(",", ":"))


def _entity(text: str) -> Entity:
    return tuple(json.loads(text).items())
