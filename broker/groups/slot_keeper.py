"""The group slots this agent holds: claimed, renewed, handed over, given back.

Each agent claims the free slots that rendezvous hashing over the live agents gives it, and, when a client asks, any free
slot whose preferred agent didn't take it in time. A slot with members stays where it is when agents come; an idle one is
handed to the agent it belongs to, unless that one has just let it lie: an agent that died is in the view for as long as its
lease runs, and a slot handed to it would have no holder. Owns: a slot is believed to be held no longer than its lease,
counted from before the request that prolonged it; `on_gained` and `on_lost` are called once for each time a slot is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from broker.groups.slots import SLOTS, preferred_holder
from broker.services import BrokerView, Clock, Cluster
from catalog.database import DatabaseError
from catalog.group_slots import GroupSlotStore, SlotRow
from schemas.settings import Settings

log = structlog.get_logger(__name__)

GRACE_POLLS = 3
"""A preferred agent that hasn't taken a free slot after so many polls isn't going to."""


@dataclass(slots=True)
class Held:
    """A slot of ours. `until_s` and `keep_until_s` (not to be handed over before) are monotonic."""

    slot: int
    epoch: int
    until_s: float
    keep_until_s: float = 0.0


class SlotKeeper:
    """`run` belongs to the agent's supervisor."""

    def __init__(
        self,
        store: GroupSlotStore,
        cluster: Cluster,
        clock: Clock,
        settings: Settings,
        *,
        instance: str,
        on_gained: Callable[[Held], None],
        on_lost: Callable[[Held], None],
        idle: Callable[[int], bool],
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._settings = settings
        self._instance = instance
        self._on_gained = on_gained
        self._on_lost = on_lost
        self._idle = idle
        self._held: dict[int, Held] = {}
        self._claiming = asyncio.Lock()
        self._closing = False
        self._renew_at_s = 0.0

    def held(self, slot: int) -> Held | None:
        """The slot while its lease is believed to run."""
        held = self._held.get(slot)
        return held if held is not None and self._clock.monotonic() < held.until_s else None

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            try:
                await self.poll()
            except DatabaseError as error:
                log.warning("group slots could not be kept", error=str(error))
            await asyncio.sleep(self._settings.group_slot_poll_ms / 1000)

    async def poll(self) -> None:
        """One round: renew (at a third of the lease), give up what is lost, claim what should be ours, hand over what shouldn't. Raises DatabaseError."""
        self._expire()
        if self._closing:
            return
        if self._held and self._clock.monotonic() >= self._renew_at_s:
            await self._renew()
        rows = await self._store.all()
        broker_ids = [broker.broker_id for broker in self._cluster.brokers()]
        me = self._cluster.self_view.broker_id
        wanted = [slot for slot in range(SLOTS) if preferred_holder(slot, broker_ids) == me]
        free = [slot for slot in wanted if slot not in self._held and self._is_free(rows.get(slot))]
        if free:
            await self._claim(free)
        ours = frozenset(wanted)
        now_s = self._clock.monotonic()
        surplus = [
            held
            for slot, held in sorted(self._held.items())
            if slot not in ours and held.keep_until_s <= now_s and self._idle(slot)
        ]
        if surplus:
            await self._give_back(surplus)

    async def holder(self, slot: int) -> BrokerView | None:
        """Who holds the slot; claims it where it is free and nobody else will. None where that isn't settled yet.

        Raises DatabaseError.
        """
        if self.held(slot) is not None and not self._closing:
            return self._cluster.self_view
        row = (await self._store.all()).get(slot)
        if self._is_free(row):
            if self._closing or not self._may_claim(slot, row):
                return None
            await self._claim([slot], keep_ms=0 if self._is_mine(slot) else self._settings.agent_lease_ms)
            return self._cluster.self_view if self.held(slot) is not None else None
        assert row is not None, "a slot without a row is free"
        if row.holder == self._instance or row.host is None or row.port is None:
            return None
        return BrokerView(row.broker_id, row.host, row.port, row.zone)

    async def close(self) -> None:
        """Give everything back; what can't be given back runs out by itself."""
        self._closing = True
        async with self._claiming:
            held = list(self._held.values())
            try:
                await self._give_back(held)
            except DatabaseError as error:
                log.warning("group slots not given back, their leases will run out", error=str(error))
            self.drop_all()

    def drop_all(self) -> None:
        """Stop believing in any slot."""
        self._closing = True
        for held in list(self._held.values()):
            self._lose(held)

    def _is_free(self, row: SlotRow | None) -> bool:
        return row is None or not row.live

    def _is_mine(self, slot: int) -> bool:
        broker_ids = [broker.broker_id for broker in self._cluster.brokers()]
        return preferred_holder(slot, broker_ids) == self._cluster.self_view.broker_id

    def _may_claim(self, slot: int, row: SlotRow | None) -> bool:
        return self._is_mine(slot) or row is None or row.idle_ms > GRACE_POLLS * self._settings.group_slot_poll_ms

    def _lose(self, held: Held) -> None:
        if self._held.get(held.slot) is held:
            del self._held[held.slot]
            self._on_lost(held)

    def _expire(self) -> None:
        now_s = self._clock.monotonic()
        for held in list(self._held.values()):
            if held.until_s <= now_s:
                log.warning("group slot lost: its lease ran out", slot=held.slot)
                self._lose(held)

    async def _renew(self) -> None:
        began_s = self._clock.monotonic()
        renewing = dict(self._held)
        lease_ms = self._settings.group_slot_lease_ms
        self._renew_at_s = began_s + lease_ms / 3000
        lost = await self._store.renew({slot: held.epoch for slot, held in sorted(renewing.items())}, lease_ms)
        for slot, held in renewing.items():
            if slot in lost:
                log.warning("group slot lost", slot=slot)
                self._lose(held)
            else:
                held.until_s = began_s + lease_ms / 1000

    async def _claim(self, slots: list[int], keep_ms: int = 0) -> None:
        async with self._claiming:
            if self._closing:
                return
            began_s = self._clock.monotonic()
            lease_ms = self._settings.group_slot_lease_ms
            wanted = [slot for slot in slots if slot not in self._held]
            if not wanted:
                return
            taken = await self._store.claim(wanted, self._instance, self._cluster.self_view.broker_id, lease_ms)
            for slot, epoch in sorted(taken.items()):
                held = self._held[slot] = Held(slot, epoch, began_s + lease_ms / 1000, began_s + keep_ms / 1000)
                self._on_gained(held)

    async def _give_back(self, surplus: list[Held]) -> None:
        """Stop coordinating first, then let the next agent in."""
        for held in surplus:
            self._lose(held)
        if surplus:
            await self._store.release({held.slot: held.epoch for held in surplus})
