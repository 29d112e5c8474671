"""Coordinators of several agents on one database: slots, moves, zombies, writes that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from broker.clock import SystemClock
from broker.groups.coordinator import GroupCoordinator
from broker.groups.requests import Commit, Heartbeat, Join, JoinReply, Leave, Sync, SyncReply
from broker.groups.slots import SLOTS, preferred_holder, slot_of
from broker.services import BrokerView
from catalog.agents import AgentFacts, AgentStore
from catalog.database import Transaction, Unreachable
from catalog.groups import NewOffset
from catalog.inline import InlineDatabase, Operation
from catalog.migrate import migrate
from catalog.topics import TopicStore
from schemas.kafka.errors import ErrorCode
from tests.front_fakes import settings, until

GROUP = "g"


class Faults:
    """A database that can be switched off for one agent."""

    def __init__(self) -> None:
        self.off = False

    async def before(self, operation: Operation) -> None:
        if self.off:
            raise Unreachable("switched off")

    def fate(self) -> Any:
        return "lands"

    async def after(self, operation: Operation) -> None:
        return


@dataclass
class FakeView:
    """What one agent sees of the cluster."""

    self_view: BrokerView
    all: list[BrokerView]
    cluster_id: str = "c"

    async def look(self) -> list[BrokerView]:
        return self.brokers()

    def brokers(self) -> list[BrokerView]:
        return self.all


@dataclass
class World:
    """Agents on one in-memory database."""

    database: InlineDatabase
    brokers: list[BrokerView] = field(default_factory=list)
    agents: list[GroupCoordinator] = field(default_factory=list)
    faults: list[Faults] = field(default_factory=list)
    tasks: list[list[asyncio.Task[None]]] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    topic: int = 0

    async def start(self, **changes: Any) -> GroupCoordinator:
        number = len(self.agents) + 1
        view = BrokerView(number, "127.0.0.1", 9000 + number, "")
        self.brokers.append(view)
        faults = Faults()
        chosen = {
            "group_initial_rebalance_delay_ms": 10,
            "group_slot_lease_ms": 300,
            "group_slot_poll_ms": 30,
            "group_write_deadline_ms": 150,
            "group_min_session_timeout_ms": 1,
            **changes,
        }
        facts = AgentFacts(f"i{number}", view.host, view.port, "", "broker", "")
        await AgentStore(self.database).register(facts, 600_000, number)
        agent = GroupCoordinator(
            self.database.handle(faults), FakeView(view, self.brokers), SystemClock(), settings(**chosen),
            instance=f"i{number}",
        )  # fmt: skip
        self.agents.append(agent)
        self.faults.append(faults)
        self.tasks.append([asyncio.ensure_future(run()) for run in (agent.run_keeper, agent.run_writes)])
        return agent

    def kill(self, agent: GroupCoordinator) -> None:
        """No goodbye: the tasks just stop."""
        number = self.agents.index(agent)
        for task in self.tasks[number]:
            task.cancel()
        self.dead.append(number + 1)
        self.brokers[:] = [broker for broker in self.brokers if broker.broker_id != number + 1]

    async def holder(self, asked: GroupCoordinator, group: str = GROUP) -> GroupCoordinator:
        """Ask until it is settled."""
        async with asyncio.timeout(5):
            while True:
                view = await asked.coordinator_of(group)
                if view is not None and view.broker_id not in self.dead:
                    agent = self.agents[view.broker_id - 1]
                    if agent.describe(group)[0] != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
                        return agent
                await asyncio.sleep(0.02)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    database = InlineDatabase(SystemClock().now_ms)
    await migrate(database)
    made = World(database)
    made.topic = (await TopicStore(database).create("t", UUID(int=5), 4, {})).topic
    yield made
    for tasks in made.tasks:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for agent in made.agents:
        agent.failed()
    await database.close()


def join(member_id: str = "", **changes: Any) -> Join:
    fields: dict[str, Any] = {
        "instance_id": None, "client_id": "c", "client_host": "/h", "session_ms": 10_000, "rebalance_ms": 10_000,
        "protocol_type": "consumer", "protocols": (("range", b""),), "fresh_id": "1", "id_required": False,
    }  # fmt: skip
    return Join(member_id, **{**fields, **changes})


async def settle(agent: GroupCoordinator) -> JoinReply:
    """One member with an assignment."""
    joined = await agent.ask(GROUP, join())
    assert isinstance(joined, JoinReply)
    synced = await agent.ask(
        GROUP, Sync(joined.member_id, joined.generation, assignments=((joined.member_id, b"all"),))
    )
    assert synced == SyncReply(0, "consumer", "range", b"all")
    return joined


def test_slots_never_change_and_spread() -> None:
    assert [slot_of(name) for name in ("", "g", "a-group")] == [0, slot_of("g"), slot_of("a-group")]
    shares = [sum(preferred_holder(slot, (1, 2, 3)) == agent for slot in range(SLOTS)) for agent in (1, 2, 3)]
    assert min(shares) > SLOTS // 6
    moved = [slot for slot in range(SLOTS) if preferred_holder(slot, (1, 2)) != preferred_holder(slot, (1, 2, 3))]
    assert all(preferred_holder(slot, (1, 2, 3)) == 3 for slot in moved)


async def test_every_agent_names_the_same_coordinator_and_others_refuse(world: World) -> None:
    agents = [await world.start() for _ in range(3)]
    holder = await world.holder(agents[0])
    for agent in agents:
        assert await world.holder(agent) is holder
    other = next(agent for agent in agents if agent is not holder)
    assert await other.ask(GROUP, Heartbeat("m", 1)) == ErrorCode.NOT_COORDINATOR
    assert other.describe(GROUP)[0] == ErrorCode.NOT_COORDINATOR
    assert (await other.offsets(GROUP))[0] == ErrorCode.NOT_COORDINATOR
    assert await other.commit(GROUP, Commit("", -1), []) == ErrorCode.NOT_COORDINATOR
    assert await holder.ask(GROUP, Heartbeat("m", 1)) == ErrorCode.UNKNOWN_MEMBER_ID


async def test_a_member_outlives_its_coordinator(world: World) -> None:
    agents = [await world.start() for _ in range(2)]
    holder = await world.holder(agents[0])
    member = await settle(holder)
    assert await holder.commit(GROUP, Commit(member.member_id, 1), [NewOffset(world.topic, 0, 7, 0, "")]) == 0
    world.kill(holder)
    survivor = next(agent for agent in agents if agent is not holder)
    assert await world.holder(survivor) is survivor
    assert await survivor.ask(GROUP, Heartbeat(member.member_id, 1)) == ErrorCode.NONE
    again = await survivor.ask(GROUP, Sync(member.member_id, 1))
    assert again == SyncReply(0, "consumer", "range", b"all")
    assert [offset.offset for offset in (await survivor.offsets(GROUP))[1]] == [7]


async def test_a_zombie_coordinator_writes_nothing(world: World) -> None:
    zombie = await world.start()
    await world.holder(zombie)
    member = await settle(zombie)
    world.kill(zombie)  # or paused: it renews nothing
    other = await world.start()
    assert await world.holder(other) is other
    taken = await other.commit(GROUP, Commit(member.member_id, 1), [NewOffset(world.topic, 0, 9, 0, "")])
    assert taken == 0
    slot = zombie._slots[slot_of(GROUP)]
    slot.held.until_s += 3600  # its clock is wrong: it believes in its lease
    world.tasks[0] = [asyncio.ensure_future(zombie.run_writes())]
    late = await zombie.commit(GROUP, Commit(member.member_id, 1), [NewOffset(world.topic, 0, 1, 0, "")])
    assert late == ErrorCode.NOT_COORDINATOR
    assert [offset.offset for offset in (await other.offsets(GROUP))[1]] == [9]


async def test_while_a_slot_is_loaded_members_are_asked_to_wait(world: World) -> None:
    agent = await world.start()
    await world.holder(agent)
    member = await settle(agent)
    slot = agent._slots[slot_of(GROUP)]
    groups, slot.groups = slot.groups, None
    assert await agent.ask(GROUP, Heartbeat(member.member_id, 1)) == ErrorCode.NONE
    assert await agent.ask(GROUP, Sync(member.member_id, 1)) == SyncReply(ErrorCode.REBALANCE_IN_PROGRESS)
    assert await agent.commit(GROUP, Commit(member.member_id, 1), []) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert agent.describe(GROUP)[0] == agent.listed()[0] == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert (await agent.offsets(GROUP))[0] == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    assert await agent.delete(GROUP) == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    slot.groups = groups
    assert await agent.ask(GROUP, Sync(member.member_id, 1)) == SyncReply(0, "consumer", "range", b"all")


async def test_whoever_waits_is_answered_when_the_slot_goes(world: World) -> None:
    agent = await world.start(group_initial_rebalance_delay_ms=60_000)
    await world.holder(agent)
    waiting = asyncio.ensure_future(agent.ask(GROUP, join()))
    await until(lambda: agent.describe(GROUP)[0] == 0)
    await agent.drain()
    answer = await waiting
    assert isinstance(answer, JoinReply)
    assert answer.error == ErrorCode.NOT_COORDINATOR
    other = await world.start()
    assert await world.holder(other) is other, "given back, not run out"


async def test_writes_that_cannot_be_made_are_answered(world: World) -> None:
    agent = await world.start(group_slot_lease_ms=60_000)
    await world.holder(agent)
    joined = await agent.ask(GROUP, join())
    assert isinstance(joined, JoinReply)
    world.faults[0].off = True
    synced = await agent.ask(GROUP, Sync(joined.member_id, 1))
    assert synced == SyncReply(ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert (await agent.offsets(GROUP))[0] == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    world.faults[0].off = False
    again = await agent.ask(GROUP, join(joined.member_id))
    assert isinstance(again, JoinReply)
    assert (again.error, again.generation) == (0, 2)


async def test_offsets_from_outside_make_a_group_that_can_be_deleted(world: World) -> None:
    agent = await world.start()
    await world.holder(agent)
    assert agent.describe(GROUP)[0] == ErrorCode.GROUP_ID_NOT_FOUND
    assert await agent.commit(GROUP, Commit("m", 1), []) == ErrorCode.GROUP_ID_NOT_FOUND
    assert await agent.commit(GROUP, Commit("", -1), [NewOffset(world.topic, 0, 3, 0, "x")]) == 0
    assert [listing.group_id for listing in agent.listed()[1]] == [GROUP]
    assert await agent.delete_offsets(GROUP, [(world.topic, "t", 0), (world.topic, "t", 1)]) == (0, [0, 0])
    assert (await agent.offsets(GROUP))[1] == []
    assert await agent.delete(GROUP) == 0
    assert await agent.delete(GROUP) == ErrorCode.GROUP_ID_NOT_FOUND
    assert agent.listed() == (0, [])


async def test_subscribed_topics_keep_their_offsets(world: World) -> None:
    agent = await world.start()
    await world.holder(agent)
    subscription = b"\0\0" + b"\0\0\0\1" + b"\0\1t" + b"\xff\xff\xff\xff"
    joined = await agent.ask(GROUP, join(protocols=(("range", subscription),)))
    assert isinstance(joined, JoinReply)
    asked = [(world.topic, "t", 0), (99, "other", 0)]
    assert await agent.delete_offsets(GROUP, asked) == (0, [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, 0])
    assert await agent.delete(GROUP) == ErrorCode.NON_EMPTY_GROUP


async def test_offsets_run_out_and_their_group_with_them(world: World) -> None:
    agent = await world.start(offsets_retention_minutes=1, offsets_retention_check_interval_ms=20)
    await world.holder(agent)
    member = await settle(agent)
    assert await agent.commit(GROUP, Commit(member.member_id, 1), [NewOffset(world.topic, 0, 3, 0, "")]) == 0
    await agent.ask(GROUP, Leave(((member.member_id, None),)))

    async def age(tx: Transaction) -> None:
        await tx.execute("UPDATE group_offsets SET committed_ms = committed_ms - 61000")

    expiry = asyncio.ensure_future(agent.run_expiry())
    await asyncio.sleep(0.1)
    assert agent.describe(GROUP)[0] == 0, "it has only just become empty"
    await world.database.transact(age)
    await asyncio.sleep(0.1)
    assert agent.describe(GROUP)[0] == 0, "counted from when it became empty"
    agent._slots[slot_of(GROUP)].groups[GROUP].machine.group.since_ms -= 61_000  # type: ignore[index]
    await until(lambda: agent.describe(GROUP)[0] == ErrorCode.GROUP_ID_NOT_FOUND)
    await asyncio.sleep(0.05)
    assert (await agent.offsets(GROUP))[1] == []
    expiry.cancel()


async def test_an_idle_slot_goes_to_the_agent_it_belongs_to_and_a_busy_one_stays(world: World) -> None:
    first = await world.start()
    await until(lambda: len(first._slots) == SLOTS)
    member = await settle(first)
    second = await world.start()
    broker_ids = [broker.broker_id for broker in world.brokers]
    theirs = [slot for slot in range(SLOTS) if preferred_holder(slot, broker_ids) == 2 and slot != slot_of(GROUP)]
    await until(lambda: all(slot in second._slots for slot in theirs))
    assert await first.ask(GROUP, Heartbeat(member.member_id, 1)) == ErrorCode.NONE
    assert await world.holder(second) is first


async def test_a_slot_is_not_handed_to_an_agent_that_let_it_lie(world: World) -> None:
    """Dead agents stay in the view for the time of their lease: their groups must have a coordinator all that time."""
    agent = await world.start(agent_lease_ms=900, group_slot_lease_ms=3_000)
    world.brokers.append(BrokerView(2, "127.0.0.1", 9002, ""))  # never comes
    group = next(f"g{n}" for n in range(100) if preferred_holder(slot_of(f"g{n}"), [1, 2]) == 2)
    await until(lambda: len(agent._slots) < SLOTS)  # what was held before it was in the view is handed over
    await world.holder(agent, group)
    for _ in range(20):
        await asyncio.sleep(0.03)
        assert await agent.coordinator_of(group) is not None
        assert (await agent.offsets(group))[0] in (ErrorCode.NONE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    await until(lambda: slot_of(group) not in agent._slots)  # still in the view after that long: it lives
