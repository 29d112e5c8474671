"""One simulated TCP connection: two ends with FIFO pipes between them.

What is written stays a reference until it is moved (as uvloop keeps it), is cut at seeded places, and is delivered to a
`Protocol` or a `BufferedProtocol` on the receiving host. An event never carries bytes: it only says "pump" or "deliver".
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from neve.simulation.hosts import Host

if TYPE_CHECKING:
    from neve.simulation.network import SimNetwork

Buffer = bytes | bytearray | memoryview
SNDBUF_BYTES = 64 * 1024
DELIVERIES_PER_CALL = 64


class SimSocket:
    """What `get_extra_info('socket')` answers: options are taken and forgotten."""

    def __init__(self, name: tuple[str, int], peer: tuple[str, int]) -> None:
        self._name, self._peer = name, peer

    def setsockopt(self, *_options: object) -> None:
        """Ignored."""

    def fileno(self) -> int:
        """None: what is written goes through the transport."""
        return -1

    def getsockname(self) -> tuple[str, int]:
        """(host name, port)."""
        return self._name

    def getpeername(self) -> tuple[str, int]:
        """(host name, port) of the other end."""
        return self._peer


class SimTransport(asyncio.Transport):
    """One end of a connection. `toward_server` is True at the client's end."""

    def __init__(
        self,
        network: SimNetwork,
        host: Host,
        name: tuple[str, int],
        peer_name: tuple[str, int],
        protocol: asyncio.BaseProtocol,
        context: contextvars.Context,
        *,
        toward_server: bool,
    ) -> None:
        super().__init__()
        self.host = host
        self.peer: SimTransport
        self.lost = False
        self.silent = False
        self._network = network
        self._loop = network.loop
        self._protocol = protocol
        self._context = context
        self._toward_server = toward_server
        self._info = {"sockname": name, "peername": peer_name, "socket": SimSocket(name, peer_name)}
        self._outbox: deque[memoryview] = deque()
        self._out_bytes = 0
        self._inbox: deque[bytes] = deque()
        self._in_bytes = 0
        self._pumping = self._delivering = False
        self._reading = True
        self._made = False
        self._closing = False
        self._eof_in = self._eof_seen = self._eof_sent = False
        self._high, self._low = SNDBUF_BYTES, SNDBUF_BYTES // 4
        self._writing_paused = False

    # asyncio's surface

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """sockname, peername, socket."""
        return self._info.get(name, default)

    def is_closing(self) -> bool:
        """True once closed, aborted or lost."""
        return self._closing or self.lost

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        self._protocol = protocol

    def is_reading(self) -> bool:
        """False while reading is paused."""
        return self._reading and not self.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing until resume_reading; the peer feels it once the pipe is full."""
        self._reading = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self._reading = True
        self._want_delivery()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bounds at which the protocol is told to pause and resume writing."""
        self._high = SNDBUF_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Bytes written and not yet moved."""
        return self._out_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._low, self._high

    def write(self, data: Buffer) -> None:
        """Queue `data`; the bytes are read when they are moved, so they must not change before that."""
        if self.is_closing() or not len(data):
            return
        self._outbox.append(memoryview(data).cast("B"))
        self._out_bytes += len(data)
        if self._out_bytes > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        self.want_pump()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Queue several buffers."""
        for data in list_of_data:
            self.write(data)

    def can_write_eof(self) -> bool:
        """Half-closing isn't simulated."""
        return False

    def close(self) -> None:
        """Stop reading, send what is queued, then close."""
        if self.is_closing():
            return
        self._closing = True
        if self._outbox:
            self.want_pump()
        else:
            self._finish()

    def abort(self) -> None:
        """Drop everything; the peer sees a reset."""
        if self.lost:
            return
        self._closing = True
        self.lose(None)
        if not self.silent:
            self._network.later(self.peer.lose, ConnectionResetError("connection reset by the simulated peer"))

    # The pipe to the peer; runs in the world, on no host

    def want_pump(self) -> None:
        """Move bytes after the network's latency."""
        if not self._pumping and (self._outbox or (self._closing and not self._eof_sent)):
            self._pumping = True
            self._network.later(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if self.lost and not self._closing:
            return
        if self.silent:
            self._drop_outbox()
            self._after_move()
            return
        if self._network.is_partitioned(self.host.name, self.peer.host.name) or not self.host.alive:
            return
        if self._outbox and self._network.strikes(self, toward_server=self._toward_server):
            return
        room = self._network.window_bytes - self.peer._in_bytes
        if room <= 0:
            return
        self._move(min(room, self._network.cut(self._out_bytes)))
        self._after_move()

    def _move(self, count_max: int) -> None:
        moved = 0
        while self._outbox and moved < count_max:
            view = self._outbox.popleft()
            part = view[: count_max - moved]
            if len(part) < len(view):
                self._outbox.appendleft(view[len(part) :])
            if not self.peer.lost:
                self.peer._inbox.append(bytes(part))
                self.peer._in_bytes += len(part)
            moved += len(part)
        self._out_bytes -= moved
        self.peer._want_delivery()

    def _after_move(self) -> None:
        if self._writing_paused and self._out_bytes <= self._low and not self.lost:
            self._writing_paused = False
            self._on_host(self._resume_writing)
        if self._outbox:
            self.want_pump()
        elif self._closing:
            self._finish()

    def _resume_writing(self) -> None:
        if not self.lost:
            self._protocol.resume_writing()

    def _drop_outbox(self) -> None:
        self._outbox.clear()
        self._out_bytes = 0

    def _finish(self) -> None:
        """Everything was sent after close(): FIN to the peer, connection_lost here."""
        if self._eof_sent:
            return
        self._eof_sent = True
        if not self.silent:
            self.peer._eof_in = True
            self._network.later(self.peer._want_delivery)
        self.lose(None)

    # Delivery on this host

    def made(self) -> None:
        """Tell the protocol of its transport, then deliver."""
        self._made = True
        if not self.lost:
            self._guard(self._protocol.connection_made, self)
            self._want_delivery()

    def _want_delivery(self) -> None:
        due = self._inbox or (self._eof_in and not self._eof_seen)
        if due and self._made and self._reading and not self._delivering and not self.is_closing():
            self._delivering = True
            self._on_host(self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        for _turn in range(DELIVERIES_PER_CALL):
            if not self._inbox or not self._reading or self.is_closing():
                break
            self._guard(self._deliver_one)
        if self.is_closing():
            return
        if not self.peer.lost or self.peer._closing:
            self.peer.want_pump()
        if not self._inbox and self._eof_in and not self._eof_seen and self._reading:
            self._eof_seen = True
            if not self._guard(self._protocol.eof_received):  # type: ignore[attr-defined]
                self.close()
        else:
            self._want_delivery()

    def _deliver_one(self) -> None:
        chunk = self._inbox.popleft()
        if isinstance(self._protocol, asyncio.BufferedProtocol):
            buffer = memoryview(self._protocol.get_buffer(-1)).cast("B")
            count = min(len(buffer), len(chunk))
            assert count > 0, "get_buffer() answered an empty buffer"
            buffer[:count] = chunk[:count]
            buffer.release()
            if count < len(chunk):
                self._inbox.appendleft(chunk[count:])
            self._in_bytes -= count
            self._protocol.buffer_updated(count)
        else:
            self._in_bytes -= len(chunk)
            self._protocol.data_received(chunk)  # type: ignore[attr-defined]

    def _guard(self, callback: Any, *args: Any) -> Any:
        """Run a protocol callback as asyncio's transports do: an exception is reported and ends the connection."""
        try:
            return callback(*args)
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": "a protocol callback failed", "exception": error, "protocol": self._protocol}
            )
            self.abort()
            return None

    def lose(self, error: Exception | None) -> None:
        """This end is gone: drop what is queued and call connection_lost once."""
        if self.lost:
            return
        self.lost = True
        self._drop_outbox()
        self._inbox.clear()
        self._in_bytes = 0
        self._network.forget(self)
        self._on_host(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        if not self._made:
            self._made = True
            self._protocol.connection_made(self)
        self._protocol.connection_lost(error)

    def _on_host(self, callback: Any, *args: Any) -> None:
        self._loop.call_soon(callback, *args, context=self._context)
