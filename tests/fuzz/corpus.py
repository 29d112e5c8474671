"""Bad input for decoders and for live connections: good requests of every API version served, and ways to spoil them.

Frames are without their length prefix; put `framed` around them for a socket. Everything is built from fixed values and a
seeded generator, so a failing case can be named and repeated.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from struct import pack
from typing import Any, NamedTuple

from kio.schema.request_header.v1.header import RequestHeader as HeaderV1
from kio.schema.request_header.v2.header import RequestHeader as HeaderV2

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.records import NewRecord, build_batch, wrap_payload
from tests.kio_entities import entity_class, milliseconds, sample, to_bytes

SERVED: dict[ApiKey, tuple[int, int]] = {
    ApiKey.PRODUCE: (3, 13),
    ApiKey.FETCH: (4, 18),
    ApiKey.LIST_OFFSETS: (1, 11),
    ApiKey.METADATA: (0, 13),
    ApiKey.API_VERSIONS: (0, 4),
    ApiKey.CREATE_TOPICS: (2, 7),
    ApiKey.DELETE_TOPICS: (1, 6),
    ApiKey.INIT_PRODUCER_ID: (0, 5),
    ApiKey.DESCRIBE_CONFIGS: (1, 4),
    ApiKey.DESCRIBE_CLUSTER: (0, 2),
}
"""Lowest and highest version of each API whose requests are read."""

TOPIC_ID = uuid.UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
INT_MAX = (1 << 31) - 1
NOW_MS = 1_700_000_000_000


class Frame(NamedTuple):
    """One request: `body_at` is where the body begins behind the header."""

    name: str
    api: ApiKey
    version: int
    data: bytes
    body_at: int


class BadBatch(NamedTuple):
    """A record batch no broker may take, and the Kafka code it is refused with."""

    name: str
    data: bytes
    code: int


def framed(data: bytes) -> bytes:
    """With the length prefix."""
    return pack(">i", len(data)) + data


def good_batch(codec: int = 0) -> bytes:
    """Three records, headers included."""
    headers = ((b"trace", b"1"), (b"none", None))
    return build_batch([NewRecord(NOW_MS + at, b"key", b"value", headers) for at in range(3)], codec=codec)


def _field_values(topic: str, topic_id: uuid.UUID, batch: bytes) -> Callable[[str, str], Any]:
    by_field: dict[str, Any] = {
        "topic": topic,
        "name": topic,
        "topic_id": topic_id,
        "topic_names": (topic,),
        "records": batch,
        "index": 0,
        "partition": 0,
        "partition_index": 0,
        "replica_id": -1,
        "max_wait": milliseconds(0),
        "max_bytes": 1 << 20,
        "partition_max_bytes": 1 << 20,
        "session_id": 0,
        "session_epoch": -1,
        "forgotten_topics_data": (),
        "timestamp": -1,
        "replication_factor": -1,
        "assignments": (),
        "configs": (),
        "producer_id": -1,
        "producer_epoch": -1,
        "resource_type": 2,
        "resource_name": topic,
        "current_leader_epoch": -1,
        "last_fetched_epoch": -1,
    }
    nullable = {"transactional_id", "configuration_keys"}

    def value(_cls: str, field: str) -> Any:
        return _Null if field in nullable else by_field.get(field)

    return value


class _NullType:
    """Stands for None where `sample` takes None for "the usual"."""


_Null = _NullType()


def request_frames(
    *, topic: str = "flights", topic_id: uuid.UUID = TOPIC_ID, batch: bytes | None = None, client_id: str = "corpus"
) -> Iterator[Frame]:
    """One well-formed request for each API version that is served, as kio writes it."""
    override = _field_values(topic, topic_id, good_batch() if batch is None else batch)
    for api, (first, last) in SERVED.items():
        for version in range(first, last + 1):
            cls = entity_class(api.name.lower(), version, "request")
            entity = sample(cls, override, _Null)
            header = _header(api, version, client_id)
            yield Frame(f"{api.name} v{version}", api, version, header + to_bytes(entity), len(header))


def _header(api: int, version: int, client_id: str | None, correlation_id: int = 7) -> bytes:
    flexible = isinstance(api, ApiKey) and version >= api.flexible_from
    make: Any = HeaderV2 if flexible else HeaderV1
    return to_bytes(
        make(request_api_key=api, request_api_version=version, correlation_id=correlation_id, client_id=client_id)
    )


def truncations(frame: Frame) -> Iterator[bytes]:
    """The frame cut off at every byte."""
    for end in range(len(frame.data)):
        yield frame.data[:end]


_NUMBERS = (
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xfe",
    b"\x80\x00\x00\x00",
    b"\x00\x0f\x42\x40",
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x00",
    b"\x00",
)


def hostile_numbers(frame: Frame) -> Iterator[bytes]:
    """Counts and lengths that lie: huge, negative, null and overlong numbers over each position of the body in turn."""
    data = frame.data
    for at in range(frame.body_at, len(data)):
        for number in _NUMBERS:
            yield data[:at] + number + data[at + len(number) :]
            yield data[:at] + number + data[at + 1 :]


def mutations(frame: Frame, rng: random.Random, count: int) -> Iterator[bytes]:
    """Flipped, overwritten, inserted, dropped and doubled bytes."""
    for _ in range(count):
        data = bytearray(frame.data)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            kind = rng.randrange(5)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.randrange(256)
            elif kind == 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 6))
            elif kind == 3 and len(data) > 8:
                del data[at : at + rng.randrange(1, 6)]
            else:
                end = min(len(data), at + rng.randrange(1, 12))
                data[at:at] = data[at:end]
        yield bytes(data)


def hostile_headers() -> Iterator[tuple[str, bytes]]:
    """Requests whose header is wrong or odd; each wants an error or a clean close."""
    yield "empty frame", b""
    yield "nine bytes", bytes(9)
    yield "unknown api key", _header(999, 0, "c")
    yield "negative api key", pack(">hhih", -1, 0, 1, -1)
    yield "controller's api", _header(ApiKey.VOTE, 0, "c")
    for api, (_, last) in SERVED.items():
        if api != ApiKey.API_VERSIONS:
            yield f"{api.name} of a version too high", _header(api, last + 1, "c")
            yield f"{api.name} of a negative version", pack(">hhih", api, -1, 1, -1)
    yield "client id longer than the frame", pack(">hhih", ApiKey.METADATA, 1, 1, 0x7FFF) + b"abc"
    head = pack(">hhih", ApiKey.METADATA, 12, 1, -1)
    yield "duplicate tags", head + b"\x02\x05\x00\x05\x00"
    yield "tags that descend", head + b"\x02\x05\x00\x01\x00"
    yield "tag larger than the frame", head + b"\x01\x00\xff\xff\x03"
    yield "very many tags", head + b"\xff\xff\xff\xff\x07"


def odd_but_good_headers() -> Iterator[tuple[str, bytes]]:
    """Requests with unusual headers that have to be answered: Metadata for no topics."""
    body = b"\0\0\0\0"
    yield "client id null", pack(">hhih", ApiKey.METADATA, 1, 1, -1) + body
    yield "client id empty", pack(">hhih", ApiKey.METADATA, 1, 1, 0) + body
    yield "client id of 32767 bytes", pack(">hhih", ApiKey.METADATA, 1, 1, 0x7FFF) + b"c" * 0x7FFF + body
    yield "client id that is not UTF-8", pack(">hhih", ApiKey.METADATA, 1, 1, 2) + b"\xff\xfe" + body
    yield "unknown tagged field", pack(">hhih", ApiKey.METADATA, 9, 1, -1) + b"\x01\x63\x02ab" + b"\x01\0\0\0\0"


def hostile_streams(limit: int) -> Iterator[tuple[str, bytes]]:
    """Bytes that are no request stream at all, for a connection whose frames may have `limit` bytes."""
    yield "size -1", pack(">i", -1) + bytes(20)
    yield "size INT_MIN", pack(">i", -(1 << 31)) + bytes(20)
    yield "size INT_MAX", pack(">i", INT_MAX) + bytes(20)
    yield "size one more than allowed", pack(">i", limit + 1) + bytes(20)
    yield "size 0", pack(">i", 0)
    yield "TLS client hello", bytes.fromhex("16030100c8010000c40303") + bytes(200)
    yield "HTTP GET", b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"


def crowded_frames(count: int) -> Iterator[tuple[str, ApiKey, int, bytes]]:
    """Requests with `count` of the smallest partitions or topics: (name, api, version, body)."""
    partition = pack(">ii", 0, 0)
    produce = pack(">hhi", -1, 1, 1000) + pack(">i", 1) + b"\0\1t" + pack(">i", count) + partition * count
    yield "Produce of tiny partitions", ApiKey.PRODUCE, 3, produce
    topics = (b"\0\1t" + pack(">i", 1) + partition) * count
    yield "Produce of tiny topics", ApiKey.PRODUCE, 3, pack(">hhi", -1, 1, 1000) + pack(">i", count) + topics
    empty = b"\0\1t\0\0\0\0" * count
    yield "Produce of empty topics", ApiKey.PRODUCE, 3, pack(">hhi", -1, 1, 1000) + pack(">i", count) + empty
    head = pack(">iiiib", -1, 0, 1, 1 << 20, 0)
    yield "Fetch of empty topics", ApiKey.FETCH, 4, head + pack(">i", count) + empty
    forget = head + pack(">iii", 0, -1, 0) + pack(">i", count) + empty
    yield "Fetch that forgets empty topics", ApiKey.FETCH, 7, forget
    fetch = head + pack(">i", 1) + b"\0\1t" + pack(">i", count) + pack(">iqi", 0, 0, 1 << 20) * count
    yield "Fetch of many partitions", ApiKey.FETCH, 4, fetch
    yield "Metadata of many topics", ApiKey.METADATA, 1, pack(">i", count) + b"\0\1t" * count


def _record(offset_delta: int = 0) -> bytes:
    return b"\x0c\0\0" + bytes((2 * offset_delta,)) + b"\1\1\0"


def bad_batches() -> Iterator[BadBatch]:
    """Batches that Produce refuses, each for one reason; timestamps are those of NOW_MS."""
    good = good_batch()
    stamps = {"base_timestamp": NOW_MS, "max_timestamp": NOW_MS}

    def wrap(payload: bytes = _record(), **fields: int) -> bytes:
        return wrap_payload(payload, **{**stamps, **fields})

    yield BadBatch("empty", b"", 87)
    yield BadBatch("cut short", good[:-1], 87)
    yield BadBatch("checksum off by one", good[:17] + bytes((good[17] ^ 1,)) + good[18:], 2)
    yield BadBatch("payload changed", good[:-1] + bytes((good[-1] ^ 1,)), 2)
    yield BadBatch("two batches", good + good, 87)
    yield BadBatch("bytes behind the batch", good + b"\0" * 5, 87)
    for magic, code in ((0, 87), (1, 87), (3, 2), (-1, 2)):
        yield BadBatch(f"magic {magic}", wrap(magic=magic), code)
    for length, code in ((-1, 2), (0, 2), (13, 2), (48, 2), (INT_MAX, 87)):
        yield BadBatch(f"length {length}", good[:8] + pack(">i", length) + good[12:], code)
    yield BadBatch("no records", wrap(b"", record_count=0, last_offset_delta=-1), 87)
    yield BadBatch("count is not the last delta plus one", wrap(record_count=2), 87)
    yield BadBatch("count of INT_MAX", wrap(record_count=INT_MAX, last_offset_delta=INT_MAX - 1), 87)
    yield BadBatch("negative count", wrap(record_count=-1, last_offset_delta=-2), 87)
    yield BadBatch("control batch", wrap(attributes=0x20), 87)
    yield BadBatch("transaction without producer id", wrap(attributes=0x10), 53)
    yield BadBatch("producer id without sequence", wrap(producer_id=5, producer_epoch=0), 87)
    yield BadBatch("negative sequence", wrap(producer_id=5, producer_epoch=0, base_sequence=-7), 87)
    yield BadBatch("base offset not 0", wrap(base_offset=1), 87)
    yield BadBatch("LogAppendTime bit", wrap(attributes=0x08), 32)
    yield BadBatch("delete horizon bit", wrap(attributes=0x40), 87)
    for codec in (5, 6, 7):
        yield BadBatch(f"compression type {codec}", wrap(attributes=codec), 87)
    yield BadBatch("timestamp of 2^63 - 1", wrap(max_timestamp=(1 << 63) - 1), 32)
