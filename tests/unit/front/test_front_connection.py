"""Connections over real sockets and uvloop: order, pipelining, backpressure, limits, idleness, drain, hostile bytes."""

from __future__ import annotations

import asyncio
import resource
import struct
from typing import Any

import pytest

from broker.kafka.listener import Listener
from catalog.database import Unreachable
from schemas.buffer_pool import is_free
from schemas.config_kinds import ConfigKind
from tests.front_fakes import Client, Fakes, batch, make, request_bytes, response_of, running, settings, until

ACKS_ALL = -1


def produce(topic: str, records: bytes, *, acks: int = ACKS_ALL, partition: int = 0) -> bytes:
    """The body of a Produce v7 request, by hand."""
    name = topic.encode()
    return (
        struct.pack(">hhi", -1, acks, 1000)
        + struct.pack(">ih", 1, len(name))
        + name
        + struct.pack(">iii", 1, partition, len(records))
        + records
    )


def frame(key: int, version: int, correlation_id: int, body: bytes) -> bytes:
    head = struct.pack(">hhih", key, version, correlation_id, 4) + b"test"
    return struct.pack(">i", len(head) + len(body)) + head + body


def api_versions(correlation_id: int) -> bytes:
    return frame(18, 0, correlation_id, b"")


async def correlation_id(client: Client) -> int:
    return int.from_bytes((await client.payload())[:4], "big")


async def test_replies_keep_the_order_of_requests_while_appends_overlap() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    fakes.writer.held = True
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        data = b"".join(frame(0, 7, n, produce("t", batch())) for n in range(5))
        client.writer.write(data + api_versions(5) + frame(0, 7, 6, produce("t", batch())) + api_versions(7))
        await until(lambda: len(fakes.writer.waiting) == 5)
        await asyncio.sleep(0.02)
        # The request behind them waits for them, and holds back the append behind itself.
        assert len(fakes.writer.waiting) == 5
        fakes.writer.waiting.reverse()
        fakes.writer.release()
        assert [await correlation_id(client) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
        await until(lambda: len(fakes.writer.waiting) == 1)
        fakes.writer.release()
        assert [await correlation_id(client) for _ in range(2)] == [6, 7]
        await client.close()


async def test_batches_reach_the_writer_in_the_order_they_were_sent_even_if_the_topic_is_looked_up_first() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t", cached=False)
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(b"".join(frame(0, 7, n, produce("t", batch(value=b"%d" % n))) for n in range(20)))
        for n in range(20):
            payload = await client.payload()
            assert int.from_bytes(payload[:4], "big") == n
            (base_offset,) = struct.unpack_from(">q", payload, 4 + 4 + 3 + 4 + 4 + 2)
            assert base_offset == n
        await client.close()


async def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        record = batch()
        client.writer.write(
            b"".join(api_versions(n) if n % 3 else frame(0, 7, n, produce("t", record)) for n in range(1000))
        )
        await asyncio.sleep(0.05)
        assert [await correlation_id(client) for _ in range(1000)] == list(range(1000))
        counts = listener.statistics.apis
        assert counts["Produce"].ok == 334
        assert counts["ApiVersions"].ok == 666
        assert sum(counts["Produce"].latency_counts) == 334
        await client.close()


async def test_a_peer_that_does_not_read_is_not_served_without_end() -> None:
    fakes = Fakes(settings(response_buffer_bytes_max=256 * 1024))
    view = fakes.topics.add("t")
    fakes.log.append((view.topic, 0), memoryview(batch(value=b"x" * 1_000_000)), 1)
    fetch = struct.pack(">iiiib", -1, 0, 1, 10_000_000, 0) + struct.pack(">ih", 1, 1) + b"t"
    fetch += struct.pack(">iiqi", 1, 0, 0, 10_000_000)
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"".join(frame(1, 4, n, fetch) for n in range(500)))
        await asyncio.sleep(0.3)
        served = listener.statistics.apis["Fetch"].ok
        assert 0 < served < 30, "a reader that stands still holds a few answers, not all of them"
        await asyncio.sleep(0.1)
        assert listener.statistics.apis["Fetch"].ok == served
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for n in range(500):
            assert await correlation_id(client) == n
        await client.close()


async def test_requests_in_flight_are_bounded_and_reading_goes_on_afterwards() -> None:
    fakes = Fakes(settings(requests_in_flight_max=10))
    fakes.topics.add("t")
    fakes.writer.held = True
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(b"".join(frame(0, 7, n, produce("t", batch())) for n in range(35)))
        for _ in range(3):
            await until(lambda: len(fakes.writer.waiting) == 10)
            await asyncio.sleep(0.01)
            assert len(fakes.writer.waiting) == 10
            fakes.writer.release()
        await until(lambda: len(fakes.writer.waiting) == 5)
        fakes.writer.release()
        assert [await correlation_id(client) for _ in range(35)] == list(range(35))
        await client.close()


async def test_connections_that_go_leave_no_receive_buffers_behind() -> None:
    fakes = Fakes(settings())
    async with running(fakes) as (listener, address):
        pool = listener._context.pool
        staying = await Client.connect(address)
        made = pool.made
        for n in range(50):
            client = await Client.connect(address)
            client.writer.write(api_versions(n))
            await client.payload()
            await client.close()
            await until(lambda: listener.statistics.connections_open == 1)
            staying.writer.write(api_versions(n))
            await staying.payload()
        assert pool.made - made <= 2
        await staying.close()


async def test_a_full_writer_stops_producers_and_not_consumers() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    fakes.writer.full = True
    async with running(fakes) as (_, address):
        producer, other = await Client.connect(address), await Client.connect(address)
        producer.writer.write(frame(0, 7, 1, produce("t", batch())))
        await until(lambda: len(fakes.writer.resume) == 1)
        producer.writer.write(frame(0, 7, 2, produce("t", batch())) * 50)
        other.writer.write(api_versions(9))
        assert await correlation_id(other) == 9
        await asyncio.sleep(0.02)
        assert fakes.writer.appends == 0
        assert len(fakes.writer.resume) == 1
        fakes.writer.room()
        assert await correlation_id(producer) == 1
        assert await correlation_id(producer) == 2
        await producer.close()
        await other.close()


async def test_reading_stops_while_the_writer_is_full_even_between_requests() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        fakes.writer.held = True
        client.writer.write(frame(0, 7, 1, produce("t", batch())))
        await until(lambda: len(fakes.writer.waiting) == 1)
        fakes.writer.full = True
        client.writer.write(frame(0, 7, 2, produce("t", batch())))
        await until(lambda: len(fakes.writer.resume) == 1)
        # A peer can't push more than the sockets hold.
        client.writer.write(b"\0" * 64 * 1024 * 1024)
        await asyncio.sleep(0.2)
        assert client.writer.transport.get_write_buffer_size() > 32 * 1024 * 1024
        client.writer.transport.abort()
        fakes.writer.release()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">i", -1),
        struct.pack(">i", 2**31 - 1),
        struct.pack(">i", 512 * 1024 + 1),
        struct.pack(">i", 0),
        struct.pack(">i", 9) + b"\0" * 9,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        frame(99, 0, 1, b""),
        frame(4, 0, 1, b""),
        frame(3, 14, 1, b""),
        frame(0, 2, 1, b""),
        frame(3, -1, 1, b""),
        struct.pack(">ihhih", 10, 18, 0, 1, 500),
        frame(3, 1, 1, b"\x7f\xff\xff\xff"),
        frame(19, 2, 1, b"\x7f\xff\xff\xff"),
        frame(19, 7, 1, b"\0\xff\xff\xff\xff\x07"),
        frame(0, 7, 1, b"\xff"),
        frame(1, 12, 1, b"\x01\xff\xff\xff\xff\x0f\xff"),
    ],
)
async def test_what_is_no_request_closes_the_connection_without_a_word(data: bytes) -> None:
    fakes = Fakes(settings())
    async with running(fakes) as (listener, address):
        client, other = await Client.connect(address), await Client.connect(address)
        client.writer.write(data)
        assert await client.closed()
        assert listener.statistics.connections_closed_malformed == 1
        assert listener.statistics.handler_failures == 0
        other.writer.write(api_versions(3))
        assert await correlation_id(other) == 3
        await client.close()
        await other.close()


async def test_answers_before_the_malformed_request_still_leave() -> None:
    fakes = Fakes(settings())
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(api_versions(1) + api_versions(2) + frame(99, 0, 3, b""))
        assert await correlation_id(client) == 1
        assert await correlation_id(client) == 2
        assert await client.closed()
        await client.close()


async def test_a_large_first_frame_is_taken_only_behind_the_head_of_a_served_request() -> None:
    fakes = Fakes(settings(preauth_request_max_bytes=1000))
    fakes.topics.add("t")
    large = frame(0, 7, 1, produce("t", batch(value=b"x" * 5000)))
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(large)
        assert await correlation_id(client) == 1
        await client.close()
        client = await Client.connect(address)
        client.writer.write(struct.pack(">ihh", len(large), 77, 0) + b"\0" * 100)
        assert await client.closed()
        await client.close()
        client = await Client.connect(address)
        client.writer.write(large[:4])
        await client.writer.drain()
        assert await client.closed()
        await client.close()


async def test_frames_above_the_limit_close_the_connection() -> None:
    fakes = Fakes(settings(socket_request_max_bytes=2000))
    fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(api_versions(1))
        assert await correlation_id(client) == 1
        client.writer.write(frame(0, 7, 2, produce("t", batch(value=b"x" * 3000))))
        assert await client.closed()
        await client.close()


async def test_single_bytes_make_requests_too() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        for byte in frame(0, 7, 1, produce("t", batch())) + api_versions(2):
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        assert [await correlation_id(client), await correlation_id(client)] == [1, 2]
        await client.close()


async def test_connections_are_limited_in_all_and_by_address() -> None:
    for limit in ({"max_connections": 2}, {"max_connections_per_ip": 2}):
        fakes = Fakes(settings(**limit))
        async with running(fakes) as (listener, address):
            clients = [await Client.connect(address) for _ in range(3)]
            await until(lambda counts=listener.statistics: counts.connections_refused == 1)  # type: ignore[misc]
            assert await clients[2].closed()
            assert listener.statistics.connections_open == 2
            await clients[0].close()
            await until(lambda counts=listener.statistics: counts.connections_open == 1)  # type: ignore[misc]
            again = await Client.connect(address)
            again.writer.write(api_versions(1))
            assert await correlation_id(again) == 1
            for client in (*clients[1:], again):
                await client.close()


async def test_the_bound_of_connections_can_be_changed_while_the_agent_runs() -> None:
    fakes = Fakes(settings())
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        client.writer.write(api_versions(1))
        assert await correlation_id(client) == 1
        for resource, bound in (("", "1"), ("1", "2")):
            await fakes.configs.alter(ConfigKind.BROKER, resource, lambda _, bound=bound: {"max.connections": bound})  # type: ignore[misc]
            if bound == "1":
                refused = await Client.connect(address)
                assert await refused.closed()
                await refused.close()
        second = await Client.connect(address)
        second.writer.write(api_versions(1))
        assert await correlation_id(second) == 1
        assert listener.statistics.connections_refused == 1
        for one in (client, second):
            await one.close()


async def test_idle_connections_are_closed_and_busy_ones_are_not() -> None:
    fakes = Fakes(settings(connections_max_idle_ms=200))
    fakes.topics.add("t")
    fakes.writer.held = True
    async with running(fakes) as (listener, address):
        idle, busy, trickling = [await Client.connect(address) for _ in range(3)]
        busy.writer.write(frame(0, 7, 1, produce("t", batch())))

        async def trickle() -> None:
            for byte in frame(0, 7, 1, produce("t", batch())):
                trickling.writer.write(bytes((byte,)))
                await asyncio.sleep(0.02)

        slow = asyncio.create_task(trickle())
        assert await idle.closed()
        assert await trickling.closed()
        slow.cancel()
        await until(lambda: listener.statistics.connections_closed_idle == 2)
        assert listener.statistics.connections_open == 1
        fakes.writer.release()
        assert await correlation_id(busy) == 1
        for client in (idle, busy, trickling):
            await client.close()


async def test_drain_answers_what_is_in_flight_and_cuts_long_polls_short() -> None:
    fakes = Fakes(settings())
    view = fakes.topics.add("t")
    fakes.writer.held = True
    poll = struct.pack(">iiiib", -1, 60_000, 1, 1000, 0) + struct.pack(">ih", 1, 1) + b"t"
    poll += struct.pack(">iiqi", 1, 0, 0, 1000)
    async with running(fakes) as (listener, address):
        producer, consumer, quiet = [await Client.connect(address) for _ in range(3)]
        quiet.writer.write(api_versions(1))
        assert await correlation_id(quiet) == 1
        producer.writer.write(frame(0, 7, 1, produce("t", batch())))
        consumer.writer.write(frame(1, 4, 1, poll))
        await until(lambda: len(fakes.writer.waiting) == 1 and fakes.reader.waits == 1)
        listener.begin_drain()
        assert await consumer.closed()
        assert await quiet.closed()
        assert fakes.reader.cancelled == 1
        assert not await listener.drained(50)
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(address)
        fakes.writer.release()
        assert await correlation_id(producer) == 1
        assert await producer.closed()
        assert await listener.drained(1000)
        assert fakes.log.next[view.topic, 0] == 1
        for client in (producer, consumer, quiet):
            await client.close()


async def test_appends_go_on_after_their_connection_has_gone() -> None:
    fakes = Fakes(settings())
    view = fakes.topics.add("t")
    fakes.writer.held = True
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        client.writer.write(frame(0, 7, 1, produce("t", batch())))
        await until(lambda: len(fakes.writer.waiting) == 1)
        await client.close()
        await until(lambda: listener.statistics.connections_open == 0)
        assert listener.statistics.apis["Produce"].dropped == 1
        fakes.writer.release()
        assert fakes.log.next[view.topic, 0] == 1


async def test_a_long_poll_ends_with_its_connection() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    poll = struct.pack(">iiiib", -1, 60_000, 1, 1000, 0) + struct.pack(">ih", 1, 1) + b"t"
    poll += struct.pack(">iiqi", 1, 0, 0, 1000)
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(frame(1, 4, 1, poll))
        await until(lambda: fakes.reader.waits == 1)
        await client.close()
        await until(lambda: fakes.reader.cancelled == 1)


async def test_acks_zero_sends_nothing_and_an_error_closes() -> None:
    fakes = Fakes(settings())
    view = fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(frame(0, 7, 1, produce("t", batch(), acks=0)) + api_versions(2))
        assert await correlation_id(client) == 2
        assert fakes.log.next[view.topic, 0] == 1
        client.writer.write(frame(0, 7, 3, produce("unknown", batch(), acks=0)))
        assert await client.closed()
        await client.close()
        fakes.writer.error = 7
        client = await Client.connect(address)
        client.writer.write(frame(0, 7, 1, produce("t", batch(), acks=0)))
        assert await client.closed()
        await client.close()


async def test_a_bug_in_a_handler_is_an_error_code_and_no_traceback(logs: list[Any]) -> None:
    fakes = Fakes(settings())
    fakes.topics.fail = RuntimeError("a secret of the inside")
    async with running(fakes) as (listener, address):
        client = await Client.connect(address)
        request = make(3, 13, topics=None, include_topic_authorized_operations=False)
        client.writer.write(request_bytes(request, 1))
        payload = await client.payload()
        assert b"secret" not in payload
        assert response_of(request, payload)[1].error_code == -1
        assert listener.statistics.handler_failures == 1
        assert [entry for entry in logs if entry["log_level"] == "error"]
        fakes.topics.fail = Unreachable("the database is down")
        assert (await client.call(request)).error_code == 7
        assert listener.statistics.handler_failures == 1
        await client.close()


async def test_idle_connections_cost_little_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    fakes = Fakes(settings())
    async with running(fakes) as (listener, address):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clients = [await asyncio.open_connection(*address) for _ in range(1000)]
        await until(lambda: listener.statistics.connections_open == 1000)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kib < 100 * 1024, "both ends of a connection cost less than 100 KiB"
        for _, writer in clients:
            writer.transport.abort()
        await until(lambda: listener.statistics.connections_open == 0)


async def test_the_listener_says_where_it_listens_and_can_be_stopped_twice() -> None:
    listener = Listener(Fakes(settings()).services)
    host, port = await listener.start("127.0.0.1", 0)
    assert host == "127.0.0.1"
    assert port > 0
    listener.begin_drain()
    listener.begin_drain()
    await listener.stop()
    await listener.stop()


async def test_the_receive_buffer_is_free_as_soon_as_the_writer_has_copied_the_records() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    fakes.writer.held = True
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        client.writer.write(b"".join(frame(0, 7, n, produce("t", batch())) for n in range(3)))
        await until(lambda: len(fakes.writer.waiting) == 3)
        slab = fakes.writer.waiting[0].records.obj
        assert isinstance(slab, bytearray)
        assert not is_free(slab)
        for item in fakes.writer.waiting:
            item.records = memoryview(bytes(item.records))
        assert is_free(slab)
        fakes.writer.release()
        assert [await correlation_id(client) for _ in range(3)] == [0, 1, 2]
        await client.close()
