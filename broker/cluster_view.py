"""Who is in the cluster (services.Cluster): this agent's registration and heartbeat, and the live agents it sees.

Owns: an agent whose lease has run out, by the database or by its own clock, doesn't tell clients that it is there, unless
it knows of nobody else; an agent that finds its lease run out while it still works prolongs it before it answers. A
broker id that was taken over is given up and another one registered; after `leave` none is asked for again. A view is
never replaced by an older one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from broker.rounds import repeat
from broker.services import BrokerView, Clock
from catalog.agents import AgentFacts, AgentRow, AgentStore, BrokerIdTaken
from catalog.database import DatabaseError
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class ClusterView:
    """`register` before serving; `run` belongs to the agent's supervisor."""

    def __init__(
        self, agents: AgentStore, clock: Clock, settings: Settings, *, cluster_id: str, instance: str, version: str
    ) -> None:
        self._agents = agents
        self._clock = clock
        self._settings = settings
        self._cluster_id = cluster_id
        self._instance = instance
        self._version = version
        self._self: BrokerView | None = None
        self._alive_until_s = 0.0
        self._left = False
        self._others: list[BrokerView] = []
        self._everybody: list[BrokerView] = []
        self._keeping = asyncio.Lock()
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
        """Live agents by broker id: this one while its lease runs, or where it knows no other."""
        alive = self._clock.monotonic() < self._alive_until_s
        return self._everybody if alive or not self._others else self._others

    async def register(self, host: str, port: int) -> BrokerView:
        """Enter the cluster under the address that clients are told, with the id that the process before had there. Raises BrokerIdTaken, DatabaseError."""
        async with self._keeping:
            await self._enter(host, port, self._settings.broker_id, succeeds=True)
        await self.refresh()
        return self.self_view

    async def _enter(self, host: str, port: int, wanted: int | None, *, succeeds: bool = False) -> None:
        facts = AgentFacts(self._instance, host, port, self._settings.zone, self._settings.roles, self._version)
        began_s = self._clock.monotonic()
        broker_id = await self._agents.register(facts, self._settings.agent_lease_ms, wanted, succeeds=succeeds)
        self._self = BrokerView(broker_id, host, port, self._settings.zone)
        self._alive_until_s = began_s + self._settings.agent_lease_ms / 1000

    async def run(self) -> None:
        """Heartbeat and look who is there, for ever."""
        await repeat(self._round, interval_s=self._settings.agent_lease_ms / 3000, failure="heartbeat failed")

    async def _round(self) -> None:
        await self._beat()
        await self.refresh()

    async def look(self) -> Sequence[BrokerView]:
        """Live agents by broker id, as of now; where the database can't be read, as they were last seen."""
        try:
            await self.refresh()
        except DatabaseError as error:
            log.warning("live agents can't be read now, the last known are told", error=str(error))
        return self.brokers()

    async def refresh(self) -> None:
        """Read the live agents, by a read that begins from now on; callers who wait at one time share it. Raises DatabaseError."""
        wanted = self._looks_begun + 1
        async with self._looking:
            if self._looks_begun < wanted:
                self._looks_begun += 1
                await self._read()

    async def _read(self) -> None:
        rows = await self._agents.live()
        if not self._left and not self._is_in(rows):  # after a long pause, or a long failure of the database
            await self._beat()
            rows = await self._agents.live()
        if not self._is_in(rows):
            self._alive_until_s = 0.0
        me = self.self_view
        seen = {
            row.broker_id: BrokerView(row.broker_id, row.facts.host, row.facts.port, row.facts.zone)
            for row in rows
            if row.facts.instance != self._instance
        }
        self._others = list(seen.values())
        seen[me.broker_id] = me
        self._everybody = [seen[broker_id] for broker_id in sorted(seen)]

    def _is_in(self, rows: Sequence[AgentRow]) -> bool:
        return any(row.facts.instance == self._instance for row in rows)

    async def leave(self) -> None:
        """Give the broker id back, for good; if the database can't be reached its lease runs out by itself."""
        if self._self is None:
            return
        self._left = True
        self._alive_until_s = 0.0
        async with self._keeping:
            try:
                await self._agents.leave(self._self.broker_id, self._instance)
            except DatabaseError as error:
                log.warning("could not leave the cluster view", error=str(error))

    async def _beat(self) -> None:
        async with self._keeping:
            if self._left:
                return
            me = self.self_view
            began_s = self._clock.monotonic()
            if await self._agents.heartbeat(me.broker_id, self._instance, self._settings.agent_lease_ms):
                self._alive_until_s = began_s + self._settings.agent_lease_ms / 1000
                return
            log.warning("broker id was taken over, registering again", broker_id=me.broker_id)
            try:
                # succeeds nobody: agents that are told one address would take each other's ids in turn for ever
                await self._enter(me.host, me.port, self._settings.broker_id)
            except BrokerIdTaken as error:  # two agents under one id would send clients to and fro
                log.error("registering under a free broker id instead", error=str(error))
                await self._enter(me.host, me.port, None)
