"""Adjacent extents of a shard -> their bytes again with what key compaction keeps, without a hole in their offsets. Pure.

Owns C4 and the rule by which offsets are derived from an extent (each batch begins where the one before it ends): where
nothing is left of a batch, or of several, a filler takes their offsets - a batch without records and without a producer. So
extents go on following one another, and every reader of extents is right without knowing about compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.compaction.keyed_filter import NO_TIMESTAMP, BatchFilter
from broker.fetch.spans import is_filler, make_span
from catalog.sequence import Extent
from schemas.kafka.batch import read_header
from schemas.kafka.records import wrap_payload

FILLER_OFFSETS_MAX = 2**31
NO_RECORDS_MS = 0
"""timestamp_max of an extent without records: retention by age may drop it at any time, and nothing is lost."""


class StoredExtent(NamedTuple):
    """An extent with its bytes, as they are stored or already patched. They can be written to, and are patched in place."""

    extent: Extent
    data: memoryview


class Rewritten(NamedTuple):
    """What replaces adjacent extents, offsets `[offset_first, offset_next)` as before."""

    offset_first: int
    offset_next: int
    parts: list[bytes | memoryview]
    bytes: int
    batches: int
    timestamp_min: int
    timestamp_max: int
    first: int
    """The first of the given extents that it replaces."""
    end: int
    """Behind the last of them."""


def filler(offset_first: int, offset_next: int) -> bytes:
    """A batch without records over these offsets, at most 2^31 of them."""
    return wrap_payload(
        b"",
        base_offset=offset_first,
        leader_epoch=0,
        last_offset_delta=offset_next - offset_first - 1,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=NO_TIMESTAMP,
        record_count=0,
    )


def rewrite(stored: Sequence[StoredExtent], rules: BatchFilter) -> Rewritten | None:
    """Filter adjacent extents, given in order. None where nothing changes; else from the first that does to the last.

    Raises BadExtent for bytes that are not what the metadata says.
    """
    outputs = [_filter(one, rules) for one in stored]
    changed = [at for at, output in enumerate(outputs) if output.changed]
    if not changed:
        return None
    first, end = changed[0], changed[-1] + 1
    while end < len(outputs) and outputs[end - 1].has_hole_at_end:
        end += 1  # a hole is joined with what follows it: only at the end of an extent is a filler ever served
    joined = _Output(stored[first].extent.offset_first, stored[end - 1].extent.offset_next)
    for output in outputs[first:end]:
        joined.join(output)
    joined.close(joined.end)
    return Rewritten(
        stored[first].extent.offset_first,
        joined.offset_next,
        joined.parts,
        joined.bytes,
        len(joined.parts),
        min(joined.times, default=NO_RECORDS_MS),
        max(joined.times, default=NO_RECORDS_MS),
        first,
        end,
    )


class _Output:
    """Batches of one extent, or of several joined, with their offsets; holes are filled when the next batch comes."""

    __slots__ = ("batches", "bytes", "changed", "end", "offset_next", "parts", "times")

    def __init__(self, offset_first: int, end: int) -> None:
        self.offset_next = offset_first
        self.end = end
        self.parts: list[bytes | memoryview] = []
        self.batches: list[tuple[int, int, bytes | memoryview]] = []
        self.bytes = 0
        self.changed = False
        self.times: list[int] = []
        """Newest record of each batch that has records."""

    @property
    def has_hole_at_end(self) -> bool:
        """True where its last offsets are gone."""
        return not self.batches or self.batches[-1][1] != self.end

    def join(self, other: _Output) -> None:
        for offset, offset_next, data in other.batches:
            self.close(offset)
            self._put(data, offset_next)
        self.times += other.times

    def close(self, offset_next: int) -> None:
        """Fill what is missing up to here."""
        while self.offset_next < offset_next:
            end = min(offset_next, self.offset_next + FILLER_OFFSETS_MAX)
            self._put(filler(self.offset_next, end), end)

    def _put(self, data: bytes | memoryview, offset_next: int) -> None:
        self.parts.append(data)
        self.bytes += len(data)
        self.offset_next = offset_next


def _filter(stored: StoredExtent, rules: BatchFilter) -> _Output:
    span = make_span(stored.data, stored.extent, verify=True)
    output = _Output(stored.extent.offset_first, stored.extent.offset_next)
    for position, offset_next in enumerate(span.nexts):
        batch = span.batch_at(position)
        header = read_header(batch)
        if is_filler(header):
            continue
        kept = rules.apply(batch)
        output.changed = output.changed or kept.changed
        if kept.data is None:
            continue
        output.batches.append((header.base_offset, offset_next, kept.data))
        if kept.records:
            output.times.append(kept.timestamp_max)
    return output
