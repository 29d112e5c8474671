"""A simulated producer: pipelined batches, retries in order on the same or another agent, idempotent or not.

It behaves as the real clients do: at most `in_flight_max` unanswered requests; after a failure nothing new is sent until
every request of the connection is answered or the connection is gone; then everything unanswered is sent again, in order.
When a batch outlives its delivery timeout its outcome stays unknown, and the producer begins anew with a new producer id.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from broker.services import Clock
from neve.simulation import batches
from neve.simulation.history import Ack, History, Key, Message, OrderRefusal, Refusal
from neve.simulation.session import CONNECTION_FAILURES, Dialer, Session
from neve.simulation.wire import INIT_PRODUCER_ID, PRODUCE, Produced

CORRUPT_MESSAGE, INVALID_RECORD = 2, 87
OUT_OF_ORDER, DUPLICATE_SEQUENCE, INVALID_EPOCH = 45, 46, 47
REFUSALS = (CORRUPT_MESSAGE, INVALID_RECORD, 10, 32, 18)
SPOILED_EVERY = 23
IDLE_S = 0.8
"""Longest pause between requests once enough was written and the run only waits for more faults."""


@dataclass(frozen=True)
class ProducerPlan:
    """What one producer does."""

    idempotent: bool
    in_flight_max: int
    records_per_batch_max: int
    batches_per_request_max: int
    request_timeout_s: float
    delivery_timeout_s: float
    pause_s: float
    """Longest pause between two requests."""
    acks: int
    padding_bytes_max: int = 60


@dataclass
class Batch:
    """One batch; its bytes never change, so that a retry is an exact repeat."""

    key: Key
    values: tuple[bytes, ...]
    data: bytes
    first_sent: float
    spoiled: bool
    done: bool = False


@dataclass
class Request:
    """Batches that go together, at most one per partition."""

    batches: list[Batch]

    def left(self) -> list[Batch]:
        """Those without an answer that ends them."""
        return [batch for batch in self.batches if not batch.done]


class Producer:
    """One producer process of one client."""

    def __init__(
        self,
        name: str,
        plan: ProducerPlan,
        dialer: Dialer,
        history: History,
        keys: list[Key],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._client = name
        self._plan = plan
        self._dialer = dialer
        self._history = history
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._incarnation = 0
        self._written = 0
        self.sent = 0
        """Messages so far."""
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._incarnation += 1
        self._name = f"{self._client}.{self._incarnation}"
        self._producer_id = self._producer_epoch = -1
        self._numbers: dict[Key, int] = {}
        self._sequences: dict[Key, int] = {}
        self._again: deque[Request] = deque()
        """To be sent again, oldest first."""
        self._failed: list[Request] = []
        """Failed in this round, oldest first: they go before what is in `_again`."""

    async def run(self, records: int, more: Callable[[], bool]) -> None:
        """Produce until `records` were acknowledged, `more` says no, and nothing is unanswered."""
        self._acked = 0
        self._more = more
        session: Session | None = None
        while self._acked < records or self._again or self._more():
            if session is None or not session.alive:
                session = await self._dialer.connect()
            try:
                if self._plan.idempotent and self._producer_id < 0:
                    await self._init(session)
                if not await self._round(session, records):
                    await asyncio.sleep(self._rng.uniform(0.01, 0.3))
                    if self._rng.random() < 0.5:
                        session.close()
                        session = None
            except CONNECTION_FAILURES:
                self._dialer.leave_home()
                if session is not None:
                    session.abort()
                session = None
                await asyncio.sleep(self._rng.uniform(0.005, 0.1))
            self._give_up_old()
        if session is not None:
            session.close()

    async def _init(self, session: Session) -> None:
        codec = session.codec
        cursor = await session.call(
            INIT_PRODUCER_ID,
            codec.generation.init_producer_id,
            codec.init_producer_id(),
            self._plan.request_timeout_s,
        )
        error, producer_id, epoch = codec.producer_id(cursor)
        if error:
            self._history.told("init_producer_id", error)
            raise ConnectionError(f"InitProducerId error {error}")
        self._producer_id, self._producer_epoch = producer_id, epoch

    async def _round(self, session: Session, records: int) -> bool:
        """Send what is due until a failure or the goal; True where nothing failed. Unanswered requests end in `_again`."""
        window: deque[tuple[Request, asyncio.Future[bytes]]] = deque()
        healthy = True
        try:
            while window or healthy:
                while healthy and len(window) < self._plan.in_flight_max:
                    request = self._next(records, len(window))
                    if request is None:
                        break
                    window.append((request, self._send(session, request)))
                    if self._rng.random() < 0.4:
                        break
                if not window:
                    return healthy
                request, future = window[0]
                cursor = await session.receive(PRODUCE, future, self._plan.request_timeout_s)
                window.popleft()
                answers = session.codec.produced(cursor, session.topics)
                if not self._answered(session, request, answers):
                    healthy = False
                if healthy and not self._again:
                    await self._pause(records)
            return healthy
        finally:
            self._again.extendleft(reversed([*self._failed, *(request for request, _future in window)]))
            self._failed = []

    async def _pause(self, records: int) -> None:
        """Between two requests, while nothing is wrong."""
        pause_s = self._plan.pause_s if self._acked < records else IDLE_S
        if pause_s:
            await asyncio.sleep(self._rng.uniform(0, pause_s))

    def write_into(self, history: History) -> None:
        """What it does from now on belongs to this history; to be called while nothing is unanswered."""
        self._history = history
        self._dialer.write_into(history)

    def _next(self, records: int, in_flight: int) -> Request | None:
        """The oldest request to send again, else a new one, else None where enough was acknowledged."""
        while self._again:
            request = self._again.popleft()
            if request.left():
                return request
        if self._acked + in_flight * self._plan.records_per_batch_max // 2 >= records and not self._more():
            return None
        return self._new_request()

    def _send(self, session: Session, request: Request) -> asyncio.Future[bytes]:
        parts = [(batch.key, batch.data) for batch in request.left()]
        body = session.codec.produce(parts, self._plan.acks, 10_000, session.topics)
        return session.send(PRODUCE, session.codec.generation.produce, body)

    def _new_request(self) -> Request:
        count = self._rng.randint(1, min(self._plan.batches_per_request_max, len(self._keys)))
        return Request([self._new_batch(key) for key in self._rng.sample(self._keys, count)])

    def _new_batch(self, key: Key) -> Batch:
        self._written += 1
        spoiled = not self._plan.idempotent and self._written % SPOILED_EVERY == 0
        count = self._rng.randint(1, self._plan.records_per_batch_max)
        timestamp = self._clock.now_ms()
        first = self._numbers.get(key, 0)
        values = []
        for at in range(count):
            value = f"{self._name}|{key[0]}|{key[1]}|{first + at}|{'!' if spoiled else '.' * self._rng.randrange(self._plan.padding_bytes_max)}"
            ordered = not spoiled and (self._plan.idempotent or self._plan.in_flight_max == 1)
            self._history.sent(
                Message(
                    key,
                    value.encode(),
                    self._name,
                    first + at,
                    timestamp + at,
                    self._plan.idempotent and not spoiled,
                    ordered,
                )
            )
            values.append(value.encode())
        self._numbers[key] = first + count
        self.sent += count
        data = batches.encode(values, timestamp, self._producer_id, self._producer_epoch, self._sequence(key, count))
        if spoiled:
            data[-1] ^= 0x40
        return Batch(key, tuple(values), bytes(data), self._loop.time(), spoiled)

    def _sequence(self, key: Key, count: int) -> int:
        if not self._plan.idempotent:
            return -1
        first = self._sequences.get(key, 0)
        self._sequences[key] = first + count
        return first

    def _answered(self, session: Session, request: Request, answers: dict[Key, Produced]) -> bool:
        """Take the answers; False where a batch has to be sent again."""
        left = request.left()
        assert sorted(answers) == sorted(batch.key for batch in left), "answers must name the partitions asked for"
        healthy = True
        for batch in left:
            answer = answers[batch.key]
            if answer.error == 0:
                batch.done = True
                self._acked += len(batch.values)
                self._history.acked(
                    Ack(
                        self._loop.time(),
                        session.agent,
                        batch.key,
                        batch.values,
                        answer.offset,
                        answer.append_ms,
                        answer.log_start,
                    )
                )
                continue
            self._history.told("produce", answer.error)
            if answer.error in REFUSALS:
                batch.done = True
                self._history.refusals.append(Refusal(self._loop.time(), batch.key, batch.values, answer.error))
                continue
            healthy = False
            if answer.error in (OUT_OF_ORDER, DUPLICATE_SEQUENCE, INVALID_EPOCH) and self._is_oldest(batch):
                self._history.order_refusals.append(
                    OrderRefusal(self._loop.time(), session.agent, batch.key, self._name, answer.error)
                )
        if not healthy:
            self._failed.append(request)
        return healthy

    def _is_oldest(self, batch: Batch) -> bool:
        """True where every earlier batch of the partition was answered well: then nothing excuses a refusal."""
        return not any(each.key == batch.key for request in self._failed for each in request.left())

    def _give_up_old(self) -> None:
        """Past the delivery timeout, or told that its order is broken for good, the producer begins anew."""
        now = self._loop.time()
        left = [batch for request in self._again for batch in request.left()]
        broken = any(refusal.producer == self._name for refusal in self._history.order_refusals)
        if broken or any(now - batch.first_sent > self._plan.delivery_timeout_s for batch in left):
            self._history.given_up += sum(len(batch.values) for batch in left)
            self._begin_anew()
