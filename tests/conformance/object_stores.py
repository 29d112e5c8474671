"""The object stores that the conformance suite runs over, and an S3 server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from broker.clock import SystemClock
from broker.faults.table import FaultTable
from broker.objects.faulty import FaultyStore
from broker.objects.instrumented import InstrumentedStore, ObjectMetrics
from broker.objects.local import LocalStore, open_quietly
from broker.objects.memory import MemoryStore
from broker.objects.port import ObjectStore
from broker.objects.retrying import RetryingStore, RetryLimits
from broker.objects.s3 import S3Options, S3Store
from schemas.fault_points import FaultRule
from tests.counterparts import S3Server

NAMES = (
    "memory",
    "local",
    "local-never",
    "local-now",
    "local-named",
    "versitygw",
    "moto",
    "instrumented",
    "retrying",
    "faulty",
)


def now_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000


def s3_store(server: S3Server, prefix: str = "", timeout_ms: int = 10_000) -> S3Store:
    """A store over a bucket of its own."""
    bucket = server.create_bucket(f"t{uuid.uuid4().hex}")
    return S3Store(
        S3Options(
            bucket=bucket,
            prefix=prefix,
            endpoint=server.endpoint,
            region=server.region,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            timeout_ms=timeout_ms,
        )
    )


def retrying(inner: ObjectStore, seed: int = 1, limits: RetryLimits | None = None) -> RetryingStore:
    """A retrying store that waits little."""
    limits = limits or RetryLimits(attempts=20, backoff_ms=1, backoff_max_ms=2)
    return RetryingStore(inner, SystemClock(), random.Random(seed), limits)


def build(name: str, folder: Path, request: pytest.FixtureRequest) -> ObjectStore:
    """One implementation by name."""
    if name == "local":
        return LocalStore(folder / "objects", "always")
    if name == "local-never":
        return open_quietly(folder / "objects")
    if name == "local-now":  # with the wrappers that an agent has around it
        now = open_quietly(folder / "objects", inline_bytes=1000)
        return retrying(InstrumentedStore(now, ObjectMetrics(CollectorRegistry()), time.monotonic))
    if name == "local-named":  # the way of file systems without anonymous files, such as macOS's
        store = LocalStore(folder / "objects", "always")
        store._files._anonymous = 0
        return store
    if name in ("versitygw", "moto"):
        return s3_store(request.getfixturevalue(f"{name}_server"), prefix="some/prefix")
    memory = MemoryStore(now_ms)
    if name == "instrumented":
        return InstrumentedStore(memory, ObjectMetrics(CollectorRegistry()), time.monotonic)
    if name == "retrying":
        return retrying(memory)
    if name == "faulty":  # with faults on, and the retries that have to hide them
        puts = ("put_refused", "put_landed_unknown", "put_landed_late", "put_lost_unknown", "put_slow")
        rates = dict.fromkeys((*puts, "get_refused", "get_truncated", "delete_refused", "list_refused"), 0.1)
        return retrying(faulty(memory, 7, rates, delay_ms=5)[0])
    return memory


def faulty(
    inner: ObjectStore, seed: int, rates: Mapping[str, float], *, delay_ms: int = 1
) -> tuple[FaultyStore, FaultTable]:
    """A store whose faults strike by chance, and the table that decides and counts."""
    table = FaultTable(random.Random(seed))
    for point, rate in rates.items():
        table.add(FaultRule(point, rate, delay_ms=delay_ms).checked())
    return FaultyStore(inner, random.Random(seed), table.strike, table.armed), table


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str, bytes], Awaitable[None]]


class StubS3:
    """An HTTP server whose answers a test decides: `answer(reader, writer, request line, body)` per request."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[str] = []
        self.answers: list[Answer] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def store(self, timeout_ms: int = 2_000, unsigned_payload: bool | None = True) -> S3Store:
        """A client of it."""
        return S3Store(
            S3Options(
                bucket="b",
                endpoint=self.endpoint,
                access_key_id="key",
                secret_access_key="secret",
                unsigned_payload=unsigned_payload,
                timeout_ms=timeout_ms,
            )
        )

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")
                sizes = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
                body = await reader.readexactly(sizes[0]) if sizes else b""
                self.requests.append(lines[0])
                self.headers.append(head)
                self.bodies.append(body)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(reader, writer, lines[0], body)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def stub_s3() -> AsyncIterator[StubS3]:
    """A running stub."""
    stub = StubS3()
    server = await asyncio.start_server(stub.handle, "127.0.0.1", 0, limit=1 << 20)
    stub.port = server.sockets[0].getsockname()[1]
    try:
        yield stub
    finally:
        server.close()


def status(code: int, body: str = "", headers: str = "") -> Answer:
    """Answer with a status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, request: bytes) -> None:
        payload = "" if line.startswith("HEAD") else body
        writer.write(f"HTTP/1.1 {code} Answer\r\n{headers}Content-Length: {len(body)}\r\n\r\n{payload}".encode())

    return answer


def reset() -> Answer:
    """Take the request and reset the connection."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, request: bytes) -> None:
        writer.transport.abort()
        raise ConnectionResetError

    return answer


def silent() -> Answer:
    """Take the request and never answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, request: bytes) -> None:
        await asyncio.sleep(60)

    return answer


OBJECT_HEADERS = 'ETag: "x"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n'


def truncated(sent: bytes, announced: int, partial: str | None = None) -> Answer:
    """Announce more bytes than are sent, then close."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, request: bytes) -> None:
        first = "206 Partial" if partial else "200 OK"
        extra = f"Content-Range: bytes {partial}\r\n" if partial else ""
        head = f"HTTP/1.1 {first}\r\n{OBJECT_HEADERS}{extra}Content-Length: {announced}\r\n\r\n"
        writer.write(head.encode() + sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    return answer
