"""Who is in the cluster (services.Cluster): this agent's registration and heartbeat, and the live agents it sees.

Owns: this agent is always in its own view; a broker id that was taken over is given up and another one registered; a view
is never replaced by an older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from broker.services import BrokerView
from catalog.agents import AgentFacts, AgentStore, BrokerIdTaken
from catalog.database import DatabaseError
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class ClusterView:
    """`register` before serving; `run` belongs to the agent's supervisor."""

    def __init__(self, agents: AgentStore, settings: Settings, *, cluster_id: str, instance: str, version: str) -> None:
        self._agents = agents
        self._settings = settings
        self._cluster_id = cluster_id
        self._instance = instance
        self._version = version
        self._self: BrokerView | None = None
        self._brokers: list[BrokerView] = []
        self._looking = asyncio.Lock()
        self._looks_begun = 0

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""
        return self._cluster_id

    @property
    def registered(self) -> bool:
        """True once this agent has a broker id."""
        return self._self is not None

    @property
    def self_view(self) -> BrokerView:
        """This agent; only after `register`."""
        assert self._self is not None, "the agent registers before it serves"
        return self._self

    def brokers(self) -> Sequence[BrokerView]:
        """Live agents by broker id."""
        return self._brokers

    async def register(self, host: str, port: int) -> BrokerView:
        """Enter the cluster under the address that clients are told. Raises BrokerIdTaken, DatabaseError."""
        return await self._register(host, port, self._settings.broker_id)

    async def _register(self, host: str, port: int, wanted: int | None) -> BrokerView:
        facts = AgentFacts(self._instance, host, port, self._settings.zone, self._settings.roles, self._version)
        broker_id = await self._agents.register(facts, self._settings.agent_lease_ms, wanted)
        self._self = BrokerView(broker_id, host, port, self._settings.zone)
        await self.refresh()
        return self._self

    async def run(self) -> None:
        """Heartbeat and look who is there, for ever."""
        while True:
            await asyncio.sleep(self._settings.agent_lease_ms / 3000)
            try:
                await self._beat()
                await self.refresh()
            except DatabaseError as error:
                log.warning("heartbeat failed", error=str(error))

    async def look(self) -> Sequence[BrokerView]:
        """Live agents by broker id, as of now; where the database can't be read, as they were last seen."""
        try:
            await self.refresh()
        except DatabaseError as error:
            log.warning("live agents can't be read now, the last known are told", error=str(error))
        return self._brokers

    async def refresh(self) -> None:
        """Read the live agents, by a read that begins from now on; callers who wait at one time share it. Raises DatabaseError."""
        wanted = self._looks_begun + 1
        async with self._looking:
            if self._looks_begun < wanted:
                self._looks_begun += 1
                await self._read()

    async def _read(self) -> None:
        me = self.self_view
        seen = {
            row.broker_id: BrokerView(row.broker_id, row.facts.host, row.facts.port, row.facts.zone)
            for row in await self._agents.live()
        }
        seen[me.broker_id] = me
        self._brokers = [seen[broker_id] for broker_id in sorted(seen)]

    async def leave(self) -> None:
        """Give the broker id back; if the database can't be reached its lease runs out by itself."""
        if self._self is None:
            return
        try:
            await self._agents.leave(self._self.broker_id, self._instance)
        except DatabaseError as error:
            log.warning("could not leave the cluster view", error=str(error))

    async def _beat(self) -> None:
        me = self.self_view
        if not await self._agents.heartbeat(me.broker_id, self._instance, self._settings.agent_lease_ms):
            log.warning("broker id was taken over, registering again", broker_id=me.broker_id)
            try:
                await self.register(me.host, me.port)
            except BrokerIdTaken as error:  # two agents under one id would send clients to and fro
                log.error("registering under a free broker id instead", error=str(error))
                await self._register(me.host, me.port, None)
