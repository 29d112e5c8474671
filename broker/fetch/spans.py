"""Extents ready to serve: bytes whose batch headers carry the real offsets, and where each batch ends.

Pure. Headers are patched once, when an extent is first needed, in the cache's own copy of the bytes: serving is then one
slice per extent, however many batches it holds. Base offset and leader epoch lie outside the batch's CRC; LogAppendTime
lies inside, so it gets a new one.

Compaction leaves batches without records, and without a producer, where offsets are gone. They are not served, as Kafka
has nothing there: who reads within such a hole gets what follows it. But the last batch of an extent is always served, so
that a reader goes on even where nothing else is left.
"""

from __future__ import annotations

from bisect import bisect_right
from struct import Struct

from crc32c import crc32c

from catalog.sequence import Extent
from schemas.kafka.batch import HEADER_BYTES, LOG_OVERHEAD_BYTES, BatchHeader, patch_append_time, read_header

_HEAD = Struct(">qiibI")  # base offset, length, leader epoch, magic, crc
_PATCH = Struct(">qii")
_I32 = Struct(">i")


class BadExtent(ValueError):
    """The bytes are not the batches that the metadata says are there."""


class Span:
    """One extent's patched bytes. `ends[i]` is where batch i ends in `data`, `nexts[i]` the offset behind it."""

    __slots__ = ("data", "ends", "nexts")

    def __init__(self, data: memoryview, ends: list[int], nexts: list[int]) -> None:
        self.data = data
        self.ends = ends
        self.nexts = nexts

    def cut(self, offset: int, limit: int, whole_first: bool) -> tuple[memoryview, bool]:
        """Whole batches from the one that holds `offset`, at most `limit` bytes; with `whole_first` at least one.

        Also tells whether they reach the extent's end: only then may the next extent follow in the same answer.
        """
        ends = self.ends
        if len(ends) == 1:
            return (self.data, True) if whole_first or ends[0] <= limit else (self.data[:0], False)
        at = bisect_right(self.nexts, offset)
        assert at < len(ends), "the planner picked an extent that holds the offset or follows it"
        start = ends[at - 1] if at else 0
        stop = bisect_right(ends, start + limit, at)
        if stop == at:
            if not whole_first:
                return self.data[:0], False
            stop = at + 1
        return self.data[start : ends[stop - 1]], stop == len(ends)

    def batch_at(self, position: int) -> memoryview:
        """The bytes of one batch."""
        return self.data[self.ends[position - 1] if position else 0 : self.ends[position]]


def is_filler(header: BatchHeader) -> bool:
    """True of a batch that stands for offsets whose records are gone, and for nothing else."""
    return header.record_count == 0 and header.producer_id < 0


def make_span(data: memoryview, extent: Extent, *, verify: bool) -> Span:
    """Walk, check and patch the batches of one extent in place. Raises BadExtent; nothing is patched then.

    `verify` recomputes each batch's CRC-32C: wanted when the bytes came from the store, not for the writer's own.
    """
    ends, nexts = _walk(data, extent, verify)
    start, offset = 0, extent.offset_first
    for end, offset_next in zip(ends, nexts, strict=True):
        _PATCH.pack_into(data, start, offset, end - start - LOG_OVERHEAD_BYTES, 0)
        if extent.append_ms >= 0:
            patch_append_time(data, start, end - start, extent.append_ms)
        start, offset = end, offset_next
    fillers = _fillers(data, ends)
    return _without(data, ends, nexts, fillers) if fillers else Span(data.toreadonly(), ends, nexts)


def _fillers(data: memoryview, ends: list[int]) -> list[int]:
    """Positions of batches that are nothing but a filler, without the last batch."""
    start = 0
    found = []
    for position, end in enumerate(ends[:-1]):
        if end - start == HEADER_BYTES and is_filler(read_header(data, start)):
            found.append(position)
        start = end
    return found


def _without(data: memoryview, ends: list[int], nexts: list[int], left_out: list[int]) -> Span:
    """The span without some batches; the others keep their offsets."""
    kept = bytearray()
    starts = [0, *ends]
    gone = dict.fromkeys(left_out)
    kept_ends, kept_nexts = [], []
    for position, offset_next in enumerate(nexts):
        if position not in gone:
            kept += data[starts[position] : ends[position]]
            kept_ends.append(len(kept))
            kept_nexts.append(offset_next)
    return Span(memoryview(kept).toreadonly(), kept_ends, kept_nexts)


def _walk(data: memoryview, extent: Extent, verify: bool) -> tuple[list[int], list[int]]:
    size = len(data)
    if size != extent.byte_length:
        raise BadExtent(f"{size} bytes are there, the extent has {extent.byte_length}")
    ends: list[int] = []
    nexts: list[int] = []
    at, offset = 0, extent.offset_first
    while at < size:
        if size - at < HEADER_BYTES:
            raise BadExtent(f"{size - at} bytes remain, too few for a batch header")
        _, length, _, magic, crc = _HEAD.unpack_from(data, at)
        end = at + length + LOG_OVERHEAD_BYTES
        if magic != 2 or end > size or end - at < HEADER_BYTES:
            raise BadExtent(f"no batch of format 2 at byte {extent.byte_first + at}")
        if verify and crc32c(data[at + 21 : end]) != crc:
            raise BadExtent(f"CRC-32C of the batch at byte {extent.byte_first + at} is wrong")
        offset += _I32.unpack_from(data, at + 23)[0] + 1
        ends.append(end)
        nexts.append(offset)
        at = end
    if offset != extent.offset_next or len(ends) != extent.batches:
        raise BadExtent(f"{len(ends)} batches end at offset {offset}, not {extent.batches} at {extent.offset_next}")
    return ends, nexts
