"""Puts and gets of the object stores, timed: latency of one at a time, throughput of several, CPU per operation.

    PYTHONSAFEPATH=1 python -m tests.bench.bench_objects [local] [local-fsync] [s3]

CPU is this process's; an S3 server's own isn't counted. Prints one line per case. Nothing is deleted on the way: ext4
without a journal doesn't hand out inodes freed in the last minutes and searches past each of them, which makes creating a
file ten times slower wherever many were deleted before. TMPDIR names a quieter place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from broker.clock import SystemClock
from broker.objects.instrumented import InstrumentedStore, ObjectMetrics
from broker.objects.local import LocalStore, open_quietly
from broker.objects.port import ObjectStore
from broker.objects.retrying import RetryingStore, RetryLimits
from broker.objects.s3 import S3Options, S3Store
from tests import counterparts

CASES = ((16 << 10, 1, 1500), (64 << 10, 1, 800), (64 << 10, 8, 800), (8 << 20, 1, 30), (8 << 20, 4, 40))
"""Bytes, operations in flight, operations."""
PART_BYTES = 64 << 10


def body(size: int) -> list[memoryview]:
    """Parts as a flush has them."""
    slab = memoryview(random.Random(size).randbytes(size))
    return [slab[first : first + PART_BYTES] for first in range(0, size, PART_BYTES)]


async def timed(
    count: int, in_flight: int, operation: Callable[[int], Awaitable[object]]
) -> tuple[list[float], float, float]:
    """Sorted latencies, wall seconds and CPU seconds of this process."""
    latencies: list[float] = []
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            began = time.perf_counter()
            await operation(number)
            latencies.append(time.perf_counter() - began)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(in_flight)))
    return sorted(latencies), time.perf_counter() - wall, time.process_time() - cpu


def report(name: str, what: str, size: int, in_flight: int, found: tuple[Sequence[float], float, float]) -> None:
    """One line."""
    latencies, wall, cpu = found
    count = len(latencies)
    p50, p99 = latencies[count // 2] * 1e6, latencies[min(count - 1, count * 99 // 100)] * 1e6
    print(
        f"{name:11} {what:4} {size >> 10:6} KiB x{in_flight}  p50 {p50:8.0f} us  p99 {p99:8.0f} us  "
        f"{count * size / wall / (1 << 20):7.0f} MiB/s  CPU {cpu / count * 1e6:7.0f} us/op  "
        f"{cpu / (count * size) * (1 << 30):5.2f} s/GiB",
        flush=True,
    )


async def measure(name: str, bare: ObjectStore) -> None:
    """Every case, through the wrappers an agent has."""
    metrics = ObjectMetrics(CollectorRegistry())
    clock = SystemClock()
    observed = InstrumentedStore(bare, metrics, clock.monotonic)
    store = RetryingStore(observed, clock, random.Random(1), RetryLimits())
    for size, in_flight, count in CASES:
        parts = body(size)
        key = f"bench/segments/{size}-{in_flight}/{{:010}}-00000000000000aa".format
        put = await timed(count, in_flight, lambda n, key=key, parts=parts: store.put(key(n), parts))  # type: ignore[misc]
        report(name, "put", size, in_flight, put)
        get = await timed(count, in_flight, lambda n, key=key: store.get(key(n)))  # type: ignore[misc]
        report(name, "get", size, in_flight, get)
    await store.close()


@contextlib.asynccontextmanager
async def s3() -> AsyncIterator[ObjectStore]:
    """versitygw, bodies unsigned as over TLS."""
    with counterparts.versitygw() as server:
        bucket = server.create_bucket("bench")
        yield S3Store(
            S3Options(
                bucket,
                endpoint=server.endpoint,
                access_key_id=server.access_key_id,
                secret_access_key=server.secret_access_key,
                unsigned_payload=True,
            )
        )


async def main(names: Sequence[str]) -> None:
    """Measure the named stores."""
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    with counterparts.work_folder("bench") as folder:
        for name in names:
            if name == "local":
                await measure(name, open_quietly(Path(folder, "never")))
            elif name == "local-fsync":
                await measure(name, LocalStore(Path(folder, "always")))
            elif name == "s3":
                async with s3() as store:
                    await measure(name, store)
            else:
                raise SystemExit(f"no store {name!r}: local, local-fsync, s3")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:] or ["local", "local-fsync", "s3"]))
