"""A database port that fails on purpose: answers lost before and after the commit, refused, slow, hints that never leave.

A transaction that is lost runs wholly and is rolled back, so that it holds the locks a real one would have held.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Literal, TypeVar

from broker.objects.faulty import Strike
from catalog.database import CommitUnknown, Database, DatabaseError, Transaction, Unreachable
from schemas.fault_points import FaultRule

T = TypeVar("T")


class _LostError(Exception):
    """Ends a transaction without a commit."""


class FaultyDatabase:
    """The port around another one. Late commits that are still on their way are given up by `close`."""

    def __init__(
        self,
        inner: Database,
        rng: random.Random,
        strike: Strike,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.dialect: Literal["sqlite", "postgresql"] = inner.dialect
        self._inner = inner
        self._rng = rng
        self._strike = strike
        self._sleep = sleep
        self._landing: dict[asyncio.Task[None], None] = {}

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """See the port."""
        subject = subject_of(body)
        await self._before(subject)
        if self._strike("db_request_lost", subject):
            await self._run_and_lose(body)
            raise CommitUnknown(f"{subject}: the connection was lost on purpose, nothing was committed")
        late = self._strike("db_landed_late", subject)
        if late:
            self._land_later(body, self._delay_s(late))
            raise CommitUnknown(f"{subject}: the connection was lost on purpose, the commit lands later")
        result = await self._inner.transact(body, small=small)
        if self._strike("db_reply_lost", subject):
            raise CommitUnknown(f"{subject}: the commit landed and its answer was lost on purpose")
        return result

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port."""
        await self._before(subject_of(body))
        return await self._inner.snapshot(body)

    def version(self) -> Hashable | None:
        """See the port."""
        return self._inner.version()

    async def notify(self, channel: str, payload: str) -> None:
        """See the port: a hint may be lost."""
        if not self._strike("hint_lost", channel):
            await self._inner.notify(channel, payload)

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """See the port."""
        await self._inner.listen(channel, on_payload)

    async def close(self) -> None:
        """See the port."""
        for task in list(self._landing):
            task.cancel()
        await asyncio.gather(*self._landing, return_exceptions=True)
        await self._inner.close()

    def _delay_s(self, rule: FaultRule) -> float:
        return self._rng.uniform(0.0, rule.delay_ms / 1000)

    async def _before(self, subject: str) -> None:
        slow = self._strike("db_slow", subject)
        if slow:
            await self._sleep(self._delay_s(slow))
        if self._strike("db_refused", subject):
            raise Unreachable(f"{subject}: refused on purpose")

    async def _run_and_lose(self, body: Callable[[Transaction], Awaitable[T]]) -> None:
        async def lost(tx: Transaction) -> None:
            await body(tx)
            raise _LostError

        try:
            await self._inner.transact(lost)
        except _LostError:
            pass

    def _land_later(self, body: Callable[[Transaction], Awaitable[T]], delay_s: float) -> None:
        async def land() -> None:
            await self._sleep(delay_s)
            try:
                await self._inner.transact(body)
            except DatabaseError:
                pass  # nobody waits for it: what was refused late is as if it was lost

        task = asyncio.get_running_loop().create_task(land())
        self._landing[task] = None
        task.add_done_callback(lambda done: self._landing.pop(done, None))


def subject_of(body: Callable[..., Any]) -> str:
    """What a transaction is for: the name of the method whose body it is."""
    name = getattr(body, "__qualname__", "") or type(body).__qualname__
    return name.partition(".<locals>")[0]
