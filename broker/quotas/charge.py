"""What one request costs its client: bytes, and time on the loop. Made only while a quota is set.

A request over its quota is answered at once, with the time that its connection will not be read (KIP-219); a Fetch is
answered empty, and what it would have brought isn't counted. Produce is counted when it arrives: its answer waits for the
commit, and what arrives until then would come on top; the answer tells what is left of the time.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from broker.quotas.entities import FETCH, PRODUCE, REQUEST
from broker.quotas.limiter import Limiter

T = TypeVar("T")


class Charge:
    """The account of one request. `mute` stops reading the connection until a moment (monotonic seconds)."""

    __slots__ = ("_began", "_client_id", "_counted", "_limiter", "_monotonic", "_mute", "_spent", "_until")

    def __init__(
        self, limiter: Limiter, monotonic: Callable[[], float], client_id: str, mute: Callable[[float], None]
    ) -> None:
        self._limiter = limiter
        self._monotonic = monotonic
        self._client_id = client_id
        self._mute = mute
        self._began: float | None = monotonic()
        """None while the handler waits."""
        self._spent = 0.0
        """Seconds on the loop before `_began`."""
        self._counted = False
        self._until = 0.0

    def produced(self, size: int) -> None:
        """A Produce request of so many bytes has arrived."""
        self._use(PRODUCE, size)

    def fetch_bytes_max(self, wanted: int) -> int:
        """How many bytes a Fetch may look for: more would never be let through."""
        most = self._limiter.most_at_once(FETCH, self._client_id)
        return wanted if most is None else min(wanted, most)

    def fetched(self, size: int) -> bool:
        """A Fetch has found so many bytes. False where it has to be answered without them."""
        self._use(FETCH, size)
        if not self.throttle_ms():
            return True
        self._limiter.give_back(FETCH, self._client_id, size, self._monotonic() * 1000)
        return False

    def throttle_ms(self) -> int:
        """How long the connection will not be read from now on; what the answer says. Counts the request's time, once."""
        if not self._counted:
            self._counted = True
            if self._limiter.limits(REQUEST):
                running = self._began is not None
                self.pause()
                self._use(REQUEST, 100 * self._spent)
                if running:
                    self.resume()
        return max(round((self._until - self._monotonic()) * 1000), 0) if self._until else 0

    def pause(self) -> None:
        """The handler has given the loop back."""
        if self._began is not None:
            self._spent += self._monotonic() - self._began
            self._began = None

    def resume(self) -> None:
        """The handler runs again."""
        self._began = self._monotonic()

    @types.coroutine
    def timed(self, handler: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Run a handler to its end, counting only the time that it runs."""
        sent: Any = None
        error: BaseException | None = None
        while True:
            self.resume()
            try:
                waits_for = handler.send(sent) if error is None else handler.throw(error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                self.pause()
            sent, error = None, None
            try:
                sent = yield waits_for
            except BaseException as thrown:  # cancellation is the handler's business
                error = thrown

    def _use(self, quota: str, amount: float) -> None:
        now = self._monotonic()
        wait_ms = self._limiter.used(quota, self._client_id, amount, now * 1000)
        until = now + wait_ms / 1000
        if wait_ms and until > self._until:
            self._until = until
            self._mute(until)
