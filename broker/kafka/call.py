"""One request on its way through a connection: what a handler reads, and where it leaves the reply. No IO.

A handler is called synchronously and returns one of
- a list of buffers: the response body, at once (an empty list sends nothing: acks=0);
- `PENDING`: it will call `reply` exactly once, later, on the loop;
- a coroutine that ends in one of these two. While it runs, the connection starts nothing behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from broker.kafka.context import Context
    from broker.kafka.registry import Api
    from broker.quotas.charge import Charge

Buffers = list[bytes | bytearray | memoryview]
PENDING: Final = None
NOTHING: Final = memoryview(b"")
"""What a handler leaves in `Call.frame` once it needs the request no more, so that its receive buffer can be used again."""
Reply = Buffers | None | Coroutine[Any, Any, Buffers | None]
Handler = Callable[["Call"], Reply]


class Channel(Protocol):
    """What a call needs of its connection."""

    number: int
    """Of the connection in this process; batches of one connection keep their order."""
    peer: str

    def completed(self, call: Call) -> None:
        """The call has its reply; answers leave in the order of the requests."""
        ...

    def write_now(self) -> None:
        """Let the replies that are ready leave before anything else runs; nothing is started behind them."""
        ...

    def drop(self, reason: str, *, malformed: bool = False) -> None:
        """Close the connection now; the reason goes to the log alone."""
        ...


class Call:
    """One request. `frame` is a view into a receive buffer, with the request's body from `body_at` on."""

    __slots__ = (
        "api",
        "body_at",
        "buffers",
        "channel",
        "charge",
        "context",
        "correlation_id",
        "frame",
        "had_error",
        "started",
        "version",
    )

    def __init__(
        self,
        api: Api,
        version: int,
        correlation_id: int,
        frame: memoryview,
        body_at: int,
        channel: Channel,
        context: Context,
        started: float,
    ) -> None:
        self.api = api
        self.version = version
        self.correlation_id = correlation_id
        self.frame = frame
        self.body_at = body_at
        self.channel = channel
        self.context = context
        self.started = started
        """Monotonic seconds."""
        self.buffers: Buffers | None = None
        self.charge: Charge | None = None
        """The client's account, while a quota is set."""
        self.had_error = False
        """Set by the handler where the reply carries an error code: it counts as another outcome."""

    @property
    def client_id(self) -> str:
        """The client id of the request header; empty where it is null."""
        length = int.from_bytes(self.frame[8:10], "big", signed=True)
        return str(self.frame[10 : 10 + max(length, 0)], "utf-8", "replace")

    @property
    def throttle_ms(self) -> int:
        """What the response says about how long the connection will not be read; asked for when the response is made."""
        return 0 if self.charge is None else self.charge.throttle_ms()

    def reply(self, buffers: Buffers) -> None:
        """The response body; an empty list sends nothing. Called once."""
        self.buffers = buffers
        self.channel.completed(self)

    def fail(self, error: int) -> Buffers:
        """The response that carries `error` wherever this API's response has room for it."""
        self.had_error = True
        return self.api.fail(self, error)
