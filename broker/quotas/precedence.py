"""Which quota holds for a client, and with whom it is shared: Kafka's order of precedence. Pure.

The most specific of these that is set holds; clients without a client id have no quota by client id.

| quota set for | shared by |
|---|---|
| user and client id, user and default client id | that user's connections with that client id |
| user | all connections of that user |
| default user and client id, both defaults | the user's connections with that client id |
| default user | all connections of the user |
| client id, default client id | all connections with that client id |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from broker.quotas.entities import CLIENT_ID, USER
from catalog.quotas import Entity, Quotas


class Sharers(NamedTuple):
    """Who shares a quota: connections of this user (None: any) with this client id (None: any)."""

    user: str | None
    client_id: str | None


class Held(NamedTuple):
    """What a client is held to."""

    sharers: Sharers
    limit: float


class Limits:
    """The limits of one quota."""

    def __init__(self, quotas: Quotas, quota: str) -> None:
        self._limits: Mapping[Entity, float] = {
            entity: amounts[quota] for entity, amounts in quotas.items() if quota in amounts
        }

    def __bool__(self) -> bool:
        """True where any is set."""
        return bool(self._limits)

    def of(self, user: str, client_id: str) -> Held | None:
        """What a client is held to; None where nothing limits it."""
        limits = self._limits
        both, one, alone = Sharers(user, client_id), Sharers(user, None), Sharers(None, client_id)
        for entity, sharers in (
            (((CLIENT_ID, client_id), (USER, user)), both),
            (((CLIENT_ID, None), (USER, user)), both),
            (((USER, user),), one),
            (((CLIENT_ID, client_id), (USER, None)), both),
            (((CLIENT_ID, None), (USER, None)), both),
            (((USER, None),), one),
            (((CLIENT_ID, client_id),), alone),
            (((CLIENT_ID, None),), alone),
        ):
            if (client_id or sharers is one) and entity in limits:
                return Held(sharers, limits[entity])
        return None
