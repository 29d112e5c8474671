"""Tries again, within bounds, and finds out what became of a write.

Invariant, and the reason for this file: **"already exists", a timeout or a 5xx is not "stored"**. After each of them the
object is looked at: the same length and CRC-32C mean stored, other content means that somebody else has the name
(AlreadyExists), absent means that the same name is tried again, which put-if-absent makes safe even when the first
attempt lands late. A write that may have landed is never reported as merely Unavailable.

Every attempt has a deadline and so has the whole operation; the time between attempts grows, with jitter. Clock, sleep
and randomness come from outside.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

import crc32c

from broker.objects.port import (
    AlreadyExists,
    Buffer,
    Corrupt,
    NotFound,
    ObjectInfo,
    ObjectStore,
    ObjectStoreError,
    OutcomeUnknown,
    Unavailable,
)

T = TypeVar("T")


class MonotonicClock(Protocol):
    """What is needed of the agent's clock."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


@dataclass(frozen=True, slots=True)
class RetryLimits:
    """Bounds of one operation: attempts, time of one attempt, time of all together, and the wait between them."""

    attempts: int = 4
    attempt_timeout_ms: int = 10_000
    deadline_ms: int = 30_000
    backoff_ms: int = 50
    backoff_max_ms: int = 2_000

    def __post_init__(self) -> None:
        assert self.attempts > 0
        assert 0 < self.backoff_ms <= self.backoff_max_ms


class Found(Enum):
    """What stands under a name after an attempt to write it."""

    OURS = "ours"
    OTHER = "other"
    ABSENT = "absent"


class RetryingStore:
    """The object port with retries. `retried` is told the operation's name before each further attempt."""

    def __init__(
        self,
        inner: ObjectStore,
        clock: MonotonicClock,
        rng: random.Random,
        limits: RetryLimits,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        retried: Callable[[str], None] | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._sleep = sleep
        self._retried = retried

    def __repr__(self) -> str:
        return f"RetryingStore({self._inner!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port. AlreadyExists here means other content under that name; OutcomeUnknown, that it may yet land."""
        attempts = _Attempts(self, "put")
        uncertain: ObjectStoreError | None = None
        while await attempts.next():
            try:
                write = self._inner.put(key, parts, if_absent=if_absent)
                return await attempts.bounded(write, OutcomeUnknown, f"writing {key}")
            except OutcomeUnknown as error:
                uncertain = error
            except AlreadyExists:
                uncertain = OutcomeUnknown(f"writing {key}: the name is taken, and what holds it could not be compared")
            except Unavailable as error:
                attempts.failed(error)
                continue
            except ObjectStoreError as error:
                # this attempt was refused for good; an earlier one may have landed all the same
                raise uncertain or error from error
            if not if_absent:
                continue
            try:
                found = await self._look(key, parts, attempts)
            except (Unavailable, Corrupt):
                continue
            if found is Found.OURS:
                return None
            if found is Found.OTHER:
                raise AlreadyExists(key)
        raise uncertain or attempts.error

    async def _look(self, key: str, parts: Sequence[Buffer], attempts: _Attempts) -> Found:
        """Compare what stands under `key` with what was to be written."""
        try:
            head = await attempts.bounded(self._inner.head(key), Unavailable, f"looking at {key}")
            if head.bytes != sum(len(part) for part in parts):
                return Found.OTHER
            body = await attempts.bounded(self._inner.get(key), Unavailable, f"looking at {key}")
        except NotFound:
            return Found.ABSENT
        if len(body) != head.bytes:
            return Found.OTHER
        return Found.OURS if crc32c.crc32c(body) == _crc(parts) else Found.OTHER

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return self._inner.now_bytes_max

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port. Whatever went wrong is for `put` to settle, under the same name."""
        try:
            return self._inner.put_now(key, parts)
        except ObjectStoreError:
            return False

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port. Corrupt only when every attempt came back short."""
        return await self._read("get", lambda: self._inner.get(key, start, length), f"reading {key}")

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        return await self._read("head", lambda: self._inner.head(key), f"reading {key}")

    async def _read(self, operation: str, read: Callable[[], Awaitable[T]], doing: str) -> T:
        attempts = _Attempts(self, operation)
        while await attempts.next():
            try:
                return await attempts.bounded(read(), Unavailable, doing)
            except (Unavailable, Corrupt) as error:
                attempts.failed(error)
        raise attempts.error

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port. Only what wasn't confirmed is asked for again."""
        attempts = _Attempts(self, "delete")
        gone: dict[str, None] = {}
        rest = list(keys)
        while rest and await attempts.next():
            try:
                confirmed = await attempts.bounded(self._inner.delete(rest), Unavailable, "deleting")
            except ObjectStoreError as error:
                attempts.failed(error)
                continue
            gone.update(dict.fromkeys(confirmed))
            rest = [key for key in rest if key not in gone]
            attempts.failed(Unavailable("not every key was confirmed as deleted"))
        return [key for key in keys if key in gone]

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port. A listing that broke off is begun again and goes on behind the last key that was handed out."""
        attempts = _Attempts(self, "list")
        last = ""
        while await attempts.next():
            pages = self._inner.list(prefix)
            try:
                while True:
                    page = await attempts.bounded(anext(pages, None), Unavailable, f"listing {prefix!r}")
                    if page is None:
                        return
                    fresh = [info for info in page if info.key > last]
                    if fresh:
                        last = fresh[-1].key
                        yield fresh
            except (Unavailable, Corrupt) as error:
                attempts.failed(error)
        raise attempts.error

    async def close(self) -> None:
        """Close the inner store."""
        await self._inner.close()


class _Attempts:
    """The attempts of one operation: counted, each within its time and all within the deadline, with waits between."""

    def __init__(self, store: RetryingStore, operation: str) -> None:
        self._store = store
        self._operation = operation
        self._made = 0
        self._began = store._clock.monotonic()
        self.error: ObjectStoreError = Unavailable(f"{operation}: no attempt was made")

    def failed(self, error: ObjectStoreError) -> None:
        """Remember why, for when there is no further attempt."""
        self.error = error

    async def next(self) -> bool:
        """True when an attempt may begin now; waits first where it is not the first."""
        limits, store = self._store._limits, self._store
        if self._made == 0:
            self._made = 1
            return True
        if self._made >= limits.attempts:
            return False
        ceiling_ms = min(limits.backoff_max_ms, limits.backoff_ms << (self._made - 1))
        wait = store._rng.uniform(ceiling_ms / 2, ceiling_ms) / 1000
        if wait >= self._left():
            return False
        if store._retried is not None:
            store._retried(self._operation)
        await store._sleep(wait)
        self._made += 1
        return True

    async def bounded(self, work: Awaitable[T], late: type[ObjectStoreError], doing: str) -> T:
        """The outcome of `work`, or `late` when its time is over."""
        seconds = min(self._store._limits.attempt_timeout_ms / 1000, self._left())
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise late(f"{doing}: no answer within {seconds * 1000:.0f} ms") from None

    def _left(self) -> float:
        """Seconds until the operation's deadline."""
        return self._began + self._store._limits.deadline_ms / 1000 - self._store._clock.monotonic()


def _crc(parts: Sequence[Buffer]) -> int:
    checksum = 0
    for part in parts:
        checksum = crc32c.crc32c(part, checksum)
    return checksum
