"""The simulated network: FIFO under cutting, backpressure, buffered protocols, resets, lost bytes, partitions, half-open."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from neve.simulation.faults import Faults
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop
from neve.simulation.network import SimNetwork


class Cluster:
    def __init__(self, seed: int) -> None:
        self.loop = SimLoop(seed)
        self.faults = Faults(random.Random(seed))
        self.network = SimNetwork(self.loop, random.Random(seed + 1), self.faults, cut_share=0.7, window_bytes=500)
        self.server, self.client = Host("server"), Host("client")

    def on(self, host: Host, work: Callable[[], Awaitable[object]]) -> asyncio.Task[object]:
        token = HOST.set(host)
        try:
            return self.loop.create_task(work())  # type: ignore[arg-type]
        finally:
            HOST.reset(token)

    def run(self, server: Callable[[], Awaitable[object]], client: Callable[[], Awaitable[object]]) -> object:
        async def main() -> object:
            await self.on(self.server, server)
            return await self.on(self.client, client)

        try:
            result = self.loop.run_until_complete(main())
            assert self.loop.errors == []
            return result
        finally:
            self.loop.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        pass


async def serve_echo() -> None:
    await asyncio.start_server(echo, "0.0.0.0", 9092)


@pytest.mark.parametrize("seed", range(10))
def test_bytes_come_back_in_order_whatever_the_cuts(seed: int) -> None:
    cluster = Cluster(seed)
    sent = random.Random(seed).randbytes(20_000)

    async def client() -> bytes:
        reader, writer = await asyncio.open_connection("server", 9092)
        writer.write(sent)
        back = await reader.readexactly(len(sent))
        writer.close()
        await writer.wait_closed()
        return back

    assert cluster.run(serve_echo, client) == sent


class Slow(asyncio.BufferedProtocol):
    """Takes 7 bytes at a time and pauses reading after each."""

    def __init__(self, loop: SimLoop, got: bytearray) -> None:
        self.loop, self.got, self.buffer = loop, got, bytearray(7)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]
        self.transport.pause_reading()
        self.loop.call_later(0.01, self.transport.resume_reading)


class Pusher(asyncio.Protocol):
    def __init__(self) -> None:
        self.paused = 0

    def pause_writing(self) -> None:
        self.paused += 1


def test_a_reader_that_pauses_pushes_back_on_the_writer() -> None:
    cluster = Cluster(3)
    got = bytearray()

    async def serve() -> None:
        await cluster.loop.create_server(lambda: Slow(cluster.loop, got), "0.0.0.0", 9092)

    async def client() -> int:
        transport, protocol = await cluster.loop.create_connection(Pusher, "server", 9092)
        transport.set_write_buffer_limits(high=600)
        transport.write(bytes(range(256)) * 8)
        await asyncio.sleep(1)
        assert transport.get_write_buffer_size() > 0
        await asyncio.sleep(10)
        return int(protocol.paused)

    assert cluster.run(serve, client) == 1
    assert got == bytes(range(256)) * 8


@pytest.mark.parametrize("kind", ["request_lost", "reply_lost"])
def test_lost_bytes_end_in_a_reset(kind: str) -> None:
    cluster = Cluster(4)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("server", 9092)
        cluster.faults.arm(kind)
        writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(5)

    cluster.run(serve_echo, client)
    assert cluster.faults.fired[kind] == 1


def test_a_half_open_connection_stays_silent() -> None:
    cluster = Cluster(5)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("server", 9092)
        cluster.faults.arm("half_open")
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 60)
        writer.transport.abort()

    cluster.run(serve_echo, client)


def test_a_partition_holds_bytes_back_and_refuses_connections() -> None:
    cluster = Cluster(6)

    async def client() -> float:
        reader, writer = await asyncio.open_connection("server", 9092)
        cluster.network.partition("client", "server")
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("server", 9092)
        cluster.network.heal("server", "client")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        return cluster.loop.time()

    assert 3 < float(str(cluster.run(serve_echo, client))) < 4


def test_a_dead_host_resets_its_peers_and_refuses() -> None:
    cluster = Cluster(7)

    async def client() -> None:
        reader, _writer = await asyncio.open_connection("server", 9092)
        cluster.loop.kill(cluster.server)
        cluster.network.host_died(cluster.server)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 9092)

    cluster.run(serve_echo, client)


def test_bytes_to_a_paused_host_wait_in_its_kernel() -> None:
    cluster = Cluster(8)

    async def client() -> float:
        cluster.loop.pause(cluster.server)
        reader, writer = await asyncio.open_connection("server", 9092)
        writer.write(b"hello")
        cluster.loop.call_later(5, cluster.loop.resume, cluster.server)
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        return cluster.loop.time()

    assert float(str(cluster.run(serve_echo, client))) > 5
