"""Every recorded request of real clients, cut at every byte, at a live listener: an answer or a clean close, in time and memory.

The bound is the issue's: 50 ms and 8 x the request's size + 1 MiB for each. Cut two ways: as a shorter frame (its length says so),
and as a frame that never arrives whole (the connection closes in the middle).
"""

from __future__ import annotations

import asyncio
import struct
import time
import tracemalloc
from pathlib import Path

import pytest

from tests.front_fakes import Client, Fakes, running, settings

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.bin"))
BOUND_S = 0.050
BOUND_FIXED_BYTES = 1 << 20
API_VERSIONS_V0 = struct.pack(">hhih", 18, 0, 77, -1)


def framed(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


async def answer_or_close(address: tuple[str, int], data: bytes) -> float:
    """Seconds until the listener answered or closed."""
    client = await Client.connect(address)
    started = time.perf_counter()
    client.writer.write(framed(data) + framed(API_VERSIONS_V0))
    await asyncio.wait_for(client.reader.read(1), 5)
    spent = time.perf_counter() - started
    await client.close()
    return spent


def test_there_are_recordings_of_five_clients() -> None:
    clients = {path.name.rsplit("-", 2)[0] for path in RECORDED}
    assert clients == {"aiokafka", "confluent-kafka", "java-console", "kafka-python", "kcat"}
    assert {path.name.rsplit("-", 2)[1] for path in RECORDED} >= {"0", "1", "2", "3", "18", "22"}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_cut_at_every_byte(path: Path) -> None:
    request = path.read_bytes()
    fakes = Fakes(settings())
    fakes.topics.add("recorded")
    async with running(fakes) as (listener, address):
        await answer_or_close(address, request[:8])
        tracemalloc.start()
        try:
            for size in range(len(request)):
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                spent_s = await answer_or_close(address, request[:size])
                used = tracemalloc.get_traced_memory()[1] - before
                assert used <= 8 * size + BOUND_FIXED_BYTES, f"{size} bytes took {used} bytes of memory"
                for _ in range(2):  # a busy machine may be late, the listener may not
                    if spent_s > BOUND_S:
                        spent_s = await answer_or_close(address, request[:size])
                assert spent_s <= BOUND_S, f"{size} bytes took {spent_s:.3f} s"
        finally:
            tracemalloc.stop()
        for size in range(0, len(request), 7):
            client = await Client.connect(address)
            client.writer.write(framed(request)[: 4 + size])
            client.writer.write_eof()
            assert await asyncio.wait_for(client.closed(), 5)
            await client.close()
        assert listener.statistics.handler_failures == 0
        await answer_or_close(address, API_VERSIONS_V0)
