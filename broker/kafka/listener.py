"""The Kafka listener: accepts connections within the limits, sweeps idle ones, drains.

One timer for all connections looks for idle ones, every tenth of `connections_max_idle_ms`: a connection is idle when
no request is in flight and neither a whole request came nor a reply left for that long, so that a peer that trickles a
frame byte by byte doesn't stay for ever. A connection that is being closed but whose peer doesn't read is aborted by
the next sweep.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from broker.kafka.connection import Connection
from broker.kafka.connection_bounds import ConnectionBounds
from broker.kafka.context import Context
from broker.kafka.registry import served_apis
from broker.kafka.statistics import FrontStatistics
from broker.services import Services
from schemas.kafka.receive_pool import ReceivePool

SWEEPS_PER_IDLE_TIME = 10


class Listener:
    """One listening address and its connections. `make_connection` is the protocol factory, for other loops too."""

    def __init__(
        self,
        services: Services,
        statistics: FrontStatistics | None = None,
        connection: Callable[[Context, int], Connection] = Connection,
    ) -> None:
        self.statistics = statistics or FrontStatistics()
        self._services = services
        self._connection = connection
        self._bounds = ConnectionBounds(services)
        pool = ReceivePool(services.settings.receive_pool_bytes_max)
        self._context = Context(services, served_apis(), self.statistics, door=self, pool=pool)
        self._connections: dict[int, Connection] = {}
        self._per_address: dict[str, int] = {}
        self._next_number = 1
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False

    def make_connection(self) -> Connection:
        """The protocol of the next connection."""
        number = self._next_number
        self._next_number += 1
        return self._connection(self._context, number)

    async def start(self, host: str, port: int, *, backlog: int = 1024) -> tuple[str, int]:
        """Listen; returns the address bound (port 0 asks for a free one). Raises OSError where it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.make_connection, host, port, family=socket.AF_UNSPEC, backlog=backlog, reuse_address=True
        )
        self.begin_sweeping()
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    def begin_sweeping(self) -> None:
        """Start the timer that closes idle connections; `start` does it, a loop without `create_server` calls it itself."""
        delay_s = self._services.settings.connections_max_idle_ms / 1000 / SWEEPS_PER_IDLE_TIME
        self._sweep = asyncio.get_running_loop().call_later(delay_s, self._sweep_idle)

    def begin_drain(self) -> None:
        """Accept nothing more; connections finish what is in flight and close. Idempotent."""
        if self._draining:
            return
        self._draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.begin_drain()

    async def drained(self, timeout_ms: int) -> bool:
        """Wait for every connection to be gone; False where some are still there after `timeout_ms`."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Close everything now. Call `begin_drain` and `drained` first for a clean end."""
        self._draining = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.abort()
        await self._empty.wait()
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    # What connections call

    def admit(self, connection: Connection, address: str) -> str | None:
        """None where the connection may stay, else the reason for closing it."""
        most, most_per_ip = self._bounds.now()
        refusal = None
        if self._draining:
            refusal = "the agent is shutting down"
        elif len(self._connections) >= most:
            refusal = f"max_connections ({most}) are open; raise it or close some"
        elif self._per_address.get(address, 0) >= most_per_ip:
            refusal = f"max_connections_per_ip ({most_per_ip}) are open from this address"
        if refusal is not None:
            self.statistics.connections_refused += 1
            return refusal
        self._connections[connection.number] = connection
        self._per_address[address] = self._per_address.get(address, 0) + 1
        self._empty.clear()
        self.statistics.connections_accepted += 1
        self.statistics.connections_open = len(self._connections)
        return None

    def closed(self, connection: Connection, address: str) -> None:
        """A connection has gone."""
        del self._connections[connection.number]
        self.statistics.connections_open = len(self._connections)
        left = self._per_address[address] - 1
        if left:
            self._per_address[address] = left
        else:
            del self._per_address[address]
        if not self._connections:
            self._empty.set()

    def _sweep_idle(self) -> None:
        now = self._services.clock.monotonic()
        idle_s = self._services.settings.connections_max_idle_ms / 1000
        for connection in list(self._connections.values()):
            if connection.closing:
                connection.abort()
            elif not connection.busy and now - connection.last_active > idle_s:
                self.statistics.connections_closed_idle += 1
                connection.drop(f"idle for more than {idle_s:g} s")
        self.begin_sweeping()
