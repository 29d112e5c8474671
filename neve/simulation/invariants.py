"""What must be true of database and store, looked at directly at the end of a run: I2, I3, I5 and the watches' violations.

Independent of the read path: extents are walked in SQL rows, their bytes as plain batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from struct import Struct

from crc32c import crc32c

from broker.objects.memory import MemoryStore
from broker.objects.port import NotFound
from catalog.sqlite_statements import drive
from neve.simulation.checker import Finding
from neve.simulation.database import WATCHES, DatabaseServer
from neve.simulation.deletions import DELETIONS
from neve.simulation.group_watches import GROUP_WATCHES
from neve.simulation.history import History

_HEAD = Struct(">qiibIhi")
INVARIANTS = (
    "extents_contiguous",
    "extents_counted",
    "bytes_exist",
    "extents_end_at_watermark",
    "acks_below_watermark",
    *WATCHES,
    *GROUP_WATCHES,
    *DELETIONS,
)


def violations(server: DatabaseServer, store: MemoryStore, history: History) -> tuple[list[Finding], dict[str, int]]:
    """Findings, and how many facts each invariant was held against."""
    judged = dict.fromkeys(INVARIANTS, 0)
    findings: list[Finding] = []
    for rule, text in _walk(server, store, history, judged):
        if sum(finding.rule == rule for finding in findings) < 5:
            findings.append(Finding(rule, text))
    return findings, judged


def _walk(
    server: DatabaseServer, store: MemoryStore, history: History, judged: dict[str, int]
) -> Iterator[tuple[str, str]]:
    for kind, what in server.read("SELECT kind, what FROM violations"):
        yield str(kind), str(what)
    for watch, count in server.read("SELECT kind, count(*) FROM watched GROUP BY kind"):
        judged[str(watch)] += int(str(count))
    yield from _shards(server, history, judged)
    yield from _bytes(server, store, judged)
    yield from _counts(server, judged)


def _shards(server: DatabaseServer, history: History, judged: dict[str, int]) -> Iterator[tuple[str, str]]:
    names = {topic: str(name) for topic, name in server.read("SELECT topic, name FROM topics")}
    ends: dict[tuple[str, int], int] = {}
    for ack in history.acks:
        ends[ack.key] = max(ends.get(ack.key, 0), ack.offset + len(ack.values))
    for topic, shard, watermark, start in server.read("SELECT topic, shard, high_watermark, log_start FROM shards"):
        rows = server.read(
            "SELECT offset_first, offset_next FROM extents WHERE topic = $1 AND shard = $2 ORDER BY offset_first",
            topic,
            shard,
        )
        for (_first, before), (after, _next) in pairwise(rows):
            judged["extents_contiguous"] += 1
            if before != after:
                yield "extents_contiguous", f"shard {topic}/{shard}: extents end at {before} and go on at {after}"
        if rows and int(str(rows[0][0])) > int(str(start)):
            yield "extents_contiguous", f"shard {topic}/{shard}: extents begin at {rows[0][0]}, log start {start}"
        judged["extents_end_at_watermark"] += 1
        end = rows[-1][1] if rows else start
        if end != watermark:
            yield "extents_end_at_watermark", f"shard {topic}/{shard}: end {end}, high watermark {watermark}"
        key = (names[topic], int(str(shard)))
        judged["acks_below_watermark"] += 1
        if ends.get(key, 0) > int(str(watermark)):
            yield "acks_below_watermark", f"{key}: acknowledged up to {ends[key]}, high watermark {watermark}"


def _bytes(server: DatabaseServer, store: MemoryStore, judged: dict[str, int]) -> Iterator[tuple[str, str]]:
    rows = server.read(
        "SELECT o.name, e.byte_first, e.byte_length, e.batches, e.offset_next - e.offset_first, o.bytes "
        "FROM extents e LEFT JOIN objects o ON o.object_id = e.object_id ORDER BY e.object_id, e.byte_first"
    )
    for name, byte_first, byte_length, batches, offsets, size in rows:
        judged["bytes_exist"] += 1
        place = f"object {name} bytes {byte_first}+{byte_length}"
        try:
            body = drive(store.get(str(name)))
        except NotFound:
            yield "bytes_exist", f"{place}: the object isn't there"
            continue
        if len(body) != size:
            yield "bytes_exist", f"{place}: {len(body)} bytes are stored, {size} were committed"
        found = _count(body[int(str(byte_first)) : int(str(byte_first)) + int(str(byte_length))])
        if found != (batches, offsets):
            yield "bytes_exist", f"{place}: (batches, offsets) are {found}, committed were {(batches, offsets)}"


def _counts(server: DatabaseServer, judged: dict[str, int]) -> Iterator[tuple[str, str]]:
    rows = server.read(
        "SELECT o.name, o.extents_live, (SELECT COUNT(*) FROM extents e WHERE e.object_id = o.object_id) FROM objects o"
    )
    for name, live, there in rows:
        judged["extents_counted"] += 1
        if live != there:
            yield "extents_counted", f"object {name}: {live} extents are counted, {there} are there"


def _count(data: bytes) -> tuple[int, int] | str:
    """Batches and offsets in `data`, or what is wrong with it."""
    at = batches = offsets = 0
    while at < len(data):
        if len(data) - at < 61:
            return f"{len(data) - at} stray bytes"
        _base, length, _epoch, magic, crc, _attributes, delta = _HEAD.unpack_from(data, at)
        end = at + 12 + length
        if magic != 2 or end > len(data) or crc32c(data[at + 21 : end]) != crc:
            return f"a corrupt batch at {at}"
        batches, offsets, at = batches + 1, offsets + delta + 1, end
    return batches, offsets
