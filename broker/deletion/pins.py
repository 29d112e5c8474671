"""Which topics' exports retention waits for, and how far those are. One look at the database per pass."""

from __future__ import annotations

import re
from collections.abc import Mapping

from catalog.agents import AgentStore
from catalog.exports import ExportStore
from catalog.leases import LeaseStore, role_lease
from catalog.topics import TopicRow
from schemas.settings import Settings
from schemas.topic_config import value_of

TAKING_RECORDS = ("main", "history")
"""Tables that every record goes into; the dead letters follow the main one."""


class ExportPins:
    """What the exports of all topics have reached."""

    def __init__(self, exports: ExportStore, agents: AgentStore, leases: LeaseStore, settings: Settings) -> None:
        self._exports = exports
        self._agents = agents
        self._leases = leases
        self._excluded = re.compile(settings.iceberg_exclude) if settings.iceberg_exclude else None
        self._reached: dict[int, list[Mapping[int, int]]] = {}
        self._exporting = False

    async def look(self) -> None:
        """Read it anew. Raises DatabaseError."""
        reached: dict[int, list[Mapping[int, int]]] = {}
        for status in await self._exports.statuses():
            if status.kind in TAKING_RECORDS:
                reached.setdefault(status.topic, []).append(status.offsets)
        self._reached = reached
        serving = any("export" in row.facts.roles.split(",") for row in await self._agents.live())
        self._exporting = serving or bool(await self._leases.held_by_prefix(role_lease("export", "")))

    def exported(self, topic: TopicRow, shard: int) -> int | None:
        """Everything below this offset is in the topic's tables; None where nobody exports the topic."""
        if value_of("iceberg.mode", topic.config) == "disabled":
            return None
        if self._excluded is not None and self._excluded.search(topic.name):
            return None
        tables = self._reached.get(topic.topic)
        if tables is None:
            return 0 if self._exporting else None
        return min(offsets.get(shard, 0) for offsets in tables)
