"""The nemesis of a run: brings faults about at seeded moments, and heals everything at the end.

Kinds that strike messages, store and database are armed and strike the next operation they fit; kills and long pauses
strike at the worst moment, when a write took effect and its answer hasn't left. `sweep` is the sweeper of orphans without
any grace: it retires lapsed epochs, condemns what dead epochs left uncommitted, and deletes it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from broker.objects.memory import MemoryStore
from catalog.deletions import DeletionStore, StoredObject
from catalog.epochs import EpochStore
from catalog.sqlite_statements import drive
from neve.simulation.database import DatabaseServer
from neve.simulation.faults import Faults
from neve.simulation.hosts import Host
from neve.simulation.loop import SimLoop
from neve.simulation.network import SimNetwork

DOWN_S = (0.1, 4.0)
PAUSE_S = (0.1, 2.0)
PARTITION_S = (0.3, 6.0)
STOPPED_S = (0.2, 4.0)


class Agents(Protocol):
    """What the nemesis may do to the agents."""

    def hosts(self) -> list[Host]:
        """Hosts of agents that are up."""
        ...

    def kill(self, host: Host, down_s: float) -> None:
        """Kill one and start it anew later."""
        ...


class Nemesis:
    """See the module."""

    def __init__(
        self,
        rng: random.Random,
        loop: SimLoop,
        network: SimNetwork,
        faults: Faults,
        server: DatabaseServer,
        store: MemoryStore,
        agents: Agents,
        *,
        clients: list[str],
        kinds: tuple[str, ...],
        gap_s: tuple[float, float],
        lease_s: float,
        slot_lease_s: float,
        crashing: bool,
    ) -> None:
        self._rng, self._loop, self._network, self._faults = rng, loop, network, faults
        self._server, self._store, self._agents = server, store, agents
        self._clients, self._kinds, self._gap_s = clients, kinds, gap_s
        self._lease_s = lease_s
        self._slot_lease_s = slot_lease_s
        self._crashing = crashing
        self._paused: list[Host] = []
        self._partitions: list[tuple[str, str]] = []
        self._special: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "pause": self._pause,
            "pause_past_lease": lambda: self._faults.arm("pause_past_lease"),
            "partition": self._partition,
            "reset": self._reset,
            "db_stopped": self._stop_database,
            "sweep": self._sweep_counted,
            "latency": lambda: self._faults.arm("latency", self._rng.randint(1, 8)),
        }

    async def run(self, until: Callable[[], bool]) -> None:
        """Strike now and then until told to end."""
        while self._kinds and not self._crashing and not until():
            await asyncio.sleep(self._rng.uniform(*self._gap_s))
            if not self._faults.healed:
                self.strike(self._rng.choice(self._kinds))

    def strike(self, kind: str) -> None:
        """Bring one fault about, or arm it."""
        special = self._special.get(kind)
        if special is not None:
            special()
        else:
            self._faults.arm(kind, self._rng.choice((1, 1, 2, 4)))

    def after_effect(self, host: Host) -> None:
        """A write of `host` took effect and its answer hasn't left."""
        if not host.alive or host.paused or not host.name.startswith("agent"):
            return
        if self._faults.take("pause_past_lease"):
            self._pause_past_lease(host)
        elif self._faults.take("kill"):
            self._agents.kill(host, self._rng.uniform(*DOWN_S))

    def stand_still(self, host: Host | None) -> float:
        """A coordinator stops with a write on its way, and both come back when its slot may be another agent's."""
        seconds = self._slot_lease_s * self._rng.uniform(1.1, 2.5)
        if host is not None and host.alive and not host.paused:
            self._hold(host, seconds * self._rng.uniform(0.9, 1.2))
        return seconds

    def heal(self) -> None:
        """End every fault. Agents that are down come back by themselves."""
        self._faults.heal()
        for host in self._paused:
            self._loop.resume(host)
        for first, second in self._partitions:
            self._network.heal(first, second)
        self._paused.clear()
        self._partitions.clear()

    def _kill(self) -> None:
        hosts = self._agents.hosts()
        if not hosts or self._rng.random() < 0.5:
            self._faults.arm("kill")
            return
        self._faults.note("kill")
        self._agents.kill(self._rng.choice(hosts), self._rng.uniform(*DOWN_S))

    def crash(self) -> None:
        """Kill an agent at this very step."""
        hosts = self._agents.hosts()
        if hosts and not self._faults.healed:
            self._faults.note("kill")
            self._agents.kill(self._rng.choice(hosts), self._rng.uniform(*DOWN_S))

    def _pause(self) -> None:
        hosts = [host for host in self._agents.hosts() if not host.paused]
        if hosts:
            self._faults.note("pause")
            self._hold(self._rng.choice(hosts), self._rng.uniform(*PAUSE_S))

    def _pause_past_lease(self, host: Host) -> None:
        seconds = self._lease_s * self._rng.uniform(1.2, 1.8)
        self._hold(host, seconds)
        self._later(self._lease_s * 1.1, self._sweep_counted)

    def _hold(self, host: Host, seconds: float) -> None:
        self._loop.pause(host)
        self._paused.append(host)
        self._later(seconds, self._resume, host)

    def _resume(self, host: Host) -> None:
        if host in self._paused:
            self._paused.remove(host)
            self._loop.resume(host)

    def _partition(self) -> None:
        hosts = self._agents.hosts()
        if not hosts:
            return
        pair = (self._rng.choice(self._clients), self._rng.choice(hosts).name)
        self._faults.note("partition")
        self._network.partition(*pair)
        self._partitions.append(pair)
        self._later(self._rng.uniform(*PARTITION_S), self._heal_partition, pair)

    def _heal_partition(self, pair: tuple[str, str]) -> None:
        if pair in self._partitions:
            self._partitions.remove(pair)
            self._network.heal(*pair)

    def _reset(self) -> None:
        if self._network.reset_one():
            self._faults.note("reset")

    def _stop_database(self) -> None:
        self._faults.note("db_stopped")
        self._server.stop(self._rng.uniform(*STOPPED_S))

    def _sweep_counted(self) -> None:
        if not self._faults.healed:
            self._faults.note("sweep")
            self.sweep()

    def sweep(self) -> None:
        """Delete what dead epochs left behind, as the sweeper will, at one instant and without grace."""
        drive(EpochStore(self._server.inline).retire_lapsed())
        [(cluster_id,)] = self._server.read("SELECT cluster_id FROM cluster")
        for (epoch,) in self._server.read("SELECT epoch FROM epochs WHERE retired <> 0 ORDER BY epoch"):
            found = drive(self._list(f"{cluster_id}/segments/{epoch}/", int(str(epoch))))
            if found:
                condemned = drive(DeletionStore(self._server.inline).condemn(found))
                drive(self._store.delete([one.name for one in condemned]))

    async def _list(self, prefix: str, epoch: int) -> list[StoredObject]:
        return [
            StoredObject(epoch << 32 | int(info.key.rsplit("/", 1)[1].split("-")[0]), info.key, info.bytes)
            async for page in self._store.list(prefix)
            for info in page
        ]

    def _later(self, seconds: float, callback: Callable[..., None], *args: object) -> None:
        self._loop.call_later(seconds, callback, *args, context=self._loop.world)
