"""One simulated client's connection to one agent: pipelined requests, answers in order, timeouts that end the connection."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence

from neve.simulation.history import History
from neve.simulation.wire import API_VERSIONS, METADATA, Codec, Cursor, TopicMetadata

Address = tuple[str, int]
CONNECTION_FAILURES = (ConnectionError, TimeoutError, OSError)


class Link(asyncio.Protocol):
    """The protocol: frames in, futures out. Kafka answers a connection's requests in order, and this one insists on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.transport: asyncio.Transport
        self.lost = False
        self._loop = loop
        self._data = bytearray()
        self._waiting: deque[tuple[int, asyncio.Future[bytes]]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Cut frames and answer the oldest request with each."""
        self._data += data
        while len(self._data) >= 4:
            size = int.from_bytes(self._data[:4], "big")
            if len(self._data) < 4 + size:
                return
            frame = bytes(self._data[4 : 4 + size])
            del self._data[: 4 + size]
            assert self._waiting, "an answer to no request"
            correlation_id, future = self._waiting.popleft()
            assert int.from_bytes(frame[:4], "big") == correlation_id, "answers out of order"
            if not future.done():
                future.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits."""
        self.lost = True
        for _correlation_id, future in self._waiting:
            if not future.done():
                future.set_exception(exc or ConnectionResetError("the agent closed the connection"))
                future.exception()
        self._waiting.clear()

    def send(self, correlation_id: int, frame: bytes, *, answered: bool = True) -> asyncio.Future[bytes]:
        """Send a frame; the future is its answer."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        if self.lost:
            future.set_exception(ConnectionResetError("the connection is gone"))
            future.exception()
            return future
        if answered:
            self._waiting.append((correlation_id, future))
        else:
            future.set_result(b"")
        self.transport.write(frame)
        return future


class Session:
    """A connection with the client's codec and what it knows of the topics."""

    def __init__(self, name: str, agent: str, link: Link, codec: Codec) -> None:
        self.name = name
        """Unique per connection."""
        self.agent = agent
        self.codec = codec
        self.topics: dict[str, TopicMetadata] = {}
        self._link = link
        self._correlation = 0

    @property
    def alive(self) -> bool:
        """False once lost."""
        return not self._link.lost

    def send(self, api: int, version: int, body: bytes, *, answered: bool = True) -> asyncio.Future[bytes]:
        """Send a request without waiting."""
        self._correlation += 1
        return self._link.send(
            self._correlation, self.codec.frame(api, version, self._correlation, body), answered=answered
        )

    async def receive(self, api: int, future: asyncio.Future[bytes], timeout_s: float) -> Cursor:
        """Wait for an answer. After `timeout_s` the connection is given up, as clients do, and TimeoutError raised."""
        try:
            async with asyncio.timeout(timeout_s):
                frame = await future
        except TimeoutError:
            self.abort()
            raise
        return self.codec.answer(api, frame)

    async def call(self, api: int, version: int, body: bytes, timeout_s: float) -> Cursor:
        """Send and wait."""
        return await self.receive(api, self.send(api, version, body), timeout_s)

    def abort(self) -> None:
        """Drop the connection."""
        self._link.transport.abort()

    def close(self) -> None:
        """Close it."""
        self._link.transport.close()


class Dialer:
    """How one client finds an agent: mostly its own one, another after a failure, sometimes any."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: random.Random,
        history: History,
        client: str,
        codec: Codec,
        agents: Sequence[Address],
        topics: Sequence[str],
        *,
        stray_share: float,
        timeout_s: float,
        named: Callable[[Address], str] = lambda address: address[0],
    ) -> None:
        self.rng = rng
        self.timeout_s = timeout_s
        self._loop = loop
        self._history = history
        self._client = client
        self._codec = codec
        self._agents = list(agents)
        self._topics = list(topics)
        self._stray_share = stray_share
        self._named = named
        self._home = rng.randrange(len(agents))
        self._count = 0

    async def connect(self) -> Session:
        """A connection whose agent knows all topics; tries again with backoff until there is one."""
        backoff_s = 0.02
        while True:
            at = self.rng.randrange(len(self._agents)) if self.rng.random() < self._stray_share else self._home
            try:
                return await self._try(self._agents[at])
            except CONNECTION_FAILURES:
                self._home = (self._home + 1) % len(self._agents)
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) * backoff_s)
                backoff_s = min(backoff_s * 2, 1.0)

    async def to(self, address: Address) -> Session:
        """A connection to one agent. Raises one of CONNECTION_FAILURES."""
        return await self._try(address)

    def write_into(self, history: History) -> None:
        """What happens from now on belongs to this history."""
        self._history = history

    def know(self, agents: Sequence[Address]) -> None:
        """These are the agents from now on."""
        self._agents = list(agents)
        self._home %= len(self._agents)

    def leave_home(self) -> None:
        """The home agent failed: prefer the next one."""
        self._home = (self._home + 1) % len(self._agents)

    async def _try(self, address: Address) -> Session:
        async with asyncio.timeout(self.timeout_s):
            _transport, protocol = await self._loop.create_connection(lambda: Link(self._loop), *address)
        assert isinstance(protocol, Link)
        self._count += 1
        agent = self._named(address)
        session = Session(f"{self._client}/{self._count}>{agent}", agent, protocol, self._codec)
        versions = await session.call(API_VERSIONS, 0, b"", self.timeout_s)
        assert versions.i16() == 0, "ApiVersions v0 must always succeed"
        cursor = await session.call(
            METADATA, self._codec.generation.metadata, self._codec.metadata(self._topics), self.timeout_s
        )
        session.topics = self._codec.described(cursor)
        for topic in session.topics.values():
            if topic.error:
                self._history.told("metadata", topic.error)
                session.close()
                raise ConnectionError(f"metadata error {topic.error}")
        return session
