"""The agents of a run: the production core and listener of each, on its own host, started, killed and started anew.

Only clock, randomness, network, and the outermost store and database are simulated; retries, instrumentation-free, are
the product's. A start that fails (a fault struck while it registered) is tried again, as a process supervisor would.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from broker.agent_core import AgentCore, build_core
from broker.cluster_identity import ClusterMismatch
from broker.kafka.listener import Listener
from broker.objects.memory import MemoryStore
from broker.objects.port import ObjectStoreError
from broker.objects.retrying import RetryingStore, RetryLimits
from catalog.database import DatabaseError
from neve.simulation.checker import Finding
from neve.simulation.clock import SimClock
from neve.simulation.database import DatabaseServer, SimDatabase
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop
from neve.simulation.network import SimNetwork
from neve.simulation.profiles import Plan, stream
from neve.simulation.store import SimStore, World
from schemas.settings import Settings

PORT = 9092
RESTART_S = (0.1, 0.6)


@dataclass
class Slot:
    """One agent of the cluster through all its incarnations."""

    name: str
    clock: SimClock
    rng: random.Random
    host: Host | None = None
    core: AgentCore | None = None
    listeners: list[Listener] = field(default_factory=list)
    cores: list[AgentCore] = field(default_factory=list)
    up: bool = False


class SimAgents:
    """See the module."""

    def __init__(
        self,
        plan: Plan,
        loop: SimLoop,
        network: SimNetwork,
        world: World,
        server: DatabaseServer,
        store: MemoryStore,
    ) -> None:
        self._plan, self._loop, self._network = plan, loop, network
        self._world, self._server, self._store = world, server, store
        self._rng = stream(plan.seed, plan.profile.name, "agents")
        self._slots = [
            Slot(f"agent-{at}", SimClock(loop, skew_ms), stream(plan.seed, plan.profile.name, f"agent {at}"))
            for at, skew_ms in enumerate(plan.skews_ms)
        ]
        self.restarts = 0
        self.boot_errors: list[str] = []
        """Starts that failed by something other than a database, a store or a cluster file that can't be read."""

    def start(self) -> None:
        """Start all; `all_up` waits for them."""
        for slot in self._slots:
            self._launch(slot)

    def addresses(self) -> list[tuple[str, int]]:
        """Where clients find the agents."""
        return [(slot.name, PORT) for slot in self._slots]

    def hosts(self) -> list[Host]:
        """Hosts of agents that run."""
        return [slot.host for slot in self._slots if slot.host is not None and slot.host.alive]

    async def all_up(self) -> None:
        """Wait until every agent serves."""
        while not all(slot.up for slot in self._slots):  # noqa: ASYNC110  a restarted slot comes up again
            await asyncio.sleep(0.05)

    async def create_topics(self) -> None:
        """Create the plan's topics at the first agent."""
        slot = self._slots[0]
        assert slot.core is not None
        token = HOST.set(slot.host)
        try:
            for topic in self._plan.topics:
                config = {"message.timestamp.type": "LogAppendTime"} if topic.append_time else {}
                if topic.append_time and self._plan.deletion.retention_ms is not None:
                    config["retention.ms"] = str(self._plan.deletion.retention_ms)
                await slot.core.services.topics.create(topic.name, topic.shards, config)
        finally:
            HOST.reset(token)

    def kill(self, host: Host, down_s: float) -> None:
        """SIGKILL; a new process starts after `down_s`."""
        for slot in self._slots:
            if slot.host is host and host.alive:
                self._loop.kill(host)
                self._network.host_died(host)
                slot.up = False
                self._loop.call_later(down_s, self._launch, slot, context=self._loop.world)

    def findings(self) -> list[Finding]:
        """What the agents themselves say went wrong inside: dead background tasks, handlers that failed."""
        died = [
            Finding("task_died", f"{slot.name}: {core.supervisor.failure}")
            for slot in self._slots
            for core in slot.cores
            if core.supervisor.failure is not None
        ]
        failed = [
            Finding("handler_failed", f"{slot.name}: {listener.statistics.handler_failures} requests")
            for slot in self._slots
            for listener in slot.listeners
            if listener.statistics.handler_failures
        ]
        failed += [
            Finding("job_failed", f"{slot.name}: {what}")
            for slot in self._slots
            for core in slot.cores
            for what in core.jobs.unforeseen
        ]
        return died + failed + [Finding("boot_failed", text) for text in self.boot_errors[:5]]

    def _launch(self, slot: Slot) -> None:
        slot.host = Host(slot.name)
        self.restarts += 1
        token = HOST.set(slot.host)
        try:
            self._loop.create_task(self._run(slot, slot.host), name=slot.name)
        finally:
            HOST.reset(token)

    async def _run(self, slot: Slot, host: Host) -> None:
        try:
            await self._boot(slot)
        except Exception as error:
            if not isinstance(error, DatabaseError | ObjectStoreError | ClusterMismatch):
                self.boot_errors.append(f"{slot.name}: {error!r}")
            self.kill(host, self._rng.uniform(*RESTART_S))
            return
        slot.up = True

    def _settings_of(self, slot: Slot) -> Settings:
        """Agents may disagree about how many of them compact: their shares overlap then, as while a setting is changed."""
        settings = self._plan.settings
        parallel = self._plan.compactors[self._slots.index(slot)]
        return settings.model_copy(update={"compaction_parallel": parallel})

    async def _boot(self, slot: Slot) -> None:
        settings = self._settings_of(slot)
        limits = RetryLimits(
            attempts=settings.object_attempts,
            attempt_timeout_ms=settings.object_timeout_ms,
            deadline_ms=settings.commit_deadline_ms,
        )
        raw = SimStore(self._world, self._store, self._plan.store_latency_s)
        store = RetryingStore(raw, slot.clock, slot.rng, limits)
        core = await build_core(
            settings, store, SimDatabase(self._server), slot.clock, slot.rng, local_store=False, version="simulated"
        )
        slot.core = core
        slot.cores.append(core)
        await core.start(slot.name, PORT, jobs=True)
        listener = Listener(core.services)
        slot.listeners.append(listener)
        await listener.start(slot.name, PORT)
