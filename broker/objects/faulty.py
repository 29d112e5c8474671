"""A store that fails on purpose, from a seed: for the simulation, for staging and for tests of everything above it.

The faults are those that object stores are known for; each one that fires is counted, because a fault that never fires
proves nothing. Works in virtual time: it waits through the `sleep` it is given.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, fields

from broker.objects.keys import check_key
from broker.objects.port import AlreadyExists, Buffer, ObjectInfo, ObjectStore, OutcomeUnknown, Unavailable


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How likely each fault is per call (0 to 1), and how long the slow ones take."""

    refused: float = 0.0
    """Fails before any effect."""
    lost_reply: float = 0.0
    """A put or delete is applied, and its answer is lost."""
    late: float = 0.0
    """A put's answer is lost, and it is applied after a while."""
    dropped: float = 0.0
    """A put's answer is lost, and it is never applied."""
    truncated: float = 0.0
    """A get returns fewer bytes than it should, without saying so."""
    flipped: float = 0.0
    """A get returns a body with one bit changed."""
    slow: float = 0.0
    """A call takes a while before it begins."""
    broken_list: float = 0.0
    """A listing fails before one of its pages."""
    delay_ms_max: int = 1_000
    """The longest "while"."""

    @classmethod
    def everything(cls, chance: float, delay_ms_max: int = 1_000) -> FaultPlan:
        """Every fault with the same chance."""
        return cls(**dict.fromkeys(FAULTS, chance), delay_ms_max=delay_ms_max)


FAULTS = tuple(found.name for found in fields(FaultPlan) if found.name != "delay_ms_max")


class FaultyStore:
    """The object port with faults. `fired` counts them by name; `plan` may be replaced while it runs (heal the store)."""

    def __init__(
        self,
        inner: ObjectStore,
        rng: random.Random,
        plan: FaultPlan,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._rng = rng
        self.plan = plan
        self._sleep = sleep
        self.fired: dict[str, int] = dict.fromkeys(FAULTS, 0)
        # a dict, because a set of tasks has no order
        self._landing: dict[asyncio.Task[None], None] = {}

    def __repr__(self) -> str:
        return f"FaultyStore({self._inner!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port."""
        check_key(key)  # before a fault hides a bug of the caller
        await self._before(f"writing {key}")
        if self._fires("dropped"):
            raise OutcomeUnknown(f"writing {key}: the request was lost on the way")
        if self._fires("late"):
            # the caller may use its buffers again after the failure, the request on the wire keeps its bytes
            self._land_later(key, b"".join(parts), if_absent)
            raise OutcomeUnknown(f"writing {key}: no answer, it lands later")
        await self._inner.put(key, parts, if_absent=if_absent)
        if self._fires("lost_reply"):
            raise OutcomeUnknown(f"writing {key}: landed, the answer was lost")

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return 0

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port: never here."""
        return False

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port."""
        await self._before(f"reading {key}")
        body = await self._inner.get(key, start, length)
        if body and self._fires("truncated"):
            body = body[: self._rng.randrange(len(body))]
        if body and self._fires("flipped"):
            changed = bytearray(body)
            changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
            body = bytes(changed)
        return body

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        await self._before(f"looking at {key}")
        return await self._inner.head(key)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        try:
            await self._before("deleting")
        except Unavailable:
            return []
        gone = await self._inner.delete(keys)
        return [] if gone and self._fires("lost_reply") else gone

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port."""
        await self._before(f"listing {prefix!r}")
        async for page in self._inner.list(prefix):
            if self._fires("broken_list"):
                raise Unavailable(f"listing {prefix!r}: broke off")
            yield page

    async def settled(self) -> None:
        """Return when every late write has landed or failed."""
        while self._landing:
            await asyncio.gather(*self._landing, return_exceptions=True)

    async def close(self) -> None:
        """Writes still on their way are lost."""
        for task in list(self._landing):
            task.cancel()
        await self.settled()
        await self._inner.close()

    def _fires(self, fault: str) -> bool:
        # without a chance nothing is drawn, so that adding a fault doesn't change the seeds of plans without it
        chance: float = getattr(self.plan, fault)
        if chance <= 0.0 or self._rng.random() >= chance:
            return False
        self.fired[fault] += 1
        return True

    def _delay_s(self) -> float:
        return self._rng.uniform(0.0, self.plan.delay_ms_max / 1000)

    async def _before(self, doing: str) -> None:
        if self._fires("slow"):
            await self._sleep(self._delay_s())
        if self._fires("refused"):
            raise Unavailable(f"{doing}: refused on purpose")

    def _land_later(self, key: str, body: bytes, if_absent: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._land(key, body, if_absent, self._delay_s()))
        self._landing[task] = None
        task.add_done_callback(lambda done: self._landing.pop(done, None))

    async def _land(self, key: str, body: bytes, if_absent: bool, delay_s: float) -> None:
        await self._sleep(delay_s)
        try:
            await self._inner.put(key, [body], if_absent=if_absent)
        except AlreadyExists:
            pass  # a further attempt was there first
