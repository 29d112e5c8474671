"""The first pass of key compaction: the keys of adjacent extents into an index. Pure."""

from __future__ import annotations

from broker.compaction.keyed_filter import batch_records
from broker.compaction.keyed_index import KeyIndex
from broker.compaction.keyed_markers import TransactionPass
from broker.compaction.keyed_records import scan_records
from broker.compaction.keyed_rewrite import StoredExtent
from broker.fetch.spans import make_span
from schemas.kafka.batch import HEADER_BYTES, BatchHeader, read_header
from schemas.kafka.compression import CompressionError, decompress
from schemas.kafka.records import RecordError


class IndexPass:
    """Shown the extents of a shard in order, from the first that isn't compacted yet. Aborted records are left out."""

    def __init__(self, index: KeyIndex, transactions: TransactionPass, decompressed_bytes_max: int) -> None:
        self.index = index
        self._transactions = transactions
        self._bytes_max = decompressed_bytes_max

    def take(self, stored: StoredExtent) -> bool:
        """Take an extent; False where the index is full, inside it or in front of it. Raises BadExtent."""
        span = make_span(stored.data, stored.extent, verify=True)
        for position, offset_next in enumerate(span.nexts):
            if offset_next > self.index.offset_first and not self._batch(span.batch_at(position), offset_next):
                return False
        return True

    def _batch(self, batch: memoryview, offset_next: int) -> bool:
        header = read_header(batch)
        return self.index.add(self._records(header, batch), offset_next)

    def _records(self, header: BatchHeader, batch: memoryview) -> list[tuple[bytes | None, int]]:
        """(key, offset) of what counts; nothing of a batch that can't be read, as it stays whatever else is removed."""
        try:
            if header.is_control:
                self._transactions.is_spent(header, _marker_key(header, batch, self._bytes_max))
                return []
            if self._transactions.is_aborted(header):
                return []
            return batch_records(header, batch, self._bytes_max)
        except (RecordError, CompressionError):
            return []


def _marker_key(header: BatchHeader, batch: memoryview, bytes_max: int) -> bytes | None:
    if header.record_count == 0:
        return None
    payload = bytes(decompress(header.codec, batch[HEADER_BYTES:], bytes_max))
    return scan_records(payload, header.record_count, header.last_offset_delta)[0].key
