"""Configs of brokers, client metrics and groups as this agent knows them (services.Configs): a cache over catalog.configs.

Kept current by polling changes, as topics are. What is set for brokers are the defaults of topics, so topics hear of it.
Owns: an older row never replaces a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.rounds import repeat
from catalog.configs import Change, ConfigRow, ConfigStore
from schemas.config_kinds import ConfigKind
from schemas.settings import Settings

Key = tuple[int, str]


class ConfigCache:
    """See the module. `on_brokers` is called when what is set for brokers has changed."""

    def __init__(self, store: ConfigStore, settings: Settings, *, on_brokers: Callable[[], None]) -> None:
        self._store = store
        self._settings = settings
        self._on_brokers = on_brokers
        self._rows: dict[Key, ConfigRow] = {}
        self._seen = 0
        self._broker_changes = 0

    def of(self, kind: ConfigKind, name: str) -> Mapping[str, str]:
        """What is set on a resource; empty for one that was never heard of."""
        row = self._rows.get((kind, name))
        return {} if row is None else row.config

    def names(self, kind: ConfigKind) -> list[str]:
        """The resources of a kind on which something is set, sorted."""
        return sorted(name for (of, name), row in self._rows.items() if of == kind and row.config)

    @property
    def broker_changes(self) -> int:
        """See services.Configs."""
        return self._broker_changes

    async def alter(self, kind: ConfigKind, name: str, change: Change) -> None:
        """Replace what is set by `change` of it, in one transaction. Raises what `change` raises."""
        self._keep(await self._store.alter(kind, name, change))

    async def fresh(self) -> None:
        """Read now what has changed."""
        for row in await self._store.changed_since(self._seen):
            self._seen = max(self._seen, row.changed)
            self._keep(row)

    async def run(self) -> None:
        """Follow changes that other agents make, for ever."""
        interval_s = self._settings.topic_poll_interval_ms / 1000
        await repeat(self.fresh, interval_s=interval_s, failure="configs could not be polled")

    def _keep(self, row: ConfigRow) -> None:
        before = self._rows.get((row.kind, row.name))
        if before is not None and before.changed >= row.changed:
            return
        self._rows[row.kind, row.name] = row
        if row.kind == ConfigKind.BROKER:
            self._broker_changes += 1
            self._on_brokers()
