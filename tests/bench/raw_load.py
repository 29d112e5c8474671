"""A raw load generator: prebuilt Produce v7 requests, a few in flight per connection, and raw Fetch v11 readers.

Usage: python -m tests.bench.raw_load produce BOOTSTRAP TOPIC --record 1024 --batch 65536 --batches 16 --connections 8
           --in-flight 5 --partitions 16 --seconds 4
       python -m tests.bench.raw_load fetch BOOTSTRAP TOPIC --connections 4 --partitions 16 --bytes N
The same bytes go to both systems. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic, delete_topic
from schemas.kafka.batch import HEADER_BYTES, batch_size, read_header
from schemas.kafka.records import build_batch

BASE_TIMESTAMP_MS = time.time_ns() // 1_000_000
"""Of now: Kafka's retention goes by the records' timestamps and would delete old ones under the reader."""


def build(record_bytes: int, batch_bytes: int) -> tuple[bytes, int]:
    """One uncompressed batch of about `batch_bytes`, with its number of records."""
    count = max(1, (batch_bytes - HEADER_BYTES) // (record_bytes + 8))
    value = (b"0123456789abcdef" * (record_bytes // 16 + 1))[:record_bytes]
    return bytes(build_batch([(BASE_TIMESTAMP_MS, None, value, ())] * count)), count


def produce_request(
    topic: str, first: int, batch: bytes, batches: int, partitions: int, correlation: int
) -> list[bytes]:
    """A Produce v7 request with `batches` partitions, from partition `first` on, as buffers."""
    name = topic.encode()
    head = struct.pack(">hhih", 0, 7, correlation, 4) + b"load" + struct.pack(">hhi", -1, -1, 30_000)
    head += struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", batches)
    parts = [head]
    for n in range(batches):
        parts.append(struct.pack(">ii", (first + n) % partitions, len(batch)))
        parts.append(batch)
    total = sum(map(len, parts))
    parts[0] = struct.pack(">i", total) + parts[0]
    return parts


def receive(sock: socket.socket) -> bytes:
    """One response frame."""
    header = receive_exactly(sock, 4)
    return receive_exactly(sock, struct.unpack(">i", header)[0])


def receive_exactly(sock: socket.socket, length: int) -> bytes:
    """`length` bytes."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    at = 0
    while at < length:
        got = sock.recv_into(view[at:])
        if not got:
            raise ConnectionError("closed by the server")
        at += got
    return bytes(buffer) if length < 65536 else buffer  # type: ignore[return-value]


def connect(bootstrap: str) -> socket.socket:
    """A connection with Nagle off."""
    host, _, port = bootstrap.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def check_produce(answer: bytes, topic: str) -> None:
    """Every partition must have answered error 0."""
    at = 4 + 4 + 2 + len(topic)
    (count,) = struct.unpack_from(">i", answer, at)
    at += 4
    for _ in range(count):
        (error,) = struct.unpack_from(">h", answer, at + 4)
        if error:
            raise RuntimeError(f"produce answered error {error}")
        at += 4 + 2 + 8 + 8 + 8


def in_threads(count: int, worker: Callable[[int], None]) -> float:
    """Run `worker(0)` to `worker(count - 1)` at once; returns the seconds they took, or raises the first failure."""
    errors: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            worker(index)
        except BaseException as error:
            errors.append(error)

    started = time.monotonic()
    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return time.monotonic() - started


def produce(args: argparse.Namespace) -> dict[str, float]:
    """Closed loop with `in_flight` requests per connection for `seconds`."""
    batch, records = build(args.record, args.batch)
    per_request = args.batches
    latencies: list[float] = []
    totals = [0] * args.connections
    stop_at = time.monotonic() + args.seconds

    def worker(index: int) -> None:
        sock = connect(args.bootstrap)
        sent: deque[float] = deque()
        request = b"".join(
            produce_request(args.topic, index * per_request % args.partitions, batch, per_request, args.partitions, 1)
        )
        while True:
            now = time.monotonic()
            if now < stop_at and len(sent) < args.in_flight:
                sent.append(now)
                sock.sendall(request)
                continue
            if not sent:
                break
            check_produce(receive(sock), args.topic)
            latencies.append(time.monotonic() - sent.popleft())
            totals[index] += 1
        sock.close()

    seconds = in_threads(args.connections, worker)
    latencies.sort()
    requests = sum(totals)
    return {
        "seconds": seconds,
        "requests": requests,
        "records": requests * per_request * records,
        "bytes": requests * per_request * len(batch),
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }


def fetch_request(topic: str, offsets: dict[int, int], correlation: int) -> bytes:
    """A Fetch v11 request by name, sessionless."""
    name = topic.encode()
    body = struct.pack(">hhih", 1, 11, correlation, 4) + b"load"
    body += struct.pack(">iiiibii", -1, 500, 1, 50 * 2**20, 0, 0, -1)
    body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", len(offsets))
    for partition, offset in offsets.items():
        body += struct.pack(">iiqqi", partition, -1, offset, -1, 1024 * 1024)
    body += struct.pack(">ih", 0, 0)
    return struct.pack(">i", len(body)) + body


def fetch(args: argparse.Namespace) -> dict[str, float]:
    """Read all partitions from the start to `bytes`, each connection its own partitions."""
    totals = [0] * args.connections
    counts = [0] * args.connections

    def worker(index: int) -> None:
        sock = connect(args.bootstrap)
        offsets = dict.fromkeys(range(index, args.partitions, args.connections), 0)
        goal = args.bytes * len(offsets) // args.partitions
        idle = 0
        while totals[index] < goal and idle < 5:
            sock.sendall(fetch_request(args.topic, offsets, 1))
            got = read_fetch(memoryview(receive(sock)), offsets)
            totals[index] += got[0]
            counts[index] += got[1]
            idle = 0 if got[0] else idle + 1
        sock.close()

    return {"seconds": in_threads(args.connections, worker), "bytes": sum(totals), "records": sum(counts)}


def read_fetch(answer: memoryview, offsets: dict[int, int]) -> tuple[int, int]:
    """Walk the batches of a Fetch v11 answer, move `offsets` on; returns bytes and records."""
    at = 4 + 4
    error, _session, topics = struct.unpack_from(">hii", answer, at)
    if error:
        raise RuntimeError(f"fetch answered error {error}")
    at += 10
    total = records = 0
    for _ in range(topics):
        (name_length,) = struct.unpack_from(">h", answer, at)
        at += 2 + name_length
        (parts,) = struct.unpack_from(">i", answer, at)
        at += 4
        for _ in range(parts):
            partition, error, _hw, _lso, _start, aborted = struct.unpack_from(">ihqqqi", answer, at)
            at += 34 + 16 * max(0, aborted) + 4
            if error:
                raise RuntimeError(f"partition {partition} answered error {error}")
            (length,) = struct.unpack_from(">i", answer, at)
            at += 4
            end = at + max(0, length)
            while at < end:
                if end - at < HEADER_BYTES:
                    break
                header = read_header(answer, at)
                if header.size > end - at:
                    break
                offset_next = header.base_offset + header.last_offset_delta + 1
                if header.base_offset != offsets[partition]:
                    raise RuntimeError(
                        f"partition {partition}: got offset {header.base_offset}, not {offsets[partition]}"
                    )
                offsets[partition] = offset_next
                records += header.record_count
                at += batch_size(answer, at)
            total += max(0, length)
            at = end
    return total, records


def single(args: argparse.Namespace) -> dict[str, float]:
    """One record of `record` bytes, one request in flight: acknowledgement latency."""
    args.connections, args.in_flight, args.batches = 1, 1, 1
    return produce(args)


def main() -> None:
    """Run one load and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["produce", "fetch", "single", "create", "delete"])
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("--record", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=65536)
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--in-flight", type=int, default=5)
    parser.add_argument("--partitions", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--bytes", type=int, default=2**30)
    args = parser.parse_args()
    if args.mode in ("create", "delete"):

        async def admin() -> None:
            async with await KafkaClient.connect(args.bootstrap) as client:
                if args.mode == "create":
                    await create_topic(client, args.topic, args.partitions, {})
                    await asyncio.sleep(0.5)  # Kafka answers before its partitions have leaders
                else:
                    await delete_topic(client, args.topic)

        asyncio.run(admin())
        print("{}")
        return
    print(json.dumps({"produce": produce, "fetch": fetch, "single": single}[args.mode](args)))


if __name__ == "__main__":
    main()
