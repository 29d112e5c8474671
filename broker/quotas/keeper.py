"""The quotas that hold on this agent: read from the database, followed as other agents change them."""

from __future__ import annotations

from collections.abc import Sequence

from broker.quotas.limiter import Limiter
from broker.rounds import repeat
from catalog.quotas import QuotaChange, Quotas, QuotaStore
from schemas.settings import Settings


class QuotaKeeper:
    """`services.ClientQuotas` over the database. `run` belongs to the agent's supervisor."""

    def __init__(self, store: QuotaStore, settings: Settings) -> None:
        self.limiter = Limiter(
            settings.quota_window_num, round(settings.quota_window_size_seconds * 1000), settings.quota_clients_max
        )
        self._store = store
        self._settings = settings
        self._seen = -1

    async def read(self) -> Quotas:
        """Every quota, read now."""
        return self._take(*await self._store.read())

    async def alter(self, changes: Sequence[QuotaChange]) -> None:
        """Store changes; they hold here at once, on other agents with their next look."""
        if changes:
            await self._store.alter(changes)
            await self.read()

    async def follow(self) -> None:
        """Take in what changed since the last look."""
        if await self._store.change() != self._seen:
            await self.read()

    async def run(self) -> None:
        """Follow changes that other agents make, for ever."""
        interval_s = self._settings.quota_poll_interval_ms / 1000
        await repeat(self.follow, interval_s=interval_s, failure="client quotas could not be polled")

    def _take(self, change: int, quotas: Quotas) -> Quotas:
        if change > self._seen:  # of two reads side by side the older may come last
            self._seen = change
            self.limiter.replace(quotas)
        return quotas
