"""Times of the hand-written codecs beside kio's, of receiving frames, and of checking batches. A script, not a test.

    PYTHONSAFEPATH=1 .venv/bin/python -m tests.bench.bench_codec

Each figure is the best of many short rounds, in microseconds a call. kio reads with compiled code and copies records.
"""

from __future__ import annotations

import datetime
import sys
import time
import uuid
from collections.abc import Callable
from struct import pack
from typing import Any

from kio.serial import entity_reader

from schemas.kafka.check_batch import check_batch
from schemas.kafka.fetch import decode_fetch_request
from schemas.kafka.fetch_response import FetchedPartition, FetchedTopic, encode_fetch_response
from schemas.kafka.framing import FrameReader
from schemas.kafka.metadata import BrokerAddress, TopicMetadata, encode_metadata_response
from schemas.kafka.produce import PartitionResult, TopicResult, decode_produce_request, encode_produce_response
from schemas.kafka.receive_pool import ReceivePool
from schemas.kafka.records import NewRecord, build_batch
from schemas.kafka.wire import read_request_header
from tests.fuzz.corpus import request_frames
from tests.kio_entities import entity_class, to_bytes

KIB = 1024
MIB = KIB * KIB
TOPIC_ID = uuid.UUID(int=5)
NOW_MS = 1_700_000_000_000


def microseconds(run: Callable[[], Any], rounds: int = 60, seconds: float = 0.01) -> float:
    """Best time of a call."""
    run()
    started = time.perf_counter()
    run()
    count = max(1, int(seconds / max(time.perf_counter() - started, 1e-7)))
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, (time.perf_counter() - started) / count)
    return best * 1e6


def row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any] | None = None) -> None:
    """One line of the table."""
    mine = microseconds(ours)
    other = "" if theirs is None else f"{microseconds(theirs):12.2f}"
    print(f"{name:56s}{mine:12.2f}{other}", flush=True)


def kio_size(entity: Any) -> int:
    """Bytes kio writes, with the writer looked up before."""
    return len(to_bytes(entity))


def produce(version: int, partitions: int, record_bytes: int) -> None:
    """Decode one Produce request."""
    cls = entity_class("produce", version, "request")
    topic_cls, part_cls = _nested(cls, "TopicProduceData"), _nested(cls, "PartitionProduceData")
    parts = tuple(part_cls(index=at, records=bytes(record_bytes)) for at in range(partitions))
    key = {"topic_id": TOPIC_ID} if version >= 13 else {"name": "flights"}
    entity = cls(
        transactional_id=None,
        acks=-1,
        timeout=datetime.timedelta(milliseconds=1000),
        topic_data=(topic_cls(**key, partition_data=parts),),
    )
    data = to_bytes(entity)
    view = memoryview(data)
    read = entity_reader(cls)
    row(
        f"decode Produce v{version}, {partitions} x {record_bytes} B",
        lambda: decode_produce_request(view, 0, version),
        lambda: read(data, 0),
    )
    results = [PartitionResult(at, 0, 10**12) for at in range(partitions)]
    topics = [TopicResult("flights", TOPIC_ID, results)]
    answer_cls = entity_class("produce", version, "response")
    answer = entity_reader(answer_cls)(encode_produce_response(version, topics), 0)[0]
    row(
        f"encode Produce v{version} response, {partitions} partitions",
        lambda: encode_produce_response(version, topics),
        lambda: kio_size(answer),
    )


def _nested(cls: Any, name: str) -> Any:
    return getattr(sys.modules[cls.__module__], name)


def fetch(version: int, partitions: int, record_bytes: int) -> None:
    """Encode one Fetch response."""
    records = bytes(record_bytes)

    def topics() -> list[FetchedTopic]:
        parts = [FetchedPartition(at, 0, 10**9, 10**9, 0, (records,), record_bytes) for at in range(partitions)]
        return [FetchedTopic("flights", TOPIC_ID, parts)]

    made = topics()
    cls = entity_class("fetch", version, "response")
    answer = entity_reader(cls)(b"".join(encode_fetch_response(version, made)[0]), 0)[0]
    row(
        f"encode Fetch v{version}, {partitions} x {record_bytes} B",
        lambda: encode_fetch_response(version, made),
        lambda: kio_size(answer),
    )
    row("  with its objects made", lambda: encode_fetch_response(version, topics()))


def metadata(version: int, partitions: int) -> None:
    """Encode one Metadata response."""
    brokers = [BrokerAddress(1, "127.0.0.1", 9092)]
    topics = [TopicMetadata(0, "flights", TOPIC_ID, leaders=[1] * partitions)]

    def encode() -> bytes:
        return encode_metadata_response(version, brokers, topics, cluster_id="cluster", controller_id=1)

    answer = entity_reader(entity_class("metadata", version, "response"))(encode(), 0)[0]
    row(f"encode Metadata v{version}, {partitions} partitions", encode, lambda: kio_size(answer))


def headers() -> None:
    """Request headers and Fetch requests of the corpus."""
    frames = {frame.name: memoryview(frame.data) for frame in request_frames(client_id="rdkafka")}
    row("decode request header", lambda: read_request_header(frames["PRODUCE v9"]))
    for version in (11, 16):
        frame = frames[f"FETCH v{version}"]
        at = read_request_header(frame)[1]
        read, data = entity_reader(entity_class("fetch", version, "request")), bytes(frame[at:])
        row(
            f"decode Fetch v{version}, 1 partition",
            lambda f=frame, a=at, v=version: decode_fetch_request(f, a, v),  # type: ignore[misc]
            lambda r=read, d=data: r(d, 0),  # type: ignore[misc]
        )


def batches() -> None:
    """Header rules and checksum of one batch."""
    for count, size in ((1, 1), (16, 1000), (64, 1000)):
        batch = memoryview(build_batch([NewRecord(NOW_MS, None, bytes(size))] * count))
        row(f"check batch of {len(batch)} B", lambda b=batch: check_batch(b, version=9, max_bytes=MIB, now_ms=NOW_MS))  # type: ignore[misc]


def receive(frame_bytes: int, held: int, *, recycle: bool) -> None:
    """Copy a stream of frames into the reader's buffers in reads of at most 256 KiB, and hold the last `held` frames."""
    stream = (pack(">i", frame_bytes) + bytes(frame_bytes)) * max(1, 4 * MIB // frame_bytes)
    source = memoryview(stream)
    reader = FrameReader(ReceivePool() if recycle else ReceivePool(0), 100 * MIB)
    kept: list[memoryview] = []

    def run() -> None:
        at = 0
        while at < len(source):
            buffer = reader.get_buffer()
            count = min(len(buffer), len(source) - at, 256 * KIB)
            buffer[:count] = source[at : at + count]
            del buffer
            kept.extend(reader.buffer_updated(count))
            at += count
            if len(kept) > held:
                del kept[: len(kept) - held]

    kind = "recycled" if recycle else "fresh"
    per_mib = microseconds(run) * MIB / len(stream)
    print(f"{f'receive frames of {frame_bytes} B, {held} held, {kind} (us/MiB)':56s}{per_mib:12.2f}", flush=True)


def main() -> None:
    """Print the table."""
    print(f"{'microseconds a call':56s}{'ours':>12s}{'kio':>12s}")
    headers()
    for version in (7, 9, 13):
        produce(version, 1, 300)
        produce(version, 10, 16 * KIB)
    for version in (11, 12, 17):
        fetch(version, 10, 16 * KIB)
    for partitions in (1, 1000, 5000):
        metadata(12, partitions)
    metadata(8, 1000)
    batches()
    for size, held in ((200, 100), (16 * KIB, 500), (MIB, 20), (MIB, 40)):
        for recycle in (True, False):
            receive(size, held, recycle=recycle)


if __name__ == "__main__":
    main()
