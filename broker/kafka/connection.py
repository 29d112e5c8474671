"""One client connection: frames in, replies out in the order of the requests, and never more memory than the limits.

How requests overlap: Produce requests are started one after another without waiting for each other's commit (that is
what fills a flush). Any other request waits until everything before it is answered and holds back what comes behind it,
which is what a Kafka broker does with every request: a ListOffsets behind a Produce sees its records, and a client that
asks for a thousand Fetches at once makes one answer at a time.

Invariants:
- replies leave in request order; a reply whose connection has gone is dropped, the append behind it goes on;
- reading stops while a received frame can't be started: too many requests in flight, the peer not reading its replies,
  the writer full (for a connection that produces), or a request that must be alone. What was received but not started
  is at most one receive buffer;
- a malformed, unknown or unserved request closes the connection and tells the peer nothing.

Frames are limited to `preauth_request_max_bytes` before authentication and to `socket_request_max_bytes` after. Without
security configured there is nothing to authenticate with, and clients that were told the broker's version may well begin
with a large Produce: such a connection is trusted as soon as its first eight bytes are the head of a request that is
served. What isn't Kafka at all stays below the smaller limit.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Coroutine
from struct import Struct
from typing import Any, cast

import structlog

from broker.kafka.call import Buffers, Call
from broker.kafka.context import Context
from broker.kafka.registry import Api
from broker.kafka.replies import Replies
from broker.quotas.charge import Charge
from catalog.database import CommitUnknown, Unreachable
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.kafka.framing import FrameError, FrameReader
from schemas.kafka.wire import WireError, skip_tags

log = structlog.get_logger(__name__)

_REQUEST_HEADER = Struct(">hhih")
_FIRST_BYTES = Struct(">ihh")


class Connection(asyncio.BufferedProtocol):
    """The protocol object of one connection; a transport of any loop (or the simulation's) drives it."""

    def __init__(self, context: Context, number: int) -> None:
        self.number = number
        self.peer = "?"
        self.last_active = 0.0
        """Monotonic seconds of the last whole request or reply: bytes alone don't keep a connection alive."""
        self._context = context
        self._settings = context.services.settings
        self._monotonic = context.services.clock.monotonic
        self._writer = context.services.writer
        self._limiter = context.services.quotas.limiter
        self._frames = FrameReader(context.pool, self._settings.preauth_request_max_bytes)
        self._lent: memoryview | None = None
        self._address = ""
        self._admitted = False
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._backlog: deque[memoryview] = deque()
        self._replies = Replies(context.api_statistics, self._write)
        self._calls = self._replies.calls
        self._alone: asyncio.Task[None] | None = None
        self._looked = False
        self._trusted = False
        self._produces = False
        self._tick_scheduled = False
        self._write_paused = False
        self._waits_for_room = False
        self._muted: asyncio.TimerHandle | None = None
        self._reading = True
        self._draining = False
        self._closing = False
        self._descriptor = -1
        self._at_once = False

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, unless the listener's limits refuse it."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self.last_active = self._monotonic()
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple) and len(peername) >= 2:
            self._address = str(peername[0])
            self.peer = f"{peername[0]}:{peername[1]}"
        refusal = self._context.door.admit(self, self._address)
        if refusal is not None:
            self._closing = True
            log.info("connection refused", peer=self.peer, reason=refusal)
            self._transport.abort()
            return
        self._admitted = True
        self._transport.set_write_buffer_limits(high=self._settings.response_buffer_bytes_max)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if transport.get_extra_info("sslcontext") is None:
                self._descriptor = connected.fileno()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        self._lent = self._frames.get_buffer()
        return self._lent

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` arrived in the last buffer."""
        lent, self._lent = self._lent, None
        if self._closing:
            return
        if not self._looked and lent is not None:
            self._look(lent[:nbytes])
        try:
            frames = self._frames.buffer_updated(nbytes)
        except FrameError as error:
            self.drop(str(error), malformed=True)
            return
        self._backlog.extend(frames)
        self._advance()

    def eof_received(self) -> bool:
        """The peer is done sending: close, as Kafka does, even with replies outstanding."""
        self._forget_buffer()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what was not answered. Appends under way go on; their replies come to nothing."""
        self._closing = True
        self._descriptor = -1
        self._cut_short()
        if self._muted is not None:
            self._muted.cancel()
        self._replies.drop()
        self._backlog.clear()
        self._forget_buffer()
        if self._admitted:
            self._admitted = False
            self._context.door.closed(self, self._address)

    def _forget_buffer(self) -> None:
        """The end of a stream is a read that brings nothing: what was lent for it would stay until this object is gone."""
        self._lent = None
        self._frames.close()

    def pause_writing(self) -> None:
        """The peer doesn't read: start nothing more."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._write_paused = False
        self.last_active = self._monotonic()
        self._tick_soon()

    # The listener's side

    @property
    def busy(self) -> bool:
        """True while a request is being worked on, or its client has to wait; a busy connection is never idle."""
        return (bool(self._calls) or self._muted is not None) and not self._closing

    @property
    def closing(self) -> bool:
        """True once the connection is being closed, until it is gone."""
        return self._closing

    def begin_drain(self) -> None:
        """Start nothing more, answer what is in flight, close. A waiting Fetch is cut short: it loses nothing."""
        self._draining = True
        self._cut_short()
        self._tick()

    def drop(self, reason: str, *, malformed: bool = False) -> None:
        """Close once the replies that are ready have left. The reason goes to the log alone."""
        if self._closing:
            return
        self._replies.write_out()
        self._closing = True
        if malformed:
            self._context.statistics.connections_closed_malformed += 1
        log.info("closing connection", peer=self.peer, reason=reason)
        self._pause_reading()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is buffered."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # The handlers' side

    def completed(self, call: Call) -> None:
        """A call has its reply. It is written in this tick where it is the oldest."""
        if self._calls and self._calls[0] is call:
            self._tick_soon()

    def write_now(self) -> None:
        """Let the replies that are ready leave at once: the peer reads them while this process goes on with its books."""
        if not self._closing:
            self._at_once = self._descriptor >= 0
            self._collect()
            self._replies.write_out()
            self._at_once = False

    # Inside

    def _look(self, first: memoryview) -> None:
        """Trust the connection where its first bytes are the head of a request that is served."""
        self._looked = True
        if len(first) >= _FIRST_BYTES.size:
            _, key, version = _FIRST_BYTES.unpack_from(first)
            api = self._context.apis.get(key)
            if api is not None and (api.version_min <= version <= api.version_max or key == ApiKey.API_VERSIONS):
                self._trust()

    def _trust(self) -> None:
        self._trusted = True
        self._frames.frame_bytes_max = self._settings.socket_request_max_bytes

    def _tick_soon(self) -> None:
        if not self._tick_scheduled and not self._closing:
            self._tick_scheduled = True
            assert self._loop is not None
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_scheduled = False
        if not self._closing:
            self._advance()

    def _advance(self) -> None:
        """Write what is answered, start what may be started, and read on only where nothing is left waiting."""
        self._collect()
        backlog = self._backlog
        if not self._draining:
            while backlog and self._may_start() and self._start(backlog[0]):
                backlog.popleft()
            self._collect()
        self._replies.write_out()
        if self._closing:
            return
        if self._produces and self._writer.full:
            self._wait_for_room()
        if self._draining and not self._calls:
            self.drop("draining")
        elif backlog or self._write_paused or self._waits_for_room or self._muted is not None or self._draining:
            self._pause_reading()
        else:
            self._resume_reading()

    def _may_start(self) -> bool:
        """True where the next received request may start, whichever it is."""
        if self._closing or self._alone is not None or self._write_paused or self._muted is not None:
            return False
        return len(self._calls) < self._settings.requests_in_flight_max

    def _start(self, frame: memoryview) -> bool:
        """Start one request; False where it has to wait for those before it, or the connection is being closed."""
        try:
            key, version, correlation_id, client_length = _REQUEST_HEADER.unpack_from(frame)
        except struct.error:
            self.drop(f"a request of {len(frame)} bytes", malformed=True)
            return False
        api = self._context.apis.get(key)
        if api is None:
            self.drop(f"API key {key} isn't served", malformed=True)
            return False
        if self._calls and not (api.overlaps and self._calls[-1].api.overlaps):
            self._collect()
            if self._calls:
                return False
        if api.overlaps and self._writer.full:
            self._wait_for_room()
            return False
        if not api.version_min <= version <= api.version_max:
            return self._refuse_version(api, version, correlation_id, frame)
        body_at = 10 + client_length if client_length > 0 else 10
        if version >= api.flexible_from:
            try:
                body_at = skip_tags(frame, body_at)
            except WireError as error:
                self.drop(str(error), malformed=True)
                return False
        elif body_at > len(frame):
            self.drop(f"a client id of {client_length} bytes in a request of {len(frame)}", malformed=True)
            return False
        if not self._trusted:
            self._trust()
        self._call(api, version, correlation_id, frame, body_at)
        return not self._closing

    def _refuse_version(self, api: Api, version: int, correlation_id: int, frame: memoryview) -> bool:
        """ApiVersions answers a version it doesn't know in the v0 layout; any other API closes the connection."""
        if api.key != ApiKey.API_VERSIONS:
            self.drop(f"{api.name} v{version} isn't served", malformed=True)
            return False
        call = self._new_call(api, 0, correlation_id, frame, len(frame))
        call.buffers = call.fail(ErrorCode.UNSUPPORTED_VERSION)
        self._calls.append(call)
        return True

    def _new_call(self, api: Api, version: int, correlation_id: int, frame: memoryview, body_at: int) -> Call:
        started = self.last_active = self._monotonic()
        return Call(api, version, correlation_id, frame, body_at, self, self._context, started)

    def _call(self, api: Api, version: int, correlation_id: int, frame: memoryview, body_at: int) -> None:
        call = self._new_call(api, version, correlation_id, frame, body_at)
        self._calls.append(call)
        self._produces = api.overlaps
        if self._limiter.active:
            call.charge = self._charge(call)
        try:
            result = api.handle(call)
        except Exception as error:
            self._failed(call, error)
            return
        charge = call.charge
        if charge is not None:
            charge.pause()
        if result is None:
            return
        if isinstance(result, list):
            call.buffers = result
            if self._calls[0] is call:
                self._collect()
        else:
            if not api.overlaps:
                # A request that waits would keep a whole receive buffer from being used again.
                call.frame = memoryview(bytes(frame))
            if charge is not None:
                result = charge.timed(result)
            assert self._loop is not None
            self._alone = self._loop.create_task(self._finish(call, result))

    async def _finish(self, call: Call, waiting: Coroutine[Any, Any, Buffers | None]) -> None:
        """Run an asynchronous handler to its end, alone on this connection."""
        buffers: Buffers | None = None
        try:
            buffers = await waiting
        except Exception as error:
            self._failed(call, error)
        self._alone = None
        if buffers is not None:
            call.buffers = buffers
        self._tick_soon()

    def _charge(self, call: Call) -> Charge:
        """The account of a request; a Produce counts as soon as it has come."""
        charge = Charge(self._limiter, self._monotonic, call.client_id, self._mute)
        if call.api.key == ApiKey.PRODUCE:
            charge.produced(len(call.frame))
        return charge

    def _mute(self, until: float) -> None:
        """Read and start nothing until then (monotonic seconds): the client is above its quota."""
        if self._muted is not None:
            if self._loop_time(until) <= self._muted.when():
                return
            self._muted.cancel()
        assert self._loop is not None
        self._muted = self._loop.call_at(self._loop_time(until), self._unmute)

    def _loop_time(self, moment: float) -> float:
        assert self._loop is not None
        return self._loop.time() + moment - self._monotonic()

    def _unmute(self) -> None:
        self._muted = None
        self._tick_soon()

    def _failed(self, call: Call, error: Exception) -> None:
        """Answer a handler's exception: malformed closes, an unreachable database is retriable, the rest is our bug."""
        if isinstance(error, WireError):
            self.drop(f"{call.api.name} v{call.version}: {error}", malformed=True)
            return
        code = ErrorCode.UNKNOWN_SERVER_ERROR
        if isinstance(error, Unreachable | CommitUnknown):
            code = ErrorCode.REQUEST_TIMED_OUT
            log.warning("request can't be answered now", api=call.api.name, peer=self.peer, reason=str(error))
        else:
            self._context.statistics.handler_failures += 1
            log.error("request failed", api=call.api.name, version=call.version, peer=self.peer, exc_info=error)
        try:
            call.buffers = call.fail(code)
        except Exception as unanswerable:
            self.drop(f"{call.api.name} v{call.version} failed and can't say so: {unanswerable!r}")
            return
        self._tick_soon()

    def _collect(self) -> None:
        """Move the replies that are ready, oldest first, to what is written next."""
        calls = self._calls
        if calls and calls[0].buffers is not None:
            self.last_active = now = self._monotonic()
            self._replies.collect(now)

    def _write(self, buffers: Buffers) -> None:
        if self._closing or self._transport is None:
            return
        if self._at_once and self._transport.get_write_buffer_size() == 0:
            buffers = _send(self._descriptor, buffers)
            if not buffers:
                return
        self._transport.writelines(buffers)

    def _cut_short(self) -> None:
        """End a waiting request that may be ended (a long poll); others finish in their own time."""
        if self._alone is not None and self._calls and self._calls[0].api.interruptible:
            self._alone.cancel()
            self._alone = None
            self._replies.drop()

    def _wait_for_room(self) -> None:
        if not self._waits_for_room:
            self._waits_for_room = True
            self._writer.when_room(self._room_again)

    def _room_again(self) -> None:
        self._waits_for_room = False
        self._tick_soon()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()


def _send(descriptor: int, buffers: Buffers) -> Buffers:
    """Hand the buffers to the kernel past the transport, which would wait for the end of this step of the loop.

    Returns what the kernel didn't take; a failure is left to the transport, which meets it again.
    """
    data = b"".join(buffers)
    try:
        sent = os.write(descriptor, data)
    except OSError:
        return buffers
    return [memoryview(data)[sent:]] if sent < len(data) else []
