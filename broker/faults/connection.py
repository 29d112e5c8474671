"""A client connection that fails on purpose: cut, requests swallowed, answers lost or late.

Staging agents accept these in place of plain ones; each request is one chance for each point. What is held back is bounded:
nothing is started behind a reply that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.kafka.call import NOTHING, Buffers, Call
from broker.kafka.connection import Connection
from broker.kafka.context import Context
from broker.kafka.registry import Api
from broker.objects.faulty import Strike


class FaultyConnection(Connection):
    """A connection with faults."""

    def __init__(self, context: Context, number: int, strike: Strike) -> None:
        super().__init__(context, number)
        self._strike = strike
        self._newest: Call | None = None
        self._doomed: Call | None = None
        """Its reply is not sent: the connection is cut instead."""
        self._slowed: tuple[Call, float] | None = None
        """Its reply leaves so many seconds late."""
        self._held: Buffers = []
        self._timers: list[asyncio.TimerHandle] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """See Connection."""
        for timer in self._timers:
            timer.cancel()
        self._held.clear()
        super().connection_lost(exc)

    def _may_start(self) -> bool:
        return not self._held and super()._may_start()

    def _new_call(self, api: Api, version: int, correlation_id: int, frame: memoryview, body_at: int) -> Call:
        self._newest = super()._new_call(api, version, correlation_id, frame, body_at)
        return self._newest

    def _call(self, api: Api, version: int, correlation_id: int, frame: memoryview, body_at: int) -> None:
        subject = f"{api.name} {self._address}"
        if self._strike("connection_cut", subject):
            self.abort()
            return
        lost = self._strike("request_lost", subject)
        if lost:
            call = self._new_call(api, version, correlation_id, frame, body_at)
            call.frame = NOTHING
            self._calls.append(call)
            self._later(lost.delay_ms / 1000, self.abort)
            return
        super()._call(api, version, correlation_id, frame, body_at)
        if self._strike("reply_lost", subject):
            self._doomed = self._newest
        late = self._strike("reply_delayed", subject)
        if late and self._newest is not None:
            self._slowed = self._newest, late.delay_ms / 1000

    def _write(self, buffers: Buffers) -> None:
        if self._doomed is not None and self._doomed not in self._calls:
            self.abort()
        elif self._held:
            self._held.extend(buffers)
        elif self._slowed is not None and self._slowed[0] not in self._calls:
            delay_s, self._slowed = self._slowed[1], None
            self._held = list(buffers)
            self._later(delay_s, self._release)
        else:
            super()._write(buffers)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        assert self._loop is not None
        self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
        self._timers.append(self._loop.call_later(delay_s, act))

    def _release(self) -> None:
        held, self._held = self._held, []
        if not self._closing:
            super()._write(held)
            self._tick_soon()
