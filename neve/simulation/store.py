"""A simulated object store shared by all agents of a cluster, and each agent's way to it.

A request travels, takes effect at the store, and its answer travels back; the effect belongs to no host, so a PUT of an
agent that was killed or gave up can still land. Faults: refused (503), stored or not stored with the answer lost, landed
late, landed torn, slow, a truncated and a bit-flipped GET, a DELETE that is refused, done in part or not confirmed, a LIST
that is refused.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar
from zlib import crc32

from broker.objects.memory import MemoryStore
from broker.objects.port import Buffer, Corrupt, NeverNow, ObjectInfo, ObjectStore, OutcomeUnknown, Unavailable
from catalog.sqlite_statements import drive
from neve.simulation.faults import Faults
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop

T = TypeVar("T")


class World:
    """Where effects take place that no host owns: services beside the agents. One per run."""

    def __init__(self, loop: SimLoop, rng: random.Random, faults: Faults) -> None:
        self.loop = loop
        self.rng = rng
        self.faults = faults
        self.closed = False
        self.after_effect: Callable[[Host], None] = lambda _host: None
        """Called when a write of a host took effect and its answer hasn't left: the nemesis' best moment."""
        self.stand_still: Callable[[Host | None], float] = lambda _host: 0.0
        """Called when a coordinator's write leaves its host: that host stops, and the write arrives this many seconds later."""
        self.on_delete: Callable[[Sequence[str]], None] = lambda _keys: None
        """Called before objects are deleted, for the watch over deletions."""

    def ask(self, effect: Callable[[], T], there_s: float, back_s: float, *, write: bool = False) -> asyncio.Future[T]:
        """A future of `effect`'s result: it runs after `there_s`, whatever becomes of the caller; answered after `back_s`."""
        future: asyncio.Future[T] = self.loop.create_future()
        host = HOST.get()

        def arrive() -> None:
            if self.closed:
                return
            try:
                result = effect()
            except Exception as error:  # handed to the caller, as a real client library would
                self._answer(future, host, back_s, future.set_exception, error)
            else:
                self._answer(future, host, back_s, future.set_result, result)
                if write and host is not None:
                    self.after_effect(host)

        self.loop.call_later(there_s, arrive, context=self.loop.world)
        return future

    def _answer(
        self, future: asyncio.Future[T], host: Host | None, back_s: float, resolve: Callable[..., None], value: object
    ) -> None:
        def answered() -> None:
            if not future.done() and (host is None or host.alive):
                resolve(value)

        self.loop.call_later(back_s, answered, context=self.loop.world)

    def at_some_time(self, effect: Callable[[], object], delay_s: float) -> None:
        """Let an effect take place later, with nobody waiting for it; what it raises is nobody's."""

        def arrive() -> None:
            if not self.closed:
                try:
                    effect()
                except Exception:
                    pass

        self.loop.call_later(delay_s, arrive, context=self.loop.world)

    def uniform(self, bounds: tuple[float, float]) -> float:
        """A seeded number of seconds."""
        return self.rng.uniform(*bounds)


SLOW_S = (1.0, 8.0)
LATE_S = (0.5, 15.0)


class SimStore(NeverNow):
    """The object port of one agent over the shared `MemoryStore`."""

    def __init__(self, world: World, shared: MemoryStore, latency_s: tuple[float, float] = (0.002, 0.03)) -> None:
        self._world = world
        self._shared: ObjectStore = shared
        self._latency_s = latency_s

    def _delay(self, slow: str) -> float:
        delay = self._world.uniform(self._latency_s)
        return delay + (self._world.uniform(SLOW_S) if self._world.faults.take(slow) else 0.0)

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port. Also watches that the caller doesn't change the buffers while they are sent."""
        take = self._world.faults.take
        there, back = self._delay("put_slow"), self._world.uniform(self._latency_s)
        if take("put_refused"):
            await asyncio.sleep(there)
            raise Unavailable("simulated 503 SlowDown")
        body = b"".join(parts)
        if take("put_lost_unknown"):
            await asyncio.sleep(there)
            raise OutcomeUnknown("simulated timeout; the object was not stored")
        if take("put_landed_late"):
            self._world.at_some_time(
                lambda: drive(self._shared.put(key, [body], if_absent=if_absent)), self._world.uniform(LATE_S)
            )
            await asyncio.sleep(there)
            raise OutcomeUnknown("simulated timeout; the object lands later")
        if take("put_torn"):
            torn = body[: self._world.rng.randrange(len(body))]
            await self._world.ask(lambda: drive(self._shared.put(key, [torn], if_absent=if_absent)), there, back)
            if self._world.rng.random() < 0.5:
                raise Unavailable("simulated 500; something else stands under the name")
            raise OutcomeUnknown("simulated timeout; something else stands under the name")
        unknown = take("put_landed_unknown")
        await self._world.ask(
            lambda: drive(self._shared.put(key, [body], if_absent=if_absent)), there, back, write=True
        )
        assert crc32(b"".join(parts)) == crc32(body), "the agent changed a buffer while it was uploaded"
        if unknown:
            raise OutcomeUnknown("simulated timeout; the object was stored")

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port."""
        take = self._world.faults.take
        there, back = self._delay("get_slow"), self._world.uniform(self._latency_s)
        if take("get_refused"):
            await asyncio.sleep(there)
            raise Unavailable("simulated 503 SlowDown")
        body = await self._world.ask(lambda: drive(self._shared.get(key, start, length)), there, back)
        if body and take("get_truncated"):
            raise Corrupt(f"simulated short body: {self._world.rng.randrange(len(body))} of {len(body)} bytes")
        if body and take("get_flipped"):
            flipped = bytearray(body)
            flipped[self._world.rng.randrange(len(flipped))] ^= 1 << self._world.rng.randrange(8)
            return bytes(flipped)
        return body

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        there, back = self._delay("get_slow"), self._world.uniform(self._latency_s)
        if self._world.faults.take("get_refused"):
            await asyncio.sleep(there)
            raise Unavailable("simulated 503 SlowDown")
        return await self._world.ask(lambda: drive(self._shared.head(key)), there, back)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        there, back = self._world.uniform(self._latency_s), self._world.uniform(self._latency_s)
        if self._world.faults.take("delete_refused"):
            await asyncio.sleep(there)
            raise Unavailable("simulated 503 SlowDown")
        some = list(keys)
        if self._world.faults.take("delete_partial"):
            some = [key for key in keys if self._world.rng.random() < 0.5]

        def effect() -> list[str]:
            self._world.on_delete(some)
            return drive(self._shared.delete(some))

        gone = await self._world.ask(effect, there, back, write=True)
        if self._world.faults.take("delete_unconfirmed"):
            return [key for key in gone if self._world.rng.random() < 0.5]
        return gone

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port: pages as they are at the moment they are asked for."""
        await asyncio.sleep(self._world.uniform(self._latency_s))
        if self._world.faults.take("list_refused"):
            raise Unavailable("simulated 503 SlowDown")
        async for page in self._shared.list(prefix):
            yield page
            await asyncio.sleep(self._world.uniform(self._latency_s))

    async def close(self) -> None:
        """Nothing to release."""
