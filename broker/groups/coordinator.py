"""Coordinates the groups of the slots this agent holds: runs their machines, timers and writes (services.Groups).

Owns: a machine is asked only while its slot is held, by this agent's clock; what a machine wants stored is submitted in
the order it said so; whoever waits is answered, when the slot is lost with NOT_COORDINATOR. A group exists in memory from
its first request, and in the database once it has an assignment or offsets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from broker.groups.classic import ClassicGroup
from broker.groups.expiry import Expiry
from broker.groups.group import Description, describe
from broker.groups.requests import Answer, Commit, Delete, Effect, GroupLimits, Now, Reply, Request, Store, Token
from broker.groups.running import Running, RunningSlot
from broker.groups.slot_keeper import Held, SlotKeeper
from broker.groups.slots import slot_of
from broker.groups.states import State
from broker.groups.stored import UnknownLayout, dump_group
from broker.groups.subscription import subscribed
from broker.groups.without_group import refused, unknown_group, while_loading
from broker.groups.write_queue import GroupWriteQueue
from broker.services import BrokerView, Clock, Cluster, GroupListing
from catalog.database import Database, DatabaseError
from catalog.group_slots import GroupSlotStore
from catalog.groups import GroupStore, GroupWrite, NewOffset, StoredOffset
from schemas.kafka.errors import ErrorCode
from schemas.settings import Settings

log = structlog.get_logger(__name__)

RETRY_LOAD_S = 0.2


def limits_of(settings: Settings) -> GroupLimits:
    """The machine's limits from settings."""
    return GroupLimits(
        session_min_ms=settings.group_min_session_timeout_ms,
        session_max_ms=settings.group_max_session_timeout_ms,
        initial_delay_ms=settings.group_initial_rebalance_delay_ms,
        new_member_join_ms=settings.group_new_member_join_timeout_ms,
        size_max=settings.group_max_size,
    )


class GroupCoordinator:
    """`run_keeper`, `run_writes` and `run_expiry` belong to the agent's supervisor."""

    def __init__(
        self, database: Database, cluster: Cluster, clock: Clock, settings: Settings, *, instance: str
    ) -> None:
        self._store = GroupStore(database)
        self._clock = clock
        self._limits = limits_of(settings)
        self._writes = GroupWriteQueue(self._store, clock, settings)
        self._keeper = SlotKeeper(
            GroupSlotStore(database),
            cluster,
            clock,
            settings,
            instance=instance,
            on_gained=self._gained,
            on_lost=self._lost,
            idle=self._slot_is_idle,
        )
        self._expiry = Expiry(self._store, settings, self.forget)
        self._slots: dict[int, RunningSlot] = {}
        self._callers: dict[Token, asyncio.Future[Answer]] = {}
        self._token_last = 0
        self.run_keeper = self._keeper.run
        self.run_writes = self._writes.run

    async def run_expiry(self) -> None:
        """Look for offsets that have run out, for ever."""
        await self._expiry.run(self._all_running, self._submit)

    # services.Groups

    async def coordinator_of(self, group_id: str) -> BrokerView | None:
        """The agent that coordinates a group; None while that isn't settled, or can't be known now."""
        try:
            return await self._keeper.holder(slot_of(group_id))
        except DatabaseError as error:
            log.warning("a group's coordinator can't be found now", group=group_id, error=str(error))
            return None

    async def ask(self, group_id: str, request: Request) -> Answer:
        """One request to a group's machine; waits where the machine parks it."""
        found = self._find(group_id, request)
        if not isinstance(found, Running):
            return found
        future = self._call(found, request)
        return await future

    async def commit(self, group_id: str, request: Commit, offsets: Sequence[NewOffset]) -> int:
        """Check and store offsets; a Kafka code for all of them."""
        found = self._find(group_id, request)
        if not isinstance(found, Running):
            return found if isinstance(found, int) else ErrorCode.UNKNOWN_SERVER_ERROR
        error = await self._call(found, request)  # answered at once: commits never park
        if error or not offsets:
            assert isinstance(error, int), "commits are answered with a code"
            return error
        return await self._submit_offsets(found, offsets)

    async def offsets(self, group_id: str) -> tuple[int, list[StoredOffset]]:
        """(Kafka code, committed offsets in live topics); "loading" while the database can't be read: clients try again."""
        error = self._gate(group_id)
        if error:
            return error, []
        try:
            return ErrorCode.NONE, await self._store.offsets(group_id)
        except DatabaseError as unread:
            log.warning("committed offsets can't be read now", group=group_id, error=str(unread))
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, []

    def describe(self, group_id: str) -> tuple[int, Description | None]:
        """(Kafka code, the group); GROUP_ID_NOT_FOUND where there is none."""
        error = self._gate(group_id)
        if error:
            return error, None
        running = self._running(group_id)
        if running is None:
            return ErrorCode.GROUP_ID_NOT_FOUND, None
        return ErrorCode.NONE, describe(running.machine.group)

    def listed(self) -> tuple[int, list[GroupListing]]:
        """(Kafka code, the groups of this agent's slots by id)."""
        held = [slot for slot in self._slots.values() if self._keeper.held(slot.held.slot) is not None]
        if any(slot.groups is None for slot in held):
            return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, []
        listings = [
            GroupListing(group_id, running.machine.group.protocol_type or "", running.machine.group.state.value)
            for slot in held
            for group_id, running in (slot.groups or {}).items()
        ]
        return ErrorCode.NONE, sorted(listings, key=lambda listing: listing.group_id)

    async def delete(self, group_id: str) -> int:
        """Delete an empty group with its offsets; a Kafka code."""
        found = self._find(group_id, Delete())
        if not isinstance(found, Running):
            return found if isinstance(found, int) else ErrorCode.UNKNOWN_SERVER_ERROR
        before = dump_group(found.machine.group)
        error = await self._call(found, Delete())
        assert isinstance(error, int), "a deletion is answered with a code"
        if error:
            return error
        failed = await self.forget(found)
        slot = self._slots.get(found.held.slot)
        if failed and slot is not None and slot.held is found.held and self._running(group_id) is None:
            self._restore(slot, group_id, before)  # it is still in the database, or may be
        return failed

    async def delete_offsets(self, group_id: str, offsets: Sequence[tuple[int, str, int]]) -> tuple[int, list[int]]:
        """Delete offsets of (topic, topic name, shard): (Kafka code, a code for each)."""
        error: int = self._gate(group_id)
        running = None if error else self._running(group_id)
        if running is None:
            return error or ErrorCode.GROUP_ID_NOT_FOUND, []
        group = running.machine.group
        topics: frozenset[str] | None = frozenset()
        if group.state is not State.EMPTY:
            if group.protocol_type != "consumer":
                return ErrorCode.NON_EMPTY_GROUP, []
            topics = subscribed(group)
        answers: list[int] = [
            ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if topics is None or name in topics else ErrorCode.NONE
            for _, name, _ in offsets
        ]
        gone = tuple((topic, shard) for (topic, _, shard), code in zip(offsets, answers, strict=True) if not code)
        if gone:
            error = await self._submit(running, GroupWrite(*self._place(running), offsets_gone=gone))
        return error, answers

    # The agent's side

    async def drain(self) -> None:
        """Answer whoever waits, let what was submitted land, give the slots back."""
        await self._writes.drained()
        await self._keeper.close()

    def failed(self) -> None:
        """A background task of the agent died: nobody waits for what can't come."""
        self._writes.fail_all()
        self._keeper.drop_all()

    # Finding groups

    def _gate(self, group_id: str) -> ErrorCode:
        slot = self._slots.get(slot_of(group_id))
        if slot is None or self._keeper.held(slot.held.slot) is not slot.held:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.COORDINATOR_LOAD_IN_PROGRESS if slot.groups is None else ErrorCode.NONE

    def _running(self, group_id: str) -> Running | None:
        slot = self._slots.get(slot_of(group_id))
        return None if slot is None or slot.groups is None else slot.groups.get(group_id)

    def _all_running(self) -> list[Running]:
        return [running for slot in self._slots.values() for running in (slot.groups or {}).values()]

    def _find(self, group_id: str, request: Request) -> Running | Answer:
        """The group, made where the request makes one; else the answer."""
        error = self._gate(group_id)
        if error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            return while_loading(request)
        if error:
            return refused(request, error)
        running = self._running(group_id)
        if running is not None:
            return running
        answer = unknown_group(request, self._limits)
        if answer is not None:
            return answer
        slot = self._slots[slot_of(group_id)]
        assert slot.groups is not None, "the gate is open only for slots that are loaded"
        made = ClassicGroup.empty(group_id, self._limits, self._now())
        running = slot.groups[group_id] = Running(made, slot.held, stored=False)
        return running

    def _slot_is_idle(self, number: int) -> bool:
        slot = self._slots.get(number)
        return slot is None or (slot.groups is not None and all(running.idle for running in slot.groups.values()))

    # Running machines

    def _now(self) -> Now:
        return Now(int(self._clock.monotonic() * 1000), self._clock.now_ms())

    def _call(self, running: Running, request: Request) -> asyncio.Future[Answer]:
        self._token_last += 1
        token = self._token_last
        future = self._callers[token] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: self._callers.pop(token, None))
        self._carry_out(running, running.machine.handle(request, token, self._now()))
        return future

    def _carry_out(self, running: Running, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, answer):
                    future = self._callers.get(token)
                    if future is not None and not future.done():
                        future.set_result(answer)
                case Store(write, state):
                    submitted = self._submit(running, GroupWrite(*self._place(running), state=state))
                    submitted.add_done_callback(
                        lambda done, write=write: self._carry_out(  # type: ignore[misc]
                            running, running.machine.stored(write, done.result(), self._now())
                        )
                    )
        self._set_timer(running)

    def _set_timer(self, running: Running) -> None:
        due_ms = running.machine.group.timers.wake_ms
        if due_ms is None or (running.wake is not None and running.wake_ms <= due_ms):
            return
        running.sleep_no_more()
        wait_s = max(due_ms - self._now().ms, 0) / 1000
        running.wake_ms = due_ms
        running.wake = asyncio.get_running_loop().call_later(wait_s, self._wake, running)

    def _wake(self, running: Running) -> None:
        running.wake = None
        if self._keeper.held(running.held.slot) is running.held:
            self._carry_out(running, running.machine.tick(self._now()))
        elif running.held.slot in self._slots:
            # Perhaps only late to renew: look again instead of ending sessions that another agent may be keeping.
            running.wake_ms = 0
            running.wake = asyncio.get_running_loop().call_later(RETRY_LOAD_S, self._wake, running)

    # Writing

    def _place(self, running: Running) -> tuple[int, int, str]:
        return running.held.slot, running.held.epoch, running.machine.group.group_id

    def _submit(self, running: Running, write: GroupWrite) -> asyncio.Future[int]:
        running.outstanding += 1
        running.commits += 1
        running.stored = running.stored or write.state is not None

        def answered(_: asyncio.Future[int]) -> None:
            running.outstanding -= 1

        submitted = self._writes.submit(write)
        submitted.add_done_callback(answered)
        return submitted

    def _submit_offsets(self, running: Running, offsets: Sequence[NewOffset]) -> asyncio.Future[int]:
        group = running.machine.group
        state = None if running.stored else dump_group(group, members=False)
        return self._submit(running, GroupWrite(*self._place(running), state=state, offsets=tuple(offsets)))

    async def forget(self, running: Running) -> int:
        """Remove a group here and in the database; a Kafka code."""
        slot = self._slots.get(running.held.slot)
        if slot is not None and slot.groups is not None and self._running(self._place(running)[2]) is running:
            del slot.groups[self._place(running)[2]]
        self._carry_out(running, running.machine.retire(ErrorCode.COORDINATOR_NOT_AVAILABLE, self._now()))
        running.sleep_no_more()
        return await self._submit(running, GroupWrite(*self._place(running), delete=True))

    # Slots

    def _gained(self, held: Held) -> None:
        slot = self._slots[held.slot] = RunningSlot(held)
        slot.loading = asyncio.get_running_loop().create_task(self._load(slot))

    async def _load(self, slot: RunningSlot) -> None:
        while self._slots.get(slot.held.slot) is slot:
            try:
                stored = await self._store.load(slot.held.slot)
            except DatabaseError as error:
                log.warning("groups could not be loaded, trying again", slot=slot.held.slot, error=str(error))
                await asyncio.sleep(RETRY_LOAD_S)
                continue
            slot.groups = {}
            for group_id, state in stored:
                self._restore(slot, group_id, state)
            return

    def _restore(self, slot: RunningSlot, group_id: str, state: str) -> None:
        assert slot.groups is not None, "groups are restored into a slot that is being loaded"
        try:
            machine, effects = ClassicGroup.restored(group_id, state, self._limits, self._now())
        except (UnknownLayout, ValueError, KeyError) as error:
            log.error("a stored group can't be read; it begins anew", group=group_id, error=str(error))
            return
        running = slot.groups[group_id] = Running(machine, slot.held, stored=True)
        self._carry_out(running, effects)

    def _lost(self, held: Held) -> None:
        slot = self._slots.get(held.slot)
        if slot is None or slot.held is not held:
            return
        del self._slots[held.slot]
        if slot.loading is not None:
            slot.loading.cancel()
        for running in (slot.groups or {}).values():
            self._carry_out(running, running.machine.retire(ErrorCode.NOT_COORDINATOR, self._now()))
            running.sleep_no_more()
