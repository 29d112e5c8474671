"""An in-memory network for `SimLoop`: seeded latency and chunking, resets, lost bytes, half-open connections, partitions.

Addresses are (host name, port). A server listens on the host that calls `create_server`; a connection is made from the
host that calls `create_connection`. Lost bytes end in a reset, as TCP would have it: bytes between two ends are delivered
in order and once, or the connection breaks.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from typing import Any

from neve.simulation.faults import Faults
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop
from neve.simulation.transport import SimSocket, SimTransport

CONNECT_TIMEOUT_S = 3.0
LATENCY_SPIKE_S = (0.2, 2.5)
EPHEMERAL_PORT = 40_000


class SimServer(asyncio.AbstractServer):
    """A listening socket of one host."""

    def __init__(self, network: SimNetwork, host: Host, port: int, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self.host, self.port, self.factory = host, port, factory
        self.context = contextvars.copy_context()
        self._network = network
        self._serving = True

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        """The one listening socket."""
        return (SimSocket((self.host.name, self.port), ("", 0)),) if self._serving else ()

    def close(self) -> None:
        """Refuse new connections; open ones stay."""
        self._serving = False
        self._network.unlisten(self)

    def close_clients(self) -> None:
        """Close every connection to this server."""
        for end in self._network.ends_of(self.host):
            end.close()

    def abort_clients(self) -> None:
        """Abort every connection to this server."""
        for end in self._network.ends_of(self.host):
            end.abort()

    def get_loop(self) -> Any:
        """The loop."""
        return self._network.loop

    def is_serving(self) -> bool:
        """True until closed."""
        return self._serving

    async def start_serving(self) -> None:
        """Serving begins with creation."""

    async def serve_forever(self) -> None:
        """Wait until cancelled."""
        await self._network.loop.create_future()

    async def wait_closed(self) -> None:
        """Closing is immediate."""


class SimNetwork:
    """The network. All randomness comes from `rng`; all faults from `faults`."""

    def __init__(
        self,
        loop: SimLoop,
        rng: random.Random,
        faults: Faults,
        *,
        latency_s: tuple[float, float] = (0.0002, 0.004),
        cut_share: float = 0.2,
        window_bytes: int = 64 * 1024,
    ) -> None:
        self.loop = loop
        self.window_bytes = window_bytes
        loop.network = self
        self._rng = rng
        self._faults = faults
        self._latency_s = latency_s
        self._cut_share = cut_share
        self._servers: dict[tuple[str, int], SimServer] = {}
        self._ends: dict[SimTransport, None] = {}
        self._partitions: dict[tuple[str, str], int] = {}
        self._port = EPHEMERAL_PORT

    # What transports ask

    def later(self, callback: Callable[..., object], *args: Any) -> None:
        """Run a callback of the world after one network latency."""
        self.loop.call_later(self._latency(), callback, *args, context=self.loop.world)

    def _latency(self) -> float:
        low, high = self._latency_s
        delay = self._rng.uniform(low, high)
        if self._faults.take("latency"):
            delay += self._rng.uniform(*LATENCY_SPIKE_S)
        return delay

    def cut(self, count: int) -> int:
        """How many of `count` bytes go in one piece."""
        if count > 1 and self._rng.random() < self._cut_share:
            return self._rng.randint(1, count - 1)
        return max(count, 1)

    def strikes(self, end: SimTransport, *, toward_server: bool) -> bool:
        """True where a fault takes the bytes that `end` is about to send."""
        if self._faults.take("half_open"):
            end.silent = end.peer.silent = True
            end.want_pump()
            return True
        if self._faults.take("request_lost" if toward_server else "reply_lost"):
            self.reset(end)
            return True
        return False

    def forget(self, end: SimTransport) -> None:
        """The end is gone."""
        self._ends.pop(end, None)

    def is_partitioned(self, first: str, second: str) -> bool:
        """True while no bytes pass between the two hosts."""
        return self._partitions.get(_pair(first, second), 0) > 0

    # What the nemesis does

    def reset(self, end: SimTransport) -> None:
        """Break a connection at both ends; bytes on the way are lost."""
        for each in (end, end.peer):
            each.lose(ConnectionResetError("connection reset by the simulated network"))

    def reset_one(self) -> bool:
        """Break a connection picked at random; False where there is none."""
        ends = [end for end in self._ends if not end.silent]
        if not ends:
            return False
        self.reset(self._rng.choice(ends))
        return True

    def reset_silent(self, role: str) -> None:
        """Break the half-open connections of some hosts, as keepalives do in the end."""
        for end in [end for end in self._ends if end.silent and end.host.name.startswith(role)]:
            self.reset(end)

    def partition(self, first: str, second: str) -> None:
        """Let nothing pass between two hosts (counted: as many heals undo it)."""
        pair = _pair(first, second)
        self._partitions[pair] = self._partitions.get(pair, 0) + 1

    def heal(self, first: str, second: str) -> None:
        """Undo one `partition`; what waited is sent."""
        pair = _pair(first, second)
        self._partitions[pair] = self._partitions.get(pair, 0) - 1
        for end in list(self._ends):
            end.want_pump()

    def host_died(self, host: Host) -> None:
        """The dead host's sockets are closed by its kernel: peers see a reset, new connections are refused."""
        for server in [each for each in self._servers.values() if each.host is host]:
            self.unlisten(server)
        for end in self.ends_of(host):
            self.forget(end)
            end.lost = True
            self.later(end.peer.lose, ConnectionResetError(f"{host.name} died"))

    def shut(self) -> None:
        """End of the run: every connection is gone and nobody is told."""
        for end in self._ends:
            end.lost = True
        self._ends.clear()
        self._servers.clear()

    def ends_of(self, host: Host) -> list[SimTransport]:
        """Open connection ends on one host."""
        return [end for end in self._ends if end.host is host]

    # What the loop asks

    def unlisten(self, server: SimServer) -> None:
        """Free the address."""
        if self._servers.get((server.host.name, server.port)) is server:
            del self._servers[(server.host.name, server.port)]

    async def create_server(
        self, factory: Callable[[], asyncio.BaseProtocol], _host: object, port: int | None, **_options: object
    ) -> SimServer:
        """Listen on the calling host; port 0 or None takes a free one."""
        host = _here()
        number = port or self._free_port()
        if (host.name, number) in self._servers:
            raise OSError(98, f"{host.name}:{number} is in use")
        server = SimServer(self, host, number, factory)
        self._servers[(host.name, number)] = server
        return server

    async def create_connection(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **_options: object
    ) -> tuple[SimTransport, asyncio.BaseProtocol]:
        """Connect from the calling host. Raises ConnectionRefusedError, or TimeoutError through a partition."""
        here = _here()
        await asyncio.sleep(self._latency())
        if self.is_partitioned(here.name, host):
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise TimeoutError(f"{host}:{port} can't be reached")
        server = self._servers.get((host, int(port)))
        if server is None:
            raise ConnectionRefusedError(111, f"{host}:{port} refused the connection")
        near, near_protocol = self._connect(server, here, factory)
        await asyncio.sleep(self._latency())
        near.made()
        return near, near_protocol

    def _connect(
        self, server: SimServer, here: Host, factory: Callable[[], asyncio.BaseProtocol]
    ) -> tuple[SimTransport, asyncio.BaseProtocol]:
        near_name, far_name = (here.name, self._free_port()), (server.host.name, server.port)
        protocol = factory()
        context = contextvars.copy_context()
        near = SimTransport(self, here, near_name, far_name, protocol, context, toward_server=True)
        far_protocol = server.context.copy().run(server.factory)
        far_context = server.context.copy()
        far = SimTransport(self, server.host, far_name, near_name, far_protocol, far_context, toward_server=False)
        near.peer, far.peer = far, near
        self._ends[near] = self._ends[far] = None
        self.loop.call_soon(far.made, context=far_context)
        return near, protocol

    def _free_port(self) -> int:
        self._port += 1
        return self._port


def _pair(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first <= second else (second, first)


def _here() -> Host:
    host = HOST.get()
    assert host is not None, "only a host can use the network"
    return host
