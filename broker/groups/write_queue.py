"""Writes of this agent's coordinators on their way to the database: in order, several in one transaction.

Invariants: writes take effect in the order they were submitted, one transaction at a time, so a write whose outcome is
unknown may be sent again; every write is answered with a Kafka code, within `group_write_deadline_ms` of its turn;
NOT_COORDINATOR says for certain that nothing was written.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

from broker.services import Clock
from catalog.database import CommitUnknown, DatabaseError, Unreachable
from catalog.groups import GroupStore, GroupWrite
from schemas.kafka.errors import ErrorCode
from schemas.settings import Settings

log = structlog.get_logger(__name__)

RETRY_S = 0.1
Waiting = tuple[GroupWrite, "asyncio.Future[int]"]


class GroupWriteQueue:
    """`run` belongs to the agent's supervisor."""

    def __init__(self, store: GroupStore, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._waiting: deque[Waiting] = deque()
        self._flight: list[Waiting] = []
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._nothing.set()
        self._failed = False

    def submit(self, write: GroupWrite) -> asyncio.Future[int]:
        """Take over a write; its future gets a Kafka code and never an exception."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._failed or len(self._waiting) >= self._settings.group_writes_queued_max:
            future.set_result(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            return future
        self._waiting.append((write, future))
        self._nothing.clear()
        self._something.set()
        return future

    async def drained(self) -> None:
        """Wait until every write has its answer."""
        await self._nothing.wait()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._something.wait()
            count = min(len(self._waiting), self._settings.group_writes_max)
            self._flight = [self._waiting.popleft() for _ in range(count)]
            await self._write(self._flight)
            self._flight = []
            if not self._waiting:
                self._something.clear()
                self._nothing.set()

    def fail_all(self) -> None:
        """The agent can't go on: nobody waits for what can't come."""
        self._failed = True
        for _, future in (*self._flight, *self._waiting):
            _answer(future, ErrorCode.COORDINATOR_NOT_AVAILABLE)
        self._waiting.clear()
        self._nothing.set()

    async def _write(self, flight: list[Waiting]) -> None:
        deadline_s = self._clock.monotonic() + self._settings.group_write_deadline_ms / 1000
        refused = ErrorCode.NOT_COORDINATOR
        while True:
            try:
                done = await self._store.apply([write for write, _ in flight])
            except (Unreachable, CommitUnknown) as error:
                if isinstance(error, CommitUnknown):
                    # If the slot is gone by the next try, this one may have been written while it wasn't.
                    refused = ErrorCode.COORDINATOR_NOT_AVAILABLE
                if self._clock.monotonic() < deadline_s:
                    await asyncio.sleep(RETRY_S)
                    continue
                log.warning("group writes given up", writes=len(flight), error=str(error))
                for _, future in flight:
                    _answer(future, ErrorCode.COORDINATOR_NOT_AVAILABLE)
            except DatabaseError as error:
                await self._after_refusal(flight, error)
            else:
                for (_, future), held in zip(flight, done, strict=True):
                    _answer(future, ErrorCode.NONE if held else refused)
            return

    async def _after_refusal(self, flight: list[Waiting], error: DatabaseError) -> None:
        """The database refuses the transaction: find the write it refuses, so that the others aren't lost with it."""
        if len(flight) > 1:
            for one in flight:
                await self._write([one])
            return
        [(write, future)] = flight
        log.error("a group write was refused", group=write.group_id, error=str(error))
        _answer(future, ErrorCode.UNKNOWN_SERVER_ERROR)


def _answer(future: asyncio.Future[int], error: int) -> None:
    if not future.done():
        future.set_result(error)
