"""Topics as this agent knows them (services.Topics): a cache over catalog.topics, kept current by polling changes.

Owns: an older row never replaces a newer one; a deleted topic leaves the cache, and what was known of its shards with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from uuid import UUID

from broker.rounds import repeat
from broker.services import TopicView
from catalog.configs import Change
from catalog.topics import TopicRow, TopicStore
from schemas.names import InvalidName, check_topic_name
from schemas.settings import Settings
from schemas.topic_config import values

DELETED_MAX = 10_000
"""Deleted topics remembered: only as long as a read that began before may still be on its way."""


class TopicCache:
    """See the module. `on_gone` hears of topics that left, with their number of shards; `broker_values` gives what is set
    for this broker, by Kafka's names, and so the defaults of topics."""

    def __init__(
        self,
        topics: TopicStore,
        settings: Settings,
        rng: random.Random,
        *,
        on_gone: Callable[[int, int], None],
        broker_values: Callable[[], Mapping[str, str]],
    ) -> None:
        self._topics = topics
        self._settings = settings
        self._rng = rng
        self._on_gone = on_gone
        self._broker_values = broker_values
        self._broker: Mapping[str, str] | None = None
        self._by_name: dict[str, TopicView] = {}
        self._by_id: dict[UUID, TopicView] = {}
        self._changed: dict[int, int] = {}
        self._deleted: dict[int, None] = {}
        self._seen = 0

    def by_name(self, name: str) -> TopicView | None:
        """Cached view, or None where not known here."""
        return self._by_name.get(name)

    def by_id(self, topic_id: UUID) -> TopicView | None:
        """Cached view, or None where not known here."""
        return self._by_id.get(topic_id)

    async def fresh(self, names: Sequence[str] = (), ids: Sequence[UUID] = ()) -> None:
        """Read the named topics now; what is gone leaves the cache. Names no topic can have are not asked for: databases
        refuse some of them."""
        names = [name for name in names if _possible(name)]
        known = {row.name for row in self._keep_all(await self._topics.by_names(names) if names else [])}
        for name in names:
            if name not in known and (view := self._by_name.get(name)) is not None:
                self._drop(view)
        present = {row.topic_id for row in self._keep_all(await self._topics.by_ids(ids) if ids else [])}
        for topic_id in ids:
            if topic_id not in present and (view := self._by_id.get(topic_id)) is not None:
                self._drop(view)

    async def all(self) -> list[TopicView]:
        """Every live topic, sorted by name, read now."""
        return [self._keep(row) for row in await self._topics.all()]

    async def create(self, name: str, shards: int, config: Mapping[str, str]) -> TopicView:
        """Create a topic. Raises TopicExists, TopicCollides, TableNameTaken."""
        topic_id = UUID(int=self._rng.getrandbits(128), version=4)
        return self._keep(await self._topics.create(name, topic_id, shards, config))

    async def delete(self, topic: TopicView) -> None:
        """Delete a topic. Raises TopicGone."""
        await self._topics.delete(topic.topic)
        self._remember_deleted(topic.topic)
        self._drop(topic)

    async def alter_config(self, topic: TopicView, change: Change) -> None:
        """Replace a topic's own settings by `change` of them. Raises TopicGone, TableNameFixed, and what `change` raises."""
        self._keep(await self._topics.alter_config(topic.topic, change))

    async def grow(self, topic: TopicView, shards: int) -> TopicView:
        """Give a topic `shards` shards in all. Raises TopicGone, NotMoreShards."""
        return self._keep(await self._topics.grow(topic.topic, shards))

    async def collision(self, name: str) -> str | None:
        """The live topic with this name, or one alike; read now."""
        return await self._topics.collision(name)

    def broker_changed(self) -> None:
        """What is set for this broker has changed: work out again what topics have by default."""
        self._broker = self._broker_values()
        for view in list(self._by_id.values()):
            resolved = resolved_again(view, self._broker)
            self._by_id[view.topic_id] = resolved
            if self._by_name.get(view.name) is view:
                self._by_name[view.name] = resolved

    async def run(self) -> None:
        """Follow changes that other agents make, for ever."""
        interval_s = self._settings.topic_poll_interval_ms / 1000
        await repeat(self.follow, interval_s=interval_s, failure="topics could not be polled")

    async def follow(self) -> None:
        """Take in what changed since the last look."""
        for row in await self._topics.changed_since(self._seen):
            self._seen = max(self._seen, row.changed)
            if row.deleted_ms is None:
                self._keep(row)
                continue
            self._remember_deleted(row.topic)
            if (view := self._by_id.get(row.topic_id)) is not None:
                self._drop(view)

    def _remember_deleted(self, topic: int) -> None:
        """Topic numbers are never used again: an answer that still knows this one is old."""
        self._deleted[topic] = None
        while len(self._deleted) > DELETED_MAX:
            del self._deleted[next(iter(self._deleted))]

    def _keep_all(self, rows: list[TopicRow]) -> list[TopicRow]:
        for row in rows:
            self._keep(row)
        return rows

    def _keep(self, row: TopicRow) -> TopicView:
        if self._broker is None:
            self._broker = self._broker_values()
        view = topic_view(row, self._broker)
        if row.topic in self._deleted:
            return view
        if row.changed < self._changed.get(row.topic, 0):
            return self._by_id.get(row.topic_id, view)
        before = self._by_name.get(row.name)
        if before is not None and before.topic > row.topic:
            return view  # deleted and created again since this was read
        if before is not None and before.topic_id != row.topic_id:
            self._drop(before)
        self._changed[row.topic] = row.changed
        self._by_name[row.name] = view
        self._by_id[row.topic_id] = view
        return view

    def _drop(self, view: TopicView) -> None:
        if self._by_id.pop(view.topic_id, None) is None:
            return
        if (named := self._by_name.get(view.name)) is not None and named.topic_id == view.topic_id:
            del self._by_name[view.name]
        self._changed.pop(view.topic, None)
        self._on_gone(view.topic, view.shards)


def _possible(name: str) -> bool:
    try:
        check_topic_name(name)
    except InvalidName:
        return False
    return True


def topic_view(row: TopicRow, broker_values: Mapping[str, str]) -> TopicView:
    """A row with the settings that the write path asks for on every batch resolved."""
    resolved = asdict(values(row.config, broker_values))
    return TopicView(row.topic, row.topic_id, row.name, row.shards, row.config, **resolved)


def resolved_again(view: TopicView, broker_values: Mapping[str, str]) -> TopicView:
    """A view as it is with other settings of the broker."""
    return replace(view, **asdict(values(view.config, broker_values)))
