"""Connections that fail on purpose: cut, a request swallowed, a reply lost or late, and never anything out of order."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from broker.faults.connection import FaultyConnection
from broker.faults.table import FaultTable
from broker.kafka.listener import Listener
from schemas.fault_points import FaultRule
from tests.front_fakes import Client, Fakes, batch, make
from tests.unit.front.test_front_connection import api_versions, correlation_id, frame, produce


@contextlib.asynccontextmanager
async def faulty(fakes: Fakes, *rules: FaultRule) -> AsyncIterator[tuple[FaultTable, tuple[str, int]]]:
    table = FaultTable(random.Random(1))
    for rule in rules:
        table.add(rule)
    listener = Listener(fakes.services, connection=lambda context, n: FaultyConnection(context, n, table.strike))
    address = await listener.start("127.0.0.1", 0)
    try:
        yield table, address
    finally:
        await listener.stop()


async def test_without_rules_it_is_a_connection(fakes: Fakes) -> None:
    async with faulty(fakes) as (_, address):
        client = await Client.connect(address)
        for n in range(3):
            client.writer.write(api_versions(n))
            assert await correlation_id(client) == n
        await client.close()


async def test_a_cut_connection_does_nothing_that_was_asked(fakes: Fakes) -> None:
    fakes.topics.add("t")
    async with faulty(fakes, FaultRule("connection_cut", pattern="Produce *", times=1)) as (_, address):
        client = await Client.connect(address)
        client.writer.write(api_versions(1) + frame(0, 7, 2, produce("t", batch())))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await correlation_id(client)
            await correlation_id(client)
        assert await client.closed()
        await client.close()
        assert fakes.writer.appends == 0


async def test_a_lost_reply_comes_after_the_effect(fakes: Fakes) -> None:
    fakes.topics.add("t")
    async with faulty(fakes, FaultRule("reply_lost", pattern="Produce 127.0.0.1")) as (table, address):
        client = await Client.connect(address)
        client.writer.write(frame(0, 7, 1, produce("t", batch())))
        assert await client.closed()
        await client.close()
        assert fakes.writer.appends == 1
        assert table.fired["reply_lost"] == 1


async def test_a_lost_request_hangs_until_its_connection_is_cut(fakes: Fakes) -> None:
    fakes.topics.add("t")
    async with faulty(fakes, FaultRule("request_lost", delay_ms=150, times=1)) as (_, address):
        client = await Client.connect(address)
        began = asyncio.get_running_loop().time()
        client.writer.write(frame(0, 7, 1, produce("t", batch())) + api_versions(2))
        assert await client.closed()
        await client.close()
        assert asyncio.get_running_loop().time() - began >= 0.14
        assert fakes.writer.appends == 0


@pytest.mark.parametrize("held", [False, True])
async def test_a_late_reply_keeps_the_order(fakes: Fakes, held: bool) -> None:
    fakes.topics.add("t")
    fakes.writer.held = held
    async with faulty(fakes, FaultRule("reply_delayed", delay_ms=100, pattern="Produce *", times=1)) as (_, address):
        client = await Client.connect(address)
        began = asyncio.get_running_loop().time()
        client.writer.write(b"".join(frame(0, 7, n, produce("t", batch())) for n in range(3)) + api_versions(3))
        if held:
            await asyncio.sleep(0.02)
            fakes.writer.release()
            fakes.writer.held = False
        assert [await correlation_id(client) for _ in range(4)] == [0, 1, 2, 3]
        assert asyncio.get_running_loop().time() - began >= 0.09
        await client.close()


async def test_a_connection_goes_on_after_a_late_reply(fakes: Fakes) -> None:
    async with faulty(fakes, FaultRule("reply_delayed", delay_ms=20, times=2)) as (table, address):
        client = await Client.connect(address)
        for _ in range(4):
            assert (await client.call(make(18, 0))).error_code == 0
        assert table.fired["reply_delayed"] == 2
        await client.close()
