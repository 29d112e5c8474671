"""A store that fails on purpose: for staging and for tests of everything above it.

What strikes is decided outside (`broker.faults.table`, by the points of `schemas.fault_points`); here is what it does. The
faults are those that object stores are known for. Works in virtual time: it waits through the `sleep` it is given.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from broker.objects.keys import check_key
from broker.objects.port import AlreadyExists, Buffer, Corrupt, ObjectInfo, ObjectStore, OutcomeUnknown, Unavailable
from schemas.fault_points import POINTS, FaultRule

Strike = Callable[[str, str], FaultRule | None]
"""(point, subject) -> the rule that strikes."""
PUT_POINTS = tuple(name for name in POINTS if name.startswith("put_"))


class FaultyStore:
    """The object port with faults. `armed` says whether there are rules for a point at all."""

    def __init__(
        self,
        inner: ObjectStore,
        rng: random.Random,
        strike: Strike,
        armed: Callable[[str], bool] = lambda _point: True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._rng = rng
        self._strike = strike
        self._armed = armed
        self._sleep = sleep
        # a dict, because a set of tasks has no order
        self._landing: dict[asyncio.Task[None], None] = {}

    def __repr__(self) -> str:
        return f"FaultyStore({self._inner!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port."""
        check_key(key)  # before a fault hides a bug of the caller
        strike = self._strike
        await self._slow("put_slow", key)
        if strike("put_refused", key):
            raise Unavailable(f"writing {key}: refused on purpose")
        if strike("put_vanished", key):
            return
        if strike("put_lost_unknown", key):
            raise OutcomeUnknown(f"writing {key}: the request was lost on the way, on purpose")
        late = strike("put_landed_late", key)
        if late:
            # the caller may use its buffers again after the failure, the request on the wire keeps its bytes
            self._land_later(key, b"".join(parts), if_absent, self._delay_s(late))
            raise OutcomeUnknown(f"writing {key}: no answer, it lands later, on purpose")
        if strike("put_torn", key):
            await self._tear(key, b"".join(parts), if_absent)
        await self._inner.put(key, parts, if_absent=if_absent)
        if strike("put_landed_unknown", key):
            raise OutcomeUnknown(f"writing {key}: landed, the answer was lost on purpose")

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return self._inner.now_bytes_max

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port: not where a fault may strike, which `put` finds out."""
        return not any(map(self._armed, PUT_POINTS)) and self._inner.put_now(key, parts)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port."""
        await self._before_get(key)
        body = await self._inner.get(key, start, length)
        if body and self._strike("get_truncated", key):
            raise Corrupt(f"reading {key}: {self._rng.randrange(len(body))} of {len(body)} bytes came, on purpose")
        if body and self._strike("get_flipped", key):
            changed = bytearray(body)
            changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
            body = bytes(changed)
        return body

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        await self._before_get(key)
        return await self._inner.head(key)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        subject = keys[0] if keys else ""
        if self._strike("delete_refused", subject):
            return []
        some = keys
        if self._strike("delete_partial", subject):
            some = self._half(keys)
        gone = await self._inner.delete(some)
        return self._half(gone) if gone and self._strike("delete_unconfirmed", subject) else gone

    def _half(self, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if self._rng.random() < 0.5]

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port."""
        if self._strike("list_refused", prefix):
            raise Unavailable(f"listing {prefix!r}: refused on purpose")
        async for page in self._inner.list(prefix):
            yield page
            if self._strike("list_refused", prefix):
                raise Unavailable(f"listing {prefix!r}: broke off on purpose")

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

    def _delay_s(self, rule: FaultRule) -> float:
        return self._rng.uniform(0.0, rule.delay_ms / 1000)

    async def _slow(self, point: str, key: str) -> None:
        rule = self._strike(point, key)
        if rule:
            await self._sleep(self._delay_s(rule))

    async def _before_get(self, key: str) -> None:
        await self._slow("get_slow", key)
        if self._strike("get_refused", key):
            raise Unavailable(f"reading {key}: refused on purpose")

    async def _tear(self, key: str, body: bytes, if_absent: bool) -> None:
        if body:
            await self._inner.put(key, [body[: self._rng.randrange(len(body))]], if_absent=if_absent)
        if self._rng.random() < 0.5:
            raise Unavailable(f"writing {key}: failed half-way, on purpose")
        raise OutcomeUnknown(f"writing {key}: no answer, half of it is there, on purpose")

    def _land_later(self, key: str, body: bytes, if_absent: bool, delay_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._land(key, body, if_absent, delay_s))
        self._landing[task] = None
        task.add_done_callback(lambda done: self._landing.pop(done, None))

    async def _land(self, key: str, body: bytes, if_absent: bool, delay_s: float) -> None:
        await self._sleep(delay_s)
        try:
            await self._inner.put(key, [body], if_absent=if_absent)
        except AlreadyExists:
            pass  # a further attempt was there first
