"""The requests simulated clients send and what they read out of the answers, in two generations of the protocol.

Written by hand apart from the broker's codecs, so that both check each other. `CLASSIC` are versions before flexible
headers, with topic names; `FLEXIBLE` are new versions with tagged fields and topic ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, pack
from typing import NamedTuple, TypeVar
from uuid import UUID

from neve.simulation.history import Key

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, DELETE_RECORDS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 21, 22
_I16, _I32, _I64 = Struct(">h"), Struct(">i"), Struct(">q")
CLIENT_ID = b"sim"
T = TypeVar("T")


class Generation(NamedTuple):
    """The version of each API that a client speaks."""

    name: str
    flexible: bool
    produce: int
    fetch: int
    list_offsets: int
    metadata: int
    init_producer_id: int
    delete_records: int


CLASSIC = Generation("classic", False, 8, 11, 5, 8, 1, 1)
FLEXIBLE = Generation("flexible", True, 13, 17, 8, 12, 4, 2)


class Produced(NamedTuple):
    """One partition of a Produce answer."""

    error: int
    offset: int
    append_ms: int
    log_start: int


class Fetched(NamedTuple):
    """One partition of a Fetch answer."""

    error: int
    high_watermark: int
    last_stable_offset: int
    log_start: int
    records: bytes


class Listed(NamedTuple):
    """One partition of a ListOffsets answer."""

    error: int
    offset: int


class TopicMetadata(NamedTuple):
    """One topic of a Metadata answer."""

    error: int
    topic_id: UUID
    partitions: int


class Cursor:
    """Reads one answer from front to back."""

    def __init__(self, data: bytes, flexible: bool) -> None:
        self.data, self.at, self.flexible = data, 0, flexible

    def i8(self) -> int:
        """A signed byte."""
        self.at += 1
        return int.from_bytes(self.data[self.at - 1 : self.at], "big", signed=True)

    def i16(self) -> int:
        """Two bytes."""
        self.at += 2
        return int(_I16.unpack_from(self.data, self.at - 2)[0])

    def i32(self) -> int:
        """Four bytes."""
        self.at += 4
        return int(_I32.unpack_from(self.data, self.at - 4)[0])

    def i64(self) -> int:
        """Eight bytes."""
        self.at += 8
        return int(_I64.unpack_from(self.data, self.at - 8)[0])

    def uvarint(self) -> int:
        """An unsigned varint."""
        shift = value = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def count(self) -> int:
        """Length of an array or of bytes; -1 for null."""
        return self.uvarint() - 1 if self.flexible else self.i32()

    def string(self) -> str:
        """A string; empty for null."""
        return self._take(self.uvarint() - 1 if self.flexible else self.i16()).decode()

    def blob(self) -> bytes:
        """Bytes; empty for null."""
        return self._take(self.count())

    def uuid(self) -> UUID:
        """Sixteen bytes."""
        return UUID(bytes=self._take(16))

    def _take(self, length: int) -> bytes:
        length = max(length, 0)
        assert self.at + length <= len(self.data), "the answer ends inside a field"
        self.at += length
        return self.data[self.at - length : self.at]

    def tags(self) -> None:
        """Skip tagged fields."""
        if self.flexible:
            for _tag in range(self.uvarint()):
                self.uvarint()
                self._take(self.uvarint())

    def end(self) -> None:
        """Nothing may be left."""
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes are left behind the answer"


class Codec:
    """Encodes and decodes for one generation."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.flexible = generation.flexible
        self._tags = b"\x00" if self.flexible else b""

    def _count(self, count: int) -> bytes:
        return _uvarint(count + 1) if self.flexible else _I32.pack(count)

    def _string(self, text: str | None) -> bytes:
        if text is None:
            return b"\x00" if self.flexible else b"\xff\xff"
        data = text.encode()
        return (_uvarint(len(data) + 1) if self.flexible else _I16.pack(len(data))) + data

    def frame(self, api: int, version: int, correlation_id: int, body: bytes) -> bytes:
        """A whole request with its length."""
        tags = b"" if api == API_VERSIONS else self._tags
        head = pack(">hhi", api, version, correlation_id) + _I16.pack(len(CLIENT_ID)) + CLIENT_ID + tags
        return _I32.pack(len(head) + len(body)) + head + body

    def answer(self, api: int, data: bytes) -> Cursor:
        """A cursor behind the correlation id and the header's tags."""
        cursor = Cursor(data, self.flexible and api != API_VERSIONS)
        cursor.at = 4
        cursor.tags()
        return cursor

    def _topic(self, name: str, topics: Mapping[str, TopicMetadata]) -> bytes:
        return topics[name].topic_id.bytes if self.flexible else self._string(name)

    def _read_topic(self, cursor: Cursor, topics: Mapping[str, TopicMetadata]) -> str:
        if not self.flexible:
            return cursor.string()
        topic_id = cursor.uuid()
        return next(name for name, topic in topics.items() if topic.topic_id == topic_id)

    def produce(
        self, batches: Sequence[tuple[Key, bytes]], acks: int, timeout_ms: int, topics: Mapping[str, TopicMetadata]
    ) -> bytes:
        """A Produce body: one batch per partition."""
        grouped = by_topic(batches)
        out = [self._string(None), _I16.pack(acks), _I32.pack(timeout_ms), self._count(len(grouped))]
        for name, parts in grouped:
            out += [self._topic(name, topics), self._count(len(parts))]
            for partition, data in parts:
                out += [_I32.pack(partition), self._count(len(data)), data, self._tags]
            out.append(self._tags)
        out.append(self._tags)
        return b"".join(out)

    def produced(self, cursor: Cursor, topics: Mapping[str, TopicMetadata]) -> dict[Key, Produced]:
        """The answer to Produce."""
        out: dict[Key, Produced] = {}
        for _topic in range(cursor.count()):
            name = self._read_topic(cursor, topics)
            for _partition in range(cursor.count()):
                partition, error, offset = cursor.i32(), cursor.i16(), cursor.i64()
                append_ms, log_start = cursor.i64(), cursor.i64()
                for _record_error in range(cursor.count()):
                    cursor.i32()
                    cursor.string()
                    cursor.tags()
                cursor.string()
                cursor.tags()
                out[name, partition] = Produced(error, offset, append_ms, log_start)
            cursor.tags()
        cursor.i32()
        cursor.tags()
        cursor.end()
        return out

    def fetch(
        self,
        positions: Sequence[tuple[Key, int]],
        max_wait_ms: int,
        max_bytes: int,
        partition_max_bytes: int,
        topics: Mapping[str, TopicMetadata],
    ) -> bytes:
        """A Fetch body without a session."""
        grouped = by_topic(positions)
        out = [] if self.flexible else [_I32.pack(-1)]
        out += [pack(">iiib", max_wait_ms, 1, max_bytes, 0), pack(">ii", 0, -1), self._count(len(grouped))]
        for name, parts in grouped:
            out += [self._topic(name, topics), self._count(len(parts))]
            for partition, offset in parts:
                fetched_epoch = _I32.pack(-1) if self.flexible else b""
                out += [pack(">iiq", partition, -1, offset), fetched_epoch, pack(">qi", -1, partition_max_bytes)]
                out.append(self._tags)
            out.append(self._tags)
        out += [self._count(0), self._string(""), self._tags]
        return b"".join(out)

    def fetched(self, cursor: Cursor, topics: Mapping[str, TopicMetadata]) -> tuple[int, dict[Key, Fetched]]:
        """The answer to Fetch: top-level error and partitions."""
        cursor.i32()
        error = cursor.i16()
        cursor.i32()
        out: dict[Key, Fetched] = {}
        for _topic in range(cursor.count()):
            name = self._read_topic(cursor, topics)
            for _partition in range(cursor.count()):
                partition, code = cursor.i32(), cursor.i16()
                watermarks = cursor.i64(), cursor.i64(), cursor.i64()
                for _aborted in range(cursor.count()):
                    cursor.i64()
                    cursor.i64()
                    cursor.tags()
                cursor.i32()
                records = cursor.blob()
                cursor.tags()
                out[name, partition] = Fetched(code, *watermarks, records)
            cursor.tags()
        cursor.tags()
        cursor.end()
        return error, out

    def list_offsets(self, queries: Sequence[tuple[Key, int]], topics: Mapping[str, TopicMetadata]) -> bytes:
        """A ListOffsets body; queries are (key, timestamp). Both generations name topics."""
        grouped = by_topic(queries)
        out = [_I32.pack(-1), b"\x00", self._count(len(grouped))]
        for name, parts in grouped:
            out += [self._string(name), self._count(len(parts))]
            for partition, timestamp in parts:
                out += [pack(">iiq", partition, -1, timestamp), self._tags]
            out.append(self._tags)
        out.append(self._tags)
        return b"".join(out)

    def listed(self, cursor: Cursor) -> dict[Key, Listed]:
        """The answer to ListOffsets."""
        cursor.i32()
        out: dict[Key, Listed] = {}
        for _topic in range(cursor.count()):
            name = cursor.string()
            for _partition in range(cursor.count()):
                partition, error = cursor.i32(), cursor.i16()
                cursor.i64()
                offset = cursor.i64()
                cursor.i32()
                cursor.tags()
                out[name, partition] = Listed(error, offset)
            cursor.tags()
        cursor.tags()
        cursor.end()
        return out

    def delete_records(self, wanted: Sequence[tuple[Key, int]]) -> bytes:
        """A DeleteRecords body: the offset up to which each partition loses its records."""
        grouped = by_topic(wanted)
        out = [self._count(len(grouped))]
        for name, parts in grouped:
            out += [self._string(name), self._count(len(parts))]
            out += [pack(">iq", partition, offset) + self._tags for partition, offset in parts]
            out.append(self._tags)
        out += [_I32.pack(10_000), self._tags]
        return b"".join(out)

    def deleted(self, cursor: Cursor) -> dict[Key, Listed]:
        """The answer to DeleteRecords: errors and log starts."""
        cursor.i32()
        out: dict[Key, Listed] = {}
        for _topic in range(cursor.count()):
            name = cursor.string()
            for _partition in range(cursor.count()):
                partition, log_start = cursor.i32(), cursor.i64()
                out[name, partition] = Listed(cursor.i16(), log_start)
                cursor.tags()
            cursor.tags()
        cursor.tags()
        cursor.end()
        return out

    def metadata(self, names: Sequence[str]) -> bytes:
        """A Metadata body that creates nothing."""
        out = [self._count(len(names))]
        for name in names:
            out += [bytes(16) if self.flexible else b"", self._string(name), self._tags]
        out.append(b"\x00\x00" if self.flexible else b"\x00\x00\x00")
        out.append(self._tags)
        return b"".join(out)

    def described(self, cursor: Cursor) -> dict[str, TopicMetadata]:
        """The answer to Metadata."""
        cursor.i32()
        for _broker in range(cursor.count()):
            cursor.i32()
            cursor.string()
            cursor.i32()
            cursor.string()
            cursor.tags()
        cursor.string()
        cursor.i32()
        out: dict[str, TopicMetadata] = {}
        for _topic in range(cursor.count()):
            error, name = cursor.i16(), cursor.string()
            topic_id = cursor.uuid() if self.flexible else UUID(int=0)
            cursor.i8()
            partitions = cursor.count()
            for _partition in range(partitions):
                self._skip_partition(cursor)
            cursor.i32()
            cursor.tags()
            out[name] = TopicMetadata(error, topic_id, partitions)
        if not self.flexible:
            cursor.i32()
        cursor.tags()
        cursor.end()
        return out

    def _skip_partition(self, cursor: Cursor) -> None:
        cursor.i16()
        cursor.i32()
        cursor.i32()
        cursor.i32()
        for _list in range(3):
            for _node in range(cursor.count()):
                cursor.i32()
        cursor.tags()

    def init_producer_id(self) -> bytes:
        """An InitProducerId body for an idempotent producer."""
        known = pack(">qh", -1, -1) if self.flexible else b""
        return self._string(None) + _I32.pack(60_000) + known + self._tags

    def producer_id(self, cursor: Cursor) -> tuple[int, int, int]:
        """(error, producer id, epoch)."""
        cursor.i32()
        found = cursor.i16(), cursor.i64(), cursor.i16()
        cursor.tags()
        cursor.end()
        return found


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def by_topic(parts: Sequence[tuple[Key, T]]) -> list[tuple[str, list[tuple[int, T]]]]:
    """Parts by topic, in the order they come."""
    grouped: dict[str, list[tuple[int, T]]] = {}
    for (name, partition), value in parts:
        grouped.setdefault(name, []).append((partition, value))
    return list(grouped.items())
