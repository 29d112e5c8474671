"""The journal: what became of an agent's commits, as it stands in flush headers and in journal objects.

From it, and from the last snapshot of the metadata, a lost database is built again. An entry says of one committed object
which offsets its accepted bytes got (its extents) and which batches of idempotent producers were accepted.

Block, version 1, little endian: `version u8 · objects u32 · extents u32 · producers u32 · journalled_ms i64`, then rows:
objects `object_id u64 · bytes u64 · extents u32 · producers u32 · name length u16`, all names (UTF-8) joined, extents, and
producers, both in the order of their objects. A journal object: `NEVEJRN1 · block length u32 · topics length u32 · block ·
topics (JSON) · CRC-32C u32` of everything before, big endian.

Pure. Owns: nothing is read before its length is checked against what is there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from struct import Struct
from typing import Any, NamedTuple

from crc32c import crc32c

Buffer = bytes | bytearray | memoryview

MAGIC = b"NEVEJRN1"
_VERSION = 1
_HEAD = Struct("<BIIIq")
_OBJECT = Struct("<QQIIH")
_EXTENT = Struct("<QIqqQQIIqq")
_PRODUCER = Struct("<QIqiiiqq")
_PREFIX = Struct(">8sII")
_CRC = Struct(">I")

ExtentRow = tuple[int, int, int, int, int, int, int, int, int, int]
"""topic, shard, offset_first, offset_next, object_id, byte_first, byte_length, batches, timestamp_max, append_ms."""
ProducerRow = tuple[int, int, int, int, int, int, int, int]
"""topic, shard, producer_id, producer_epoch, first_sequence, last_sequence, offset, append_ms of one accepted batch."""


class JournalError(ValueError):
    """Stored bytes are no journal that this program can read."""


class Entry(NamedTuple):
    """What became of one object."""

    object_id: int
    name: str
    bytes: int
    extents: Sequence[ExtentRow]
    producers: Sequence[ProducerRow]


class Block(NamedTuple):
    """Entries, and when they were packed: Unix ms by the agent's clock."""

    journalled_ms: int
    entries: tuple[Entry, ...]


def pack_block(entries: Sequence[Entry], journalled_ms: int) -> bytes:
    """The bytes of these entries."""
    names = [entry.name.encode() for entry in entries]
    extents = [row for entry in entries for row in entry.extents]
    producers = [row for entry in entries for row in entry.producers]
    parts = [_HEAD.pack(_VERSION, len(entries), len(extents), len(producers), journalled_ms)]
    parts += [
        _OBJECT.pack(entry.object_id, entry.bytes, len(entry.extents), len(entry.producers), len(name))
        for entry, name in zip(entries, names, strict=True)
    ]
    parts += names
    pack = _EXTENT.pack
    parts += [pack(*row) for row in extents]
    pack = _PRODUCER.pack
    parts += [pack(*row) for row in producers]
    return b"".join(parts)


def unpack_block(data: Buffer) -> Block:
    """What `pack_block` packed. Raises JournalError."""
    view = memoryview(data)
    if len(view) < _HEAD.size:
        raise JournalError(f"a journal of {len(view)} bytes has no head")
    version, objects, extents, producers, journalled_ms = _HEAD.unpack_from(view)
    if version != _VERSION:
        raise JournalError(f"journal version {version} is not known here: use the version of Neve that wrote it")
    at = _HEAD.size
    left = len(view) - at - objects * _OBJECT.size - extents * _EXTENT.size - producers * _PRODUCER.size
    if left < 0:
        raise JournalError(
            f"{objects} objects, {extents} extents and {producers} batches can't be in {len(view)} bytes"
        )
    heads = list(_OBJECT.iter_unpack(view[at : at + objects * _OBJECT.size]))
    at += objects * _OBJECT.size
    ends = [0, *accumulate(head[4] for head in heads)]
    if ends[-1] != left or sum(head[2] for head in heads) != extents or sum(head[3] for head in heads) != producers:
        raise JournalError("the journal's counts contradict its length")
    text = bytes(view[at : at + left])
    at += left
    extent_rows = list(_EXTENT.iter_unpack(view[at : at + extents * _EXTENT.size]))
    producer_rows = list(_PRODUCER.iter_unpack(view[at + extents * _EXTENT.size :]))
    entries: list[Entry] = []
    extent_at = producer_at = 0
    try:
        for n, (object_id, size, own, batches, _) in enumerate(heads):
            rows = extent_rows[extent_at : extent_at + own]
            accepted = producer_rows[producer_at : producer_at + batches]
            entries.append(Entry(object_id, text[ends[n] : ends[n + 1]].decode(), size, rows, accepted))
            extent_at, producer_at = extent_at + own, producer_at + batches
    except UnicodeDecodeError as error:
        raise JournalError(f"a name in the journal is no UTF-8: {error}") from error
    return Block(journalled_ms, tuple(entries))


def pack_object(block: bytes, topics: Sequence[Any]) -> bytes:
    """A journal object: a block, and rows of topics that changed, which JSON can hold."""
    text = json.dumps(topics, separators=(",", ":")).encode() if topics else b""
    body = b"".join((_PREFIX.pack(MAGIC, len(block), len(text)), block, text))
    return body + _CRC.pack(crc32c(body))


def unpack_object(data: Buffer) -> tuple[Block, list[Any]]:
    """What `pack_object` packed: the block, and the topics' rows. Raises JournalError."""
    view = memoryview(data)
    if len(view) < _PREFIX.size + _CRC.size:
        raise JournalError(f"a journal object of {len(view)} bytes has no head")
    magic, block_bytes, topics_bytes = _PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise JournalError(f"not a journal: it begins with {bytes(magic)!r}, not {MAGIC!r}")
    end = _PREFIX.size + block_bytes + topics_bytes
    if end + _CRC.size != len(view):
        raise JournalError(f"the journal's parts end at {end}, the object has {len(view)} bytes")
    if crc32c(view[:end]) != _CRC.unpack_from(view, end)[0]:
        raise JournalError("the journal's CRC-32C is wrong")
    first = _PREFIX.size + block_bytes
    topics = json.loads(bytes(view[first:end])) if topics_bytes else []
    return unpack_block(view[_PREFIX.size : first]), topics
