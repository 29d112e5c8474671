"""One run: a cluster of real agents in a simulated world, clients, faults, healing, final reads, judgement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from typing import Any

from broker.objects.memory import MemoryStore
from catalog.migrate import migrate
from catalog.sqlite_statements import drive
from neve.simulation.agents import SimAgents
from neve.simulation.checker import Finding
from neve.simulation.clock import SimClock
from neve.simulation.consumer import Consumer
from neve.simulation.database import DatabaseServer
from neve.simulation.deletions import GARBAGE_LEFT, DeletionWatch, PassingTopics, RecordDeleter
from neve.simulation.faults import Faults
from neve.simulation.group_run import GroupRun, take_landings
from neve.simulation.group_wire import GroupCodec
from neve.simulation.history import History, Key
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop
from neve.simulation.member import Member
from neve.simulation.nemesis import Nemesis
from neve.simulation.network import SimNetwork
from neve.simulation.producer import Producer
from neve.simulation.profiles import Plan, stream
from neve.simulation.session import Dialer
from neve.simulation.store import World
from neve.simulation.wire import CLASSIC, FLEXIBLE

STORM_S = 40.0
"""Faults end after this long, whatever was reached."""
PROGRESS_S = 200.0
"""Everything must be done this long after healing."""
SETTLED_S = 400.0
"""What nothing refers to must be gone this long after the final reads: dead epochs are listed at growing intervals."""
CLIENT_TIMEOUT_S = 3.0
MEMBER = "member"


class Scenario:
    """The objects of one run. `main` is the run; findings that aren't the checkers' are in `findings`."""

    def __init__(self, plan: Plan, loop: SimLoop) -> None:
        self.plan = plan
        self.loop = loop
        self.history = History()
        self.findings: list[Finding] = []
        self.faults = Faults(self._stream("faults"), plan.rates)
        self.faults.heal()  # until everything is up
        self.world_clock = SimClock(loop)
        self.store = MemoryStore(self.world_clock.now_ms)
        self.network = SimNetwork(
            loop,
            self._stream("network"),
            self.faults,
            latency_s=plan.latency_s,
            cut_share=plan.cut_share,
            window_bytes=plan.window_bytes,
        )
        self.world = World(loop, self._stream("world"), self.faults)
        self.server = DatabaseServer(self.world, self.world_clock.now_ms)
        drive(migrate(self.server.inline))
        self.server.watch()
        self.agents = SimAgents(plan, loop, self.network, self.world, self.server, self.store)
        self.keys: list[Key] = [(topic.name, shard) for topic in plan.topics for shard in range(topic.shards)]
        self.history.append_time = {
            (topic.name, shard): topic.append_time for topic in plan.topics for shard in range(topic.shards)
        }
        if plan.deletion.retention_ms is not None:
            self.history.unbounded = {key: None for key, stamped in self.history.append_time.items() if stamped}
        self.watch = DeletionWatch(self.server, self.store, plan.settings.object_delete_delay_ms)
        self.world.on_delete = self.watch.on_delete

    def _stream(self, name: str) -> random.Random:
        return stream(self.plan.seed, self.plan.profile.name, name)

    async def main(self) -> None:
        """The whole run, up to and with the final reads."""
        self.agents.start()
        await self.agents.all_up()
        await self.agents.create_topics()
        nemesis = self._nemesis()
        self.world.after_effect = nemesis.after_effect
        self.world.stand_still = nemesis.stand_still
        consumers: list[Consumer] = []
        reading = [self._on(host, self._consume(at, host, consumers)) for at, host in self._hosts("consumer")]
        self.faults.healed = False
        for step in self.plan.crash_steps:
            self.loop.at_step[step] = nemesis.crash
        writing = [self._on(host, self._produce(at, host)) for at, host in self._hosts("producer")]
        groups = self._start_groups()
        deleter = self._deleter()
        deleting = [self._on(Host("deleter"), deleter.run()), self._on(Host("passing"), self._pass_topics())]
        striking = self.loop.create_task(nemesis.run(lambda: all(task.done() for task in writing)), name="nemesis")
        await self._wait(writing, STORM_S)
        nemesis.heal()
        groups.calm()
        self.network.reset_silent(MEMBER)
        deleter.stopping = True
        await self._finish(writing, "producers")
        await self._finish(deleting, "deleters")
        await striking
        for consumer in consumers:
            consumer.stopping = True
        await self._finish(reading, "consumers")
        settling = self.loop.create_task(groups.settle(), name="settling")
        ends = [
            self._on(host, consumer.read_to_end())
            for (_at, host), consumer in zip(self._hosts("reader"), consumers, strict=True)
        ]
        await self._finish([*ends, settling], "final reads and groups")
        if self.plan.deletion.records_gap_s is not None:
            await self._settle()
        self.findings += self.agents.findings()

    def _deleter(self) -> RecordDeleter:
        host = Host("deleter")
        rng = self._stream(host.name)
        return RecordDeleter(self.plan.deletion, self._dialer(0, host), self.history, self.keys, rng)

    async def _pass_topics(self) -> None:
        passing = PassingTopics(self.server, self._stream("passing"))
        for at in range(self.plan.deletion.topics):
            name = f"passing-{at}"
            await passing.one(self._dialer(0, Host("passing"), [name]), name)

    async def _settle(self) -> None:
        """Wait until everything is gone that can be: a disk must not fill up."""
        until_s = self.loop.time() + SETTLED_S
        while (left := self.watch.garbage()) and self.loop.time() < until_s:  # noqa: ASYNC110  agents clean up by themselves
            await asyncio.sleep(2.0)
        self.server.note(GARBAGE_LEFT, [f"{what} is there {SETTLED_S:.0f} s after the end" for what in left[:3]])

    def _start_groups(self) -> GroupRun:
        groups = GroupRun(self.loop, self.history.groups, self.keys)
        groups.start([host for _at, host in self._hosts(MEMBER, len(self.plan.members))], self._member, self._on)
        return groups

    def _member(self, at: int, host: Host) -> Member:
        dialer = self._dialer(at % len(self.plan.clients), host)
        return Member(host.name, self.plan.members[at], dialer, self.history, self.keys, self._stream(host.name))

    def take_database(self) -> None:
        """What the history is judged by: committed offsets in their order, and the log starts as they ended up."""
        take_landings(self.server, self.history.groups)
        rows = self.server.read("SELECT t.name, s.shard, s.log_start FROM shards s JOIN topics t ON t.topic = s.topic")
        found = {(str(name), int(str(shard))): int(str(start)) for name, shard, start in rows}
        self.history.starts = {key: found.get(key, 0) for key in self.keys}

    def _nemesis(self) -> Nemesis:
        plan = self.plan
        return Nemesis(
            self._stream("nemesis"),
            self.loop,
            self.network,
            self.faults,
            self.server,
            self.store,
            self.agents,
            clients=[
                *(host.name for role in ("producer", "consumer") for _at, host in self._hosts(role)),
                *(host.name for _at, host in self._hosts(MEMBER, len(plan.members))),
            ],
            kinds=plan.fault_kinds,
            gap_s=plan.fault_gap_s,
            lease_s=plan.settings.epoch_lease_ms / 1000,
            slot_lease_s=plan.settings.group_slot_lease_ms / 1000,
            crashing=bool(plan.crash_steps),
        )

    def _hosts(self, role: str, count: int | None = None) -> list[tuple[int, Host]]:
        return [(at, Host(f"{role}-{at}")) for at in range(len(self.plan.clients) if count is None else count)]

    def _on(self, host: Host, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        token = HOST.set(host)
        try:
            return self.loop.create_task(work, name=host.name)
        finally:
            HOST.reset(token)

    def _dialer(self, at: int, host: Host, topics: Sequence[str] | None = None) -> Dialer:
        client = self.plan.clients[at]
        return Dialer(
            self.loop,
            self._stream(f"dialer {host.name}"),
            self.history,
            host.name,
            GroupCodec(FLEXIBLE if client.flexible else CLASSIC),
            self.agents.addresses(),
            [topic.name for topic in self.plan.topics] if topics is None else topics,
            stray_share=client.stray_share,
            timeout_s=CLIENT_TIMEOUT_S,
        )

    async def _produce(self, at: int, host: Host) -> None:
        client = self.plan.clients[at]
        producer = Producer(
            host.name,
            client.producer,
            self._dialer(at, host),
            self.history,
            self.keys,
            SimClock(self.loop),
            self._stream(host.name),
        )
        records = -(-self.plan.profile.records // len(self.plan.clients))
        await producer.run(records, self._storms)

    def _storms(self) -> bool:
        """Should faults go on?"""
        profile = self.plan.profile
        long_enough = self.loop.time() >= profile.storm_min_s
        return not self.faults.healed and not (long_enough and self.faults.total >= profile.faults_min)

    async def _consume(self, at: int, host: Host, consumers: list[Consumer]) -> None:
        consumer = Consumer(
            host.name,
            self.plan.clients[at].consumer,
            self._dialer(at, host),
            self.history,
            self.keys,
            self._stream(host.name),
        )
        consumers.append(consumer)
        await consumer.run()

    async def _wait(self, work: list[asyncio.Task[None]], seconds: float) -> bool:
        """Wait until all are done; False where they aren't after this long."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(asyncio.gather(*work))
        except TimeoutError:
            return False
        return True

    async def _finish(self, work: list[asyncio.Task[None]], what: str) -> None:
        if not await self._wait(work, PROGRESS_S):
            left = ", ".join(task.get_name() for task in work if not task.done())
            self.findings.append(Finding("stuck", f"{what} are not done {PROGRESS_S:.0f} s after healing: {left}"))
            raise RunEnded
        for task in work:
            task.result()


class RunEnded(Exception):
    """The run ended early with a finding."""
