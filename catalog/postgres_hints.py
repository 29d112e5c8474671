"""Hints between processes over LISTEN/NOTIFY, on one connection of their own that reconnects by itself.

Hints may be lost: nothing may depend on them but latency.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from catalog.postgres_statements import CONNECTION_LOST

PAYLOAD_BYTES_MAX = 7_999
_RECONNECT_FIRST_S = 0.1
_RECONNECT_MAX_S = 5.0
_PROBE_S = 10.0


class Hints:
    """One connection, opened at the first `notify` or `listen`."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._ended = asyncio.Event()
        self._lock = asyncio.Lock()
        self._listeners: list[tuple[str, Callable[[str], None]]] = []
        self._watch: asyncio.Task[None] | None = None
        self._closed = False
        self.lost = 0

    async def notify(self, channel: str, payload: str) -> None:
        """Send one hint, or count it as lost."""
        if len(payload.encode()) > PAYLOAD_BYTES_MAX:
            raise ValueError(f"a hint of {len(payload)} characters exceeds {PAYLOAD_BYTES_MAX} bytes")
        try:
            async with self._lock:
                connection = await self._connected()
                await connection.execute("SELECT pg_notify($1, $2)", channel, payload)
        except (*CONNECTION_LOST, asyncpg.PostgresError):
            self.lost += 1

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """Register and start listening; a server that is down now is tried again."""
        self._listeners.append((channel, on_payload))
        with contextlib.suppress(*CONNECTION_LOST, asyncpg.PostgresError):
            async with self._lock:
                fresh = self._connection is None or self._connection.is_closed()
                connection = await self._connected()
                if not fresh:
                    await self._add(connection, channel, on_payload)
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_connected(), name="postgres-hints")

    async def close(self) -> None:
        """Stop listening and close the connection."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._connection is not None:
            self._connection.terminate()

    async def _connected(self) -> Any:
        if self._closed:
            raise asyncpg.InterfaceError("closed")
        if self._connection is None or self._connection.is_closed():
            connection = await self._connect()
            for channel, on_payload in self._listeners:
                await self._add(connection, channel, on_payload)
            self._ended = ended = asyncio.Event()
            connection.add_termination_listener(lambda _connection: ended.set())
            self._connection = connection
        return self._connection

    async def _add(self, connection: Any, channel: str, on_payload: Callable[[str], None]) -> None:
        await connection.add_listener(channel, lambda _connection, _pid, _channel, payload: on_payload(payload))

    async def _keep_connected(self) -> None:
        """Probe now and then, so that a dead connection is noticed, and reconnect with growing pauses."""
        pause_s = _RECONNECT_FIRST_S
        while True:
            try:
                async with self._lock:
                    connection = await self._connected()
                    await connection.execute("SELECT 1")
                pause_s = _RECONNECT_FIRST_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _PROBE_S)
            except (*CONNECTION_LOST, asyncpg.PostgresError):
                if self._connection is not None:
                    self._connection.terminate()
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RECONNECT_MAX_S)
