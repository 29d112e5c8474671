"""A log of one shard in memory that key compaction works on, and what its guarantees say about it, naively.

`MemoryLog` holds extents as the object store and the database would; `clean` is a whole round without either. `check_*`
compare two states of it record by record, by the pure decoder alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from broker.compaction.keyed_filter import BatchFilter, CleanCounts, ProducerLast
from broker.compaction.keyed_index import KeyIndex
from broker.compaction.keyed_index_pass import IndexPass
from broker.compaction.keyed_markers import AbortedTransaction, TransactionPass
from broker.compaction.keyed_rewrite import StoredExtent, rewrite
from catalog.sequence import Extent
from schemas.kafka.batch import DELETE_HORIZON_BIT, BatchHeader, batch_size, read_header
from schemas.kafka.records import Record, decode_batch

BYTES_MAX = 1 << 20


@dataclass(slots=True)
class MemoryLog:
    """Extents in offset order, each with its bytes."""

    stored: list[tuple[Extent, bytes]] = field(default_factory=list)
    cleaned: int = 0
    began: int = 0

    @property
    def end(self) -> int:
        """The log end offset."""
        return self.stored[-1][0].offset_next if self.stored else self.began

    def append(self, batches: Sequence[bytes], *, append_ms: int = -1) -> None:
        """One extent of these batches."""
        first = self.end
        count = sum(read_header(batch).last_offset_delta + 1 for batch in batches)
        data = b"".join(batches)
        newest = max(read_header(batch).max_timestamp for batch in batches) if append_ms < 0 else append_ms
        extent = Extent(1, 0, first, first + count, len(self.stored), 0, len(data), len(batches), newest, append_ms)
        self.stored.append((extent, data))

    def batches(self) -> list[tuple[BatchHeader, bytes]]:
        """Every stored batch with its real base offset."""
        found = []
        for extent, data in self.stored:
            at, offset = 0, extent.offset_first
            while at < len(data):
                size = batch_size(data, at)
                header = read_header(data, at)._replace(base_offset=offset)
                found.append((header, data[at : at + size]))
                at += size
                offset += header.last_offset_delta + 1
            assert offset == extent.offset_next, "an extent's batches end where it does"
        return found

    def records(self) -> list[Record]:
        """Every record, with those of aborted transactions and without markers."""
        return [
            record
            for header, data in self.batches()
            if not header.is_control
            for record in decode_batch(data, max_bytes=BYTES_MAX, base_offset=header.base_offset)
        ]

    def stamped(self) -> dict[int, int]:
        """Base offset -> delete horizon."""
        return {
            header.base_offset: header.base_timestamp
            for header, _ in self.batches()
            if header.attributes & DELETE_HORIZON_BIT
        }

    def clean(
        self,
        now_ms: int,
        *,
        retention_ms: int,
        keys_max: int = 1000,
        end: int | None = None,
        chunk: int = 3,
        producers: Mapping[int, ProducerLast] = {},
        aborted: Sequence[AbortedTransaction] = (),
    ) -> CleanCounts:
        """One round: index what is dirty up to `end`, then rewrite everything below, `chunk` extents at a time."""
        index = KeyIndex(self.cleaned, keys_max)
        indexing = IndexPass(index, TransactionPass(aborted), BYTES_MAX)
        dirty = [one for one in self.stored if one[0].offset_next > self.cleaned]
        for extent, data in dirty:
            if end is not None and extent.offset_next > end:
                break
            if not indexing.take(StoredExtent(extent, memoryview(bytearray(data)))):
                break
        rules = BatchFilter(index, now_ms, retention_ms, BYTES_MAX, producers, TransactionPass(aborted))
        at = 0
        while at < len(self.stored) and self.stored[at][0].offset_first < index.offset_next:
            chosen = [one for one in self.stored[at : at + chunk] if one[0].offset_first < index.offset_next]
            at += self._swap(at, chosen, rules)
        self.cleaned = index.offset_next
        return rules.counts

    def _swap(self, at: int, chosen: Sequence[tuple[Extent, bytes]], rules: BatchFilter) -> int:
        """Put what replaces some extents in their place; returns how many are there now."""
        found = rewrite([StoredExtent(extent, memoryview(bytearray(data))) for extent, data in chosen], rules)
        if found is None:
            return len(chosen)
        data = b"".join(found.parts)
        assert len(data) == found.bytes
        extent = Extent(
            1, 0, found.offset_first, found.offset_next, -1, 0, len(data), found.batches, found.timestamp_max, -1
        )
        self.stored[at + found.first : at + found.end] = [(extent, data)]
        return len(chosen) - (found.end - found.first) + 1
