"""Counts and times what goes through: one observation per request to the store, with its outcome.

Lies inside of the retries, so that each attempt is seen; the retries themselves are counted apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from broker.objects.port import (
    AlreadyExists,
    Buffer,
    Corrupt,
    NotFound,
    ObjectInfo,
    ObjectStore,
    OutcomeUnknown,
    Refused,
    Unavailable,
)

T = TypeVar("T")
OPERATIONS = ("put", "get", "head", "delete", "list")
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OUTCOMES: dict[type[BaseException], str] = {
    AlreadyExists: "already_exists",
    NotFound: "not_found",
    Unavailable: "unavailable",
    Refused: "refused",
    OutcomeUnknown: "outcome_unknown",
    Corrupt: "corrupt",
    asyncio.CancelledError: "cancelled",
}


class ObjectMetrics:
    """The metrics of a process's object store; made once per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.operations = Counter(
            "neve_object_operations", "Requests to the object store.", ["operation", "outcome"], registry=registry
        )
        seconds = Histogram(
            "neve_object_operation_seconds",
            "Time of a request to the object store, whatever its outcome.",
            ["operation"],
            buckets=BUCKETS,
            registry=registry,
        )
        bytes_total = Counter(
            "neve_object_bytes", "Bytes of successful puts and gets.", ["operation"], registry=registry
        )
        retries = Counter(
            "neve_object_retries", "Further attempts after a failed one.", ["operation"], registry=registry
        )
        self.ok = {operation: self.operations.labels(operation, "ok") for operation in OPERATIONS}
        self.seconds = {operation: seconds.labels(operation) for operation in OPERATIONS}
        self.bytes = {operation: bytes_total.labels(operation) for operation in ("put", "get")}
        self.retries = {operation: retries.labels(operation) for operation in OPERATIONS}

    def retried(self, operation: str) -> None:
        """For RetryingStore."""
        self.retries[operation].inc()


class InstrumentedStore:
    """The object port, observed. `monotonic` gives seconds."""

    def __init__(self, inner: ObjectStore, metrics: ObjectMetrics, monotonic: Callable[[], float]) -> None:
        self._inner = inner
        self._metrics = metrics
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"InstrumentedStore({self._inner!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port."""
        await self._observed("put", self._inner.put(key, parts, if_absent=if_absent))
        self._metrics.bytes["put"].inc(sum(len(part) for part in parts))

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return self._inner.now_bytes_max

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port. Observed where it stored, or failed, the object."""
        began = self._monotonic()
        try:
            stored = self._inner.put_now(key, parts)
        except BaseException as error:
            self._ended("put", began, error)
            raise
        if stored:
            self._ended("put", began)
            self._metrics.bytes["put"].inc(sum(map(len, parts)))
        return stored

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port."""
        body = await self._observed("get", self._inner.get(key, start, length))
        self._metrics.bytes["get"].inc(len(body))
        return body

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        return await self._observed("head", self._inner.head(key))

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port. Keys that were not confirmed count as one unavailable request."""
        gone = await self._observed("delete", self._inner.delete(keys))
        if len(gone) < len(keys):
            self._metrics.operations.labels("delete", "unavailable").inc()
        return gone

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port. Each page is one request."""
        pages = self._inner.list(prefix)
        while (page := await self._observed("list", anext(pages, None))) is not None:
            yield page

    async def close(self) -> None:
        """Close the inner store."""
        await self._inner.close()

    async def _observed(self, operation: str, work: Awaitable[T]) -> T:
        began = self._monotonic()
        try:
            result = await work
        except BaseException as error:
            self._ended(operation, began, error)
            raise
        self._ended(operation, began)
        return result

    def _ended(self, operation: str, began: float, error: BaseException | None = None) -> None:
        metrics = self._metrics
        if error is None:
            metrics.ok[operation].inc()
        else:
            metrics.operations.labels(operation, _OUTCOMES.get(type(error), "error")).inc()
        metrics.seconds[operation].observe(self._monotonic() - began)
