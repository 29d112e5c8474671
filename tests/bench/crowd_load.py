"""Many connections to one broker, raw: idle ones, active ones, ones that come and go. Prints one line of JSON per phase.

Usage: python -m tests.bench.crowd_load HOST:PORT TOPIC [--idle 5000] [--active 500] [--churn 1000] [--seconds 10]
After the idle ones are up it waits for a line on its standard input, so that the server's memory can be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from schemas.kafka.records import NewRecord, build_batch

PARTITIONS = 16
CONNECTING = 50
"""Connections that are being made at a time."""
THINK_S = 0.4
"""Pause of an active client between two requests."""
PRODUCE, FETCH, METADATA, API_VERSIONS = 0, 1, 3, 18


def frame(key: int, version: int, body: bytes) -> bytes:
    """A request with its length; the correlation id is always the same."""
    head = struct.pack(">hhih", key, version, 7, 5) + b"crowd"
    return struct.pack(">i", len(head) + len(body)) + head + body


def text(value: str) -> bytes:
    """A string with its length."""
    return struct.pack(">h", len(value)) + value.encode()


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int, topic: str) -> Client:
        """Connect and do what every client does first: ApiVersions, and Metadata of its topic."""
        client = cls(*await asyncio.open_connection(host, port))
        await client.ask(frame(API_VERSIONS, 0, b""))
        await client.ask(frame(METADATA, 1, struct.pack(">i", 1) + text(topic)))
        return client

    async def ask(self, request: bytes) -> bytes:
        """The response behind its correlation id."""
        self._writer.write(request)
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        return (await self._reader.readexactly(size))[4:]

    async def close(self) -> None:
        """Close; the peer may have been first."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            pass


def produce_request(topic: str, partition: int) -> bytes:
    """One record of 1 KiB to one partition, acks=all."""
    batch = build_batch([NewRecord(int(time.time() * 1000), b"key", b"v" * 1024)])
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + text(topic) + struct.pack(">iii", 1, partition, len(batch)) + batch
    return frame(PRODUCE, 7, body)


def fetch_request(topic: str, partition: int, offset: int) -> bytes:
    """What comes next in one partition, or nothing after half a second."""
    body = struct.pack(">iiiib", -1, 500, 1, 1 << 20, 0) + struct.pack(">i", 1) + text(topic)
    return frame(FETCH, 4, body + struct.pack(">iiqi", 1, partition, offset, 1 << 20))


async def producer(client: Client, topic: str, partition: int, until: float, took: list[float]) -> None:
    """Produce, wait for the answer, think."""
    request = produce_request(topic, partition)
    at = 4 + len(text(topic)) + 4 + 4
    await asyncio.sleep(partition * THINK_S / PARTITIONS)
    while time.monotonic() < until:
        began = time.monotonic()
        answer = await client.ask(request)
        took.append(time.monotonic() - began)
        (error,) = struct.unpack_from(">h", answer, at)
        assert error == 0, f"Produce failed with {error}"
        await asyncio.sleep(THINK_S)


async def consumer(client: Client, topic: str, partition: int, until: float, took: list[float]) -> None:
    """Follow the end of a partition by long polls."""
    offset = 0
    at = 4 + 4 + len(text(topic)) + 4 + 4
    while time.monotonic() < until:
        answer = await client.ask(fetch_request(topic, partition, offset))
        error, offset = struct.unpack_from(">hq", answer, at)
        assert error == 0, f"Fetch failed with {error}"
        took.append(0.0)
        await asyncio.sleep(THINK_S)


async def many(count: int, make: Callable[[], Awaitable[Any]]) -> list[Any]:
    """`count` results of `make`, some at a time."""
    gate = asyncio.Semaphore(CONNECTING)

    async def one() -> Any:
        async with gate:
            return await make()

    return list(await asyncio.gather(*(one() for _ in range(count))))


def told(phase: str, **figures: float) -> None:
    """One line of JSON."""
    print(json.dumps({"phase": phase, **figures}), flush=True)


async def run(args: argparse.Namespace) -> None:
    """All phases."""
    host, _, port = args.address.rpartition(":")

    async def connect() -> Client:
        return await Client.connect(host, int(port), args.topic)

    for client in await many(100, connect):
        await client.close()
    told("warm")
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    idle = await many(args.idle, connect)
    told("idle", connections=len(idle), seconds=time.monotonic() - began)
    await asyncio.to_thread(sys.stdin.readline)
    active = await many(args.active, connect)
    produced: list[float] = []
    fetched: list[float] = []
    until = time.monotonic() + args.seconds
    await asyncio.gather(
        *(
            (consumer if n % 2 else producer)(
                client, args.topic, n // 2 % PARTITIONS, until, fetched if n % 2 else produced
            )
            for n, client in enumerate(active)
        )
    )
    cuts = statistics.quantiles(produced, n=100)
    told(
        "active", connections=len(active), produce_per_s=len(produced) / args.seconds,
        fetch_per_s=len(fetched) / args.seconds, p50_ms=cuts[49] * 1000, p99_ms=cuts[98] * 1000,
    )  # fmt: skip
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()

    async def come_and_go() -> None:
        await (await connect()).close()

    await many(args.churn, come_and_go)
    spent = time.monotonic() - began
    told("churn", connections=args.churn, seconds=spent, per_s=args.churn / spent)
    for client in idle[:: max(len(idle) // 100, 1)]:
        await client.ask(frame(API_VERSIONS, 0, b""))  # still served
    await asyncio.to_thread(sys.stdin.readline)
    for client in [*idle, *active]:
        await client.close()
    told("end")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("topic")
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--active", type=int, default=500)
    parser.add_argument("--churn", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
