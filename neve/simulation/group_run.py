"""The groups of a run: which members there are, drawn from the seed, and how they come to rest at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from neve.simulation.assignor import COOPERATIVE, RANGE
from neve.simulation.clock import BEGAN_MS
from neve.simulation.database import DatabaseServer
from neve.simulation.group_history import GroupHistory, Key, Landed, Settling, mark_of
from neve.simulation.hosts import Host
from neve.simulation.loop import SimLoop
from neve.simulation.member import Member, MemberPlan

STABLE_S = 60.0
"""All members must be in one generation that owns everything this long after the last fault and the last write."""
SETTLE_S = 180.0
"""And they must have read and committed everything this long after it."""
LOOK_S = 0.25


def draw_members(rng: random.Random, *, patient_share: float, groups_max: int) -> tuple[MemberPlan, ...]:
    """The members of a run's groups."""
    plans: list[MemberPlan] = []
    for number in range(rng.randint(1, groups_max)):
        protocol = rng.choice((RANGE, RANGE, COOPERATIVE))
        static_share = rng.choice((0.0, 0.3, 1.0))
        life_s = rng.choice(((1.0, 6.0), (2.0, 12.0), (8.0, 40.0)))
        for _member in range(rng.choice((2, 2, 3))):
            plan = MemberPlan(
                group=f"group-{number}",
                protocol=protocol,
                static=rng.random() < static_share,
                session_ms=rng.choice((1500, 3000, 6000)),
                rebalance_ms=rng.choice((1500, 3000, 6000)),
                patient=rng.random() < patient_share,
                request_timeout_s=rng.choice((1.0, 2.0, 5.0)),
                life_s=life_s,
                gap_s=rng.choice(((0.0, 0.5), (0.5, 3.0), (2.0, 8.0))),
                leave_share=rng.choice((0.1, 0.5, 0.9)),
                commit_share=rng.choice((0.2, 0.6, 1.0)),
                stall_share=rng.choice((0.0, 0.02, 0.08)),
                slow_share=rng.choice((0.0, 0.2)),
                late_share=rng.choice((0.2, 0.6)),
            )
            plans.append(plan)
    return tuple(plans)


class GroupRun:
    """The members of one run. `start` gets (what a member is made by, how work is put on a host)."""

    def __init__(self, loop: SimLoop, history: GroupHistory, keys: Sequence[Key]) -> None:
        self.members: list[Member] = []
        self._loop = loop
        self._history = history
        self._keys = sorted(keys)
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self,
        hosts: Sequence[Host],
        make: Callable[[int, Host], Member],
        on: Callable[[Host, Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """Start all members, each on its own host."""
        for at, host in enumerate(hosts):
            member = make(at, host)
            self.members.append(member)
            self._tasks.append(on(host, member.run()))

    def calm(self) -> None:
        """No member brings trouble any more."""
        for member in self.members:
            member.calm = True

    async def settle(self) -> None:
        """Wait until every group has come to rest, or for as long as it may take; then end all members."""
        began_s = self._loop.time()
        groups = list(dict.fromkeys(member.plan.group for member in self.members))
        await self._until(groups, self._stable, began_s, STABLE_S)
        unsettled = await self._until(groups, self._rests, began_s, SETTLE_S)
        for member, task in zip(self.members, self._tasks, strict=True):
            member.finished = True
            if task.done():
                task.result()
            elif unsettled:
                task.cancel()
        if not unsettled:
            await asyncio.gather(*self._tasks)

    async def _until(self, groups: list[str], holds: Callable[[str], bool], began_s: float, bound_s: float) -> bool:
        """Wait until it holds once for each group; True where it never did for some."""
        left = list(groups)
        while left and self._loop.time() - began_s <= bound_s and not any(task.done() for task in self._tasks):
            for group in [group for group in left if holds(group)]:
                left.remove(group)
                self._history.settlings.append(Settling(group, self._loop.time() - began_s, bound_s, ""))
            if left:
                await asyncio.sleep(LOOK_S)
        for group in left:
            state = "; ".join(str(member) for member in self.members if member.plan.group == group)
            self._history.settlings.append(Settling(group, self._loop.time() - began_s, bound_s, state))
        return bool(left)

    def _stable(self, group: str) -> bool:
        members = [member for member in self.members if member.plan.group == group]
        generations = dict.fromkeys(member.identity.generation for member in members)
        owned = sorted(key for member in members for key in member.owned)
        return len(generations) == 1 and owned == self._keys

    def _rests(self, group: str) -> bool:
        return self._stable(group) and all(member.settled for member in self.members if member.plan.group == group)


def take_landings(server: DatabaseServer, history: GroupHistory) -> None:
    """What the database's own record of committed offsets says, for the rules."""
    names = {topic: str(name) for topic, name in server.read("SELECT topic, name FROM topics")}
    rows = server.read(
        "SELECT at_ms, group_id, topic, shard, committed_offset, metadata FROM group_landings ORDER BY seq"
    )
    for at_ms, group, topic, shard, offset, metadata in rows:
        key = (names[topic], int(str(shard)))
        text = bytes(metadata).decode()  # type: ignore[call-overload]
        history.landed.append(Landed(int(str(at_ms)) - BEGAN_MS, str(group), key, int(str(offset)), mark_of(text)))
