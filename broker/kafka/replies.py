"""The requests of one connection that are under way, oldest first, and the reply bytes that are ready to leave. No IO.

Invariant: reply bytes are made in the order of the requests, whichever is answered first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from struct import Struct

from broker.kafka.call import Buffers, Call
from broker.kafka.statistics import ApiStatistics

_HEADER = Struct(">ii")
_HEADER_TAGGED = Struct(">iib")
WRITE_THROUGH_BYTES = 256 * 1024
"""Replies gathered in one go are handed to the transport at this many bytes, so that it can say stop."""
JOIN_BYTES = 4096
"""A reply of one buffer below this is joined to its header: one buffer less for the kernel."""


class Replies:
    """`write` takes the buffers of whole replies; `calls` is the queue, to which the connection appends."""

    __slots__ = ("_bytes", "_out", "_statistics", "_write", "calls")

    def __init__(self, statistics: Mapping[int, ApiStatistics], write: Callable[[Buffers], None]) -> None:
        self.calls: deque[Call] = deque()
        self._statistics = statistics
        self._write = write
        self._out: Buffers = []
        self._bytes = 0

    def collect(self, now: float) -> None:
        """Move the replies that are ready, oldest first, to what is written next. `now` in monotonic seconds."""
        calls = self.calls
        statistics = self._statistics
        while calls:
            call = calls[0]
            body = call.buffers
            if body is None:
                break
            calls.popleft()
            statistics[call.api.key].answered(now - call.started, call.had_error)
            if not body:
                continue
            size = sum(map(len, body))
            if call.version >= call.api.tagged_response_from:
                head = _HEADER_TAGGED.pack(size + 5, call.correlation_id, 0)
            else:
                head = _HEADER.pack(size + 4, call.correlation_id)
            if len(body) == 1 and size < JOIN_BYTES:
                self._out.append(head + body[0])
            else:
                self._out.append(head)
                self._out.extend(body)
            self._bytes += size
            if self._bytes >= WRITE_THROUGH_BYTES:
                self.write_out()

    def write_out(self) -> None:
        """Hand over what was collected."""
        if self._out:
            out, self._out, self._bytes = self._out, [], 0
            self._write(out)

    def drop(self) -> None:
        """Forget every request that is under way, and what was collected: nobody will read it."""
        for call in self.calls:
            self._statistics[call.api.key].dropped += 1
        self.calls.clear()
        self._out.clear()
        self._bytes = 0
