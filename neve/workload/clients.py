"""The workload's clients: those of the simulation, over real connections, paced."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from neve.simulation.assignor import COOPERATIVE, RANGE
from neve.simulation.consumer import ConsumerPlan
from neve.simulation.group_wire import GroupCodec
from neve.simulation.history import History
from neve.simulation.member import MemberPlan
from neve.simulation.producer import Producer, ProducerPlan
from neve.simulation.session import Address, Dialer
from neve.simulation.wire import CLASSIC, FLEXIBLE

MIB = 1024 * 1024
TIMEOUT_S = 10.0
RECORDS_PER_BATCH_MAX = 40
BEHIND_S_MAX = 0.1
"""A writer that was held up doesn't make up for more than this."""


class PacedProducer(Producer):
    """A producer that sends `rate()` records a second, as long as it is answered."""

    rate: Callable[[], float]
    _due_s = 0.0
    _paced = 0

    async def _pause(self, records: int) -> None:
        now_s = self._loop.time()
        sent = self.sent
        self._due_s = max(self._due_s, now_s - BEHIND_S_MAX) + (sent - self._paced) / self.rate()
        self._paced = sent
        if self._due_s > now_s:
            await asyncio.sleep(self._due_s - now_s)


def dialer(
    client: str, seed: str, history: History, agents: Sequence[Address], topic: str, *, flexible: bool
) -> Dialer:
    """How one client finds agents: each begins at a chance one, and goes to another after a failure."""
    return Dialer(
        asyncio.get_running_loop(),
        random.Random(f"{seed} dialer {client}"),
        history,
        client,
        GroupCodec(FLEXIBLE if flexible else CLASSIC),
        agents,
        [topic],
        stray_share=0.1,
        timeout_s=TIMEOUT_S,
        named=lambda address: f"{address[0]}:{address[1]}",
    )


def producer_plan(delivery_s: float, value_bytes_max: int) -> ProducerPlan:
    """An idempotent producer with five requests in flight, as real clients have."""
    return ProducerPlan(
        idempotent=True,
        in_flight_max=5,
        records_per_batch_max=RECORDS_PER_BATCH_MAX,
        batches_per_request_max=4,
        request_timeout_s=TIMEOUT_S,
        delivery_timeout_s=delivery_s,
        pause_s=0.0,
        acks=-1,
        padding_bytes_max=value_bytes_max,
    )


CONSUMER = ConsumerPlan(
    max_wait_ms=500,
    max_bytes=8 * MIB,
    partition_max_bytes=MIB,
    request_timeout_s=TIMEOUT_S,
    move_share=0.01,
    listing_share=0.02,
)


def member_plan(group: str, *, cooperative: bool) -> MemberPlan:
    """A member that comes and goes: the group rebalances every few seconds."""
    return MemberPlan(
        group=group,
        protocol=COOPERATIVE if cooperative else RANGE,
        static=False,
        session_ms=6_000,
        rebalance_ms=10_000,
        patient=True,
        request_timeout_s=TIMEOUT_S,
        life_s=(10.0, 40.0),
        gap_s=(0.2, 3.0),
        leave_share=0.7,
        commit_share=0.5,
        stall_share=0.0,
        slow_share=0.0,
        late_share=0.0,
        fetch_bytes=MIB,
    )
