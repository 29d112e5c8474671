"""What one turn of a single producer costs the agent, without sockets: five Produce requests in, five replies out.

The agent's core over a local folder without flushing, one connection whose transport only counts; each request carries
one idempotent batch of 16 KiB. Prints microseconds a turn. Usage: python -m tests.bench.bench_cycle [--turns 4000]
[--profile FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import os
import random
import statistics
import struct
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import uvloop
from prometheus_client import CollectorRegistry

from broker.agent_core import build_core
from broker.clock import SystemClock
from broker.kafka.listener import Listener
from broker.objects.open import open_store
from broker.thread_workers import ThreadWorkers
from catalog.open import open_database
from schemas.kafka.records import build_batch
from schemas.settings import Settings

IN_FLIGHT = 5
PARTITIONS = 16


class CountingTransport:
    """A transport that takes everything and counts what was written."""

    def __init__(self) -> None:
        self.written = 0
        self.waiting: asyncio.Future[None] | None = None
        self.wanted = 0

    def get_extra_info(self, _name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def writelines(self, buffers: list[bytes]) -> None:
        for buffer in buffers:
            at = 0
            view = memoryview(buffer)
            while at < len(view):
                (size,) = struct.unpack_from(">i", view, at)
                at += 4 + size
                self.written += 1
        if self.waiting is not None and self.written >= self.wanted and not self.waiting.done():
            self.waiting.set_result(None)

    def write(self, buffer: bytes) -> None:
        self.writelines([buffer])

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


def request(topic_id: UUID, partition: int, records: bytes, correlation: int) -> bytes:
    """A Produce v13 request as librdkafka sends it: one partition."""
    body = struct.pack(">hhih", 0, 13, correlation, 7) + b"rdkafka" + b"\0"
    body += b"\0" + struct.pack(">hi", -1, 30_000) + b"\x02" + topic_id.bytes + b"\x02" + struct.pack(">i", partition)
    length = len(records) + 1
    while length >= 0x80:
        body += bytes([length & 0x7F | 0x80])
        length >>= 7
    body += bytes([length]) + records + b"\0\0\0"
    return struct.pack(">i", len(body)) + body


def turns_of(topic_id: UUID, turns: int, start: int) -> list[bytes]:
    """The bytes of each turn's five requests."""
    value = b"x" * 1024
    now_ms = time.time_ns() // 1_000_000
    out = []
    for turn in range(start, start + turns):
        requests = []
        for n in range(IN_FLIGHT):
            at = turn * IN_FLIGHT + n
            records = build_batch(
                [(now_ms, None, value, ())] * 15, producer_id=1, producer_epoch=0, base_sequence=at // PARTITIONS * 15
            )
            requests.append(request(topic_id, at % PARTITIONS, bytes(records), at))
        out.append(b"".join(requests))
    return out


async def run(turns: int, profile: str | None) -> None:
    """Run the turns and print their times."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("NEVE_BENCH_DIR")) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = Settings(data=Path(folder) / "data", fsync="never", num_partitions=PARTITIONS)
        clock, rng = SystemClock(), random.SystemRandom()
        store = open_store(settings, clock, rng, CollectorRegistry())
        database = await open_database(settings)
        core = await build_core(settings, store, database, clock, rng, workers=ThreadWorkers(2, 64))
        await core.start("127.0.0.1", 9092)
        listener = Listener(core.services)
        view = await core.topics.create("bench", PARTITIONS, {})
        connection = listener.make_connection()
        transport = CountingTransport()
        connection.connection_made(cast(asyncio.Transport, transport))
        loop = asyncio.get_running_loop()

        async def turn(data: bytes) -> float:
            began = time.perf_counter()
            at = 0
            while at < len(data):
                buffer = connection.get_buffer(-1)
                count = min(len(buffer), len(data) - at)
                buffer[:count] = data[at : at + count]
                connection.buffer_updated(count)
                at += count
            transport.wanted += IN_FLIGHT
            if transport.written < transport.wanted:
                transport.waiting = loop.create_future()
                await transport.waiting
            return time.perf_counter() - began

        block = 500
        times: list[float] = []
        profiler = cProfile.Profile() if profile else contextlib.nullcontext()
        for first in range(0, turns, block):
            requests = turns_of(view.topic_id, min(block, turns - first), first)
            with profiler if first else contextlib.nullcontext():
                times.extend([await turn(data) for data in requests])
        if isinstance(profiler, cProfile.Profile) and profile:
            profiler.dump_stats(profile)
        quartiles = statistics.quantiles(times[block:], n=4)
        bytes_ = IN_FLIGHT * 15 * 1024
        print(
            f"{turns} turns of {IN_FLIGHT} requests: median {quartiles[1] * 1e6:.0f} us, lower quartile "
            f"{quartiles[0] * 1e6:.0f}, upper {quartiles[2] * 1e6:.0f} ({bytes_ / quartiles[1] / 1e6:.0f} MB/s)"
        )
        await core.drain()
        connection.connection_lost(None)
        await core.stop()
        await database.close()
        await store.close()


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=4000)
    parser.add_argument("--profile")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(args.turns, args.profile))


if __name__ == "__main__":
    main()
