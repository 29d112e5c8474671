"""Quotas over real connections: what is answered, and that a client above its quota isn't read."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

import pytest

from broker.kafka.call import Call
from broker.quotas.entities import entity_of
from tests.front_fakes import Client, Fakes, batch, make, running, settings, until

CLIENT = entity_of([("client-id", "test")])
CHUNK = 10_000


def limited(**quotas: float) -> Fakes:
    """Fakes whose clients have quotas; two windows of a second, so that one second's worth may come at once."""
    fakes = Fakes(settings(quota_window_num=2))
    fakes.topics.add("t")
    fakes.stored_quotas.stored[CLIENT] = dict(quotas)
    fakes.stored_quotas.changes = 1
    return fakes


def produce(size: int = CHUNK, acks: int = -1) -> Any:
    records = [{"index": 0, "records": batch(value=b"x" * size)}]
    return make(
        0, 9, transactional_id=None, acks=acks, timeout=1000, topic_data=[{"name": "t", "partition_data": records}]
    )


def api_versions() -> Any:
    return make(18, 3, client_software_name="a", client_software_version="1")


def fetch(max_bytes: int = 1 << 20) -> Any:
    part = {
        "partition": 0, "current_leader_epoch": -1, "fetch_offset": 0, "last_fetched_epoch": -1,
        "log_start_offset": -1, "partition_max_bytes": 1 << 20,
    }  # fmt: skip
    return make(
        1, 12, replica_id=-1, max_wait=0, min_bytes=1, max_bytes=max_bytes, isolation_level=0, session_id=0,
        session_epoch=-1, topics=[{"topic": "t", "partitions": [part]}], forgotten_topics_data=[], rack_id="",
    )  # fmt: skip


def throttle_ms(response: Any) -> int:
    return round(float(response.throttle_time.total_seconds()) * 1000)


async def test_a_producer_above_its_quota_is_answered_at_once_and_not_read_for_that_long() -> None:
    fakes = limited(producer_byte_rate=50_000)
    await fakes.quotas.follow()
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        began = time.monotonic()
        for _ in range(4):
            assert throttle_ms(await client.call(produce())) == 0
        wait_ms = throttle_ms(await client.call(produce(60_000)))
        assert time.monotonic() - began < 0.8, "the answer does not wait"
        assert 200 < wait_ms <= 1020
        muted = time.monotonic()
        client.send(api_versions())
        await client.payload()
        assert time.monotonic() - muted > wait_ms / 1000 - 0.03
        assert fakes.writer.appends == 5
        await client.close()


async def test_what_lies_in_the_buffer_is_not_started_while_muted() -> None:
    fakes = limited(producer_byte_rate=100_000)
    await fakes.quotas.follow()
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.send(produce(90_000))
        for _ in range(20):
            client.send(produce(100_000))
        await until(lambda: fakes.writer.appends >= 2)
        await asyncio.sleep(0.05)
        assert fakes.writer.appends == 2, "its second's worth and the one beyond, whatever it sends ahead"
        assert throttle_ms_of(await client.payload()) == 0
        assert throttle_ms_of(await client.payload()) > 300
        await client.close()


def throttle_ms_of(payload: bytes) -> int:
    """Of a Produce v9 response's frame: the last field before the tags."""
    (value,) = struct.unpack(">i", payload[-5:-1])
    return int(value)


async def test_nobody_else_waits() -> None:
    fakes = limited(producer_byte_rate=1000)
    await fakes.quotas.follow()
    async with running(fakes) as (_, address):
        client, other = await Client.connect(address), await Client.connect(address)
        assert throttle_ms(await client.call(produce(20_000))) > 10_000
        began = time.monotonic()
        await other.call(api_versions())
        assert time.monotonic() - began < 0.5
        await client.close()
        await other.close()


async def test_without_acks_nothing_is_sent_and_the_connection_is_muted_all_the_same() -> None:
    fakes = limited(producer_byte_rate=50_000)
    await fakes.quotas.follow()
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.send(produce(70_000, acks=0))
        began = time.monotonic()
        await client.call(api_versions())
        assert time.monotonic() - began > 0.3
        await client.close()


async def test_a_consumer_above_its_quota_is_answered_empty_and_gets_its_records_later() -> None:
    fakes = limited(consumer_byte_rate=20_000)
    await fakes.quotas.follow()
    view = fakes.topics.live["t"]
    fakes.log.append((view.topic, 0), memoryview(batch(value=b"x" * 19_000)), 1)
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        first = await client.call(fetch())
        assert len(first.responses) == 1
        assert throttle_ms(first) == 0
        began = time.monotonic()
        second = await client.call(fetch())
        wait_ms = throttle_ms(second)
        assert second.responses == ()
        assert 300 < wait_ms <= 950
        assert time.monotonic() - began < 0.7
        third = await client.call(fetch())
        assert time.monotonic() - began > wait_ms / 1000 - 0.03
        assert third.responses or throttle_ms(third)
        assert listener.statistics.fetched_bytes <= 2 * 19_100
        await client.close()


async def test_a_fetch_looks_for_no_more_than_its_quota_lets_through_at_once() -> None:
    fakes = limited(consumer_byte_rate=20_000)
    await fakes.quotas.follow()
    view = fakes.topics.live["t"]
    for _ in range(10):
        fakes.log.append((view.topic, 0), memoryview(batch(value=b"x" * 4000)), 1)
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        [topic] = (await client.call(fetch())).responses
        assert 4 * 4000 < len(topic.partitions[0].records) <= 20_000
        await client.close()


async def test_a_share_of_the_loop() -> None:
    fakes = limited(request_percentage=0.001)
    await fakes.quotas.follow()
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        for request in (api_versions(), make(48, 1, components=[], strict=False)):
            assert 0 < throttle_ms(await client.call(request)) <= 1000, "never longer than a window"
        await client.close()


async def test_quotas_of_others_and_none_at_all_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    charged: list[Call] = []
    monkeypatch.setattr("broker.kafka.connection.Connection._charge", lambda self, call: charged.append(call))
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        for _ in range(5):
            assert throttle_ms(await client.call(produce())) == 0
        assert not charged
        await client.close()


async def test_a_muted_connection_is_not_idle_and_ends_with_its_client() -> None:
    fakes = Fakes(settings(quota_window_num=2, connections_max_idle_ms=100))
    fakes.topics.add("t")
    fakes.stored_quotas.stored[CLIENT] = {"producer_byte_rate": 10_000.0}
    fakes.stored_quotas.changes = 1
    await fakes.quotas.follow()
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        assert throttle_ms(await client.call(produce(20_000))) > 500
        await asyncio.sleep(0.4)
        assert listener.statistics.connections_open == 1
        assert listener.statistics.connections_closed_idle == 0
        await client.close()
        await until(lambda: listener.statistics.connections_open == 0, 10)


async def test_a_drain_does_not_wait_for_a_muted_connection() -> None:
    fakes = limited(producer_byte_rate=1000)
    await fakes.quotas.follow()
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        assert throttle_ms(await client.call(produce(20_000))) > 5000
        listener.begin_drain()
        assert await listener.drained(2000)
        await client.close()


# -- the APIs


def change(parts: dict[str, str | None], *ops: tuple[str, float | None]) -> dict[str, Any]:
    return {
        "entity": [{"entity_type": kind, "entity_name": name} for kind, name in parts.items()],
        "ops": [{"key": key, "value": amount or 0.0, "remove": amount is None} for key, amount in ops],
    }


@pytest.mark.parametrize("version", [0, 1])
async def test_quotas_are_set_told_and_taken_away(version: int) -> None:
    fakes = Fakes(settings())
    async with running(fakes) as (_, address):
        client = await Client.connect(address)

        async def alter(*entries: dict[str, Any], validate_only: bool = False) -> list[int]:
            answer = await client.call(make(49, version, entries=list(entries), validate_only=validate_only))
            return [int(entry.error_code) for entry in answer.entries]

        async def told() -> dict[Any, dict[str, float]]:
            answer = await client.call(make(48, version, components=[], strict=False))
            assert answer.error_code == 0
            return {
                tuple((part.entity_type, part.entity_name) for part in entry.entity): {
                    value.key: value.value for value in entry.values
                }
                for entry in answer.entries
            }

        one = change({"user": "u", "client-id": None}, ("producer_byte_rate", 5000.0), ("request_percentage", 12.5))
        assert await alter(one, validate_only=True) == [0]
        assert await told() == {}
        assert await alter(one, change({"ip": "x"}, ("connection_creation_rate", 1.0))) == [0, 42]
        key = (("client-id", None), ("user", "u"))
        assert await told() == {key: {"producer_byte_rate": 5000.0, "request_percentage": 12.5}}
        assert fakes.quotas.limiter.active, "they hold at once on the agent that was asked"
        assert await alter(change({"user": "u", "client-id": None}, ("producer_byte_rate", None))) == [0]
        assert await told() == {key: {"request_percentage": 12.5}}
        twice = [change({"user": "v"}, ("producer_byte_rate", 1.0)), change({"user": "v"}, ("producer_byte_rate", 2.0))]
        assert await alter(*twice) == [42]
        assert (await told())[(("user", "v"),)] == {"producer_byte_rate": 1.0}
        await client.close()


async def test_another_agents_change_is_followed() -> None:
    fakes = Fakes(settings(quota_poll_interval_ms=10))
    running_task = asyncio.create_task(fakes.quotas.run())
    fakes.stored_quotas.stored[CLIENT] = {"consumer_byte_rate": 5.0}
    fakes.stored_quotas.changes = 3
    await until(lambda: fakes.quotas.limiter.active)
    running_task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_task
