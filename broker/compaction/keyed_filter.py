"""Which records of a batch key compaction keeps, and the batch as it is written again. Pure.

Decided as Kafka does (`Cleaner.cleanInto`, `MemoryRecords.filterTo`, KIP-534):

- a record goes when the index knows a later one of its key, or when it has no key; aborted records go;
- a tombstone goes only behind the delete horizon of its batch, which the first pass that keeps it sets: then plus
  delete.retention.ms, kept in the batch's base timestamp. A marker waits the same way once its transaction has no data left;
- the last batch of a producer that is remembered stays, without records if need be: it carries the last sequence;
- what is kept of a batch keeps its offsets, timestamps, headers, codec, producer and sequence; a batch of which everything is
  kept is passed on as the bytes it was.

Batches that can't be read stay as they are: only what is understood is removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from broker.compaction.keyed_index import KeyIndex
from broker.compaction.keyed_markers import TransactionPass
from broker.compaction.keyed_records import RawRecord, moved, scan_records
from schemas.kafka.batch import (
    COMPRESSION_MASK,
    CONTROL_BIT,
    DELETE_HORIZON_BIT,
    HEADER_BYTES,
    TIMESTAMP_TYPE_BIT,
    TRANSACTIONAL_BIT,
    BatchHeader,
    read_header,
)
from schemas.kafka.compression import CompressionError, compress, decompress
from schemas.kafka.records import RecordError, wrap_payload

_SIGN = 1 << 63
_MASK = (1 << 64) - 1
NO_TIMESTAMP = -1


class ProducerLast(NamedTuple):
    """The newest batch that is remembered of a producer: where it begins, or None where its newest entry is a marker."""

    offset: int | None
    epoch: int


class Kept(NamedTuple):
    """What becomes of a batch. `data` None: nothing of it is left."""

    data: bytes | memoryview | None
    records: int
    """Records left in it."""
    timestamp_max: int
    """Unix ms of the newest record left, by the new header."""
    changed: bool


@dataclass(slots=True)
class CleanCounts:
    """What a pass read and kept."""

    batches_read: int = 0
    records_read: int = 0
    records_kept: int = 0
    tombstones_dropped: int = 0
    batches_unreadable: int = 0


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """One pass over a log, in offset order. `now_ms` is one moment for the whole pass."""

    index: KeyIndex
    now_ms: int
    delete_retention_ms: int
    decompressed_bytes_max: int
    producers: Mapping[int, ProducerLast] = field(default_factory=dict)
    transactions: TransactionPass = field(default_factory=TransactionPass)
    counts: CleanCounts = field(default_factory=CleanCounts)

    def apply(self, batch: memoryview) -> Kept:
        """Decide about one batch, whose header has its real base offset. Batches behind the index stay as they are."""
        header = read_header(batch)
        self.counts.batches_read += 1
        if header.base_offset + header.last_offset_delta >= self.index.offset_next:
            return Kept(batch, header.record_count, header.max_timestamp, False)
        try:
            payload, records = _read(header, batch, self.decompressed_bytes_max)
        except (RecordError, CompressionError):
            self.counts.batches_unreadable += 1
            return Kept(batch, header.record_count, header.max_timestamp, False)
        self.counts.records_read += len(records)
        spent = header.is_control and self.transactions.is_spent(header, records[0].key if records else None)
        kept = self._kept(header, records, spent)
        self.counts.records_kept += len(kept)
        if not kept:
            return self._empty(header, batch, len(records))
        stamp = _horizon(header) is None and (spent or any(not one.has_value for one in kept))
        if len(kept) == len(records) and not stamp:
            return Kept(batch, len(kept), header.max_timestamp, False)
        return _rewritten(header, payload, kept, self.now_ms + self.delete_retention_ms if stamp else None)

    def _kept(self, header: BatchHeader, records: Sequence[RawRecord], spent: bool) -> Sequence[RawRecord]:
        horizon = _horizon(header)
        past_horizon = horizon is not None and horizon <= self.now_ms
        if header.is_control:
            return () if spent and past_horizon else records
        if self.transactions.is_aborted(header):
            return ()
        base, index = header.base_offset, self.index
        kept: list[RawRecord] = []
        for record in records:
            if record.key is None or not index.is_latest(record.key, base + record.offset_delta):
                continue
            if not record.has_value and past_horizon:
                self.counts.tombstones_dropped += 1
                continue
            kept.append(record)
        return kept

    def _empty(self, header: BatchHeader, batch: memoryview, before: int) -> Kept:
        """A batch that has no records left: kept for its producer, or gone."""
        if not self._is_last_of_producer(header):
            return Kept(None, 0, NO_TIMESTAMP, True)
        if before == 0:
            return Kept(batch, 0, NO_TIMESTAMP, False)
        return Kept(empty_batch(header), 0, NO_TIMESTAMP, True)

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self.producers.get(header.producer_id) if header.producer_id >= 0 else None
        if last is None:
            return False
        if last.offset is None:
            return header.is_control and header.producer_epoch == last.epoch
        return header.base_offset == last.offset


def empty_batch(header: BatchHeader) -> bytes:
    """The batch without its records: where it lay and whose it was."""
    return wrap_payload(
        b"",
        base_offset=header.base_offset,
        leader_epoch=header.leader_epoch,
        attributes=header.attributes & (TIMESTAMP_TYPE_BIT | TRANSACTIONAL_BIT | CONTROL_BIT),
        last_offset_delta=header.last_offset_delta,
        base_timestamp=NO_TIMESTAMP,
        max_timestamp=header.max_timestamp,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=0,
    )


def batch_records(header: BatchHeader, batch: memoryview, max_bytes: int) -> list[tuple[bytes | None, int]]:
    """(key, offset) of every record. Raises RecordError, CompressionError."""
    _, records = _read(header, batch, max_bytes)
    return [(one.key, header.base_offset + one.offset_delta) for one in records]


def _read(header: BatchHeader, batch: memoryview, max_bytes: int) -> tuple[bytes, list[RawRecord]]:
    if header.record_count == 0:
        return b"", []
    payload = bytes(decompress(header.codec, batch[HEADER_BYTES:], max_bytes))
    return payload, scan_records(payload, header.record_count, header.last_offset_delta)


def _horizon(header: BatchHeader) -> int | None:
    return header.base_timestamp if header.attributes & DELETE_HORIZON_BIT else None


def _rewritten(header: BatchHeader, payload: bytes, kept: Sequence[RawRecord], horizon: int | None) -> Kept:
    """The batch with these records alone, and with a delete horizon if one is given (else with what it had)."""
    attributes, base_timestamp = header.attributes, header.base_timestamp
    if horizon is None:
        parts = [payload[one.first : one.end] for one in kept]
    else:
        parts = [moved(payload, one, horizon - base_timestamp) for one in kept]
        attributes |= DELETE_HORIZON_BIT
    newest = header.max_timestamp
    if not header.append_time:
        newest = max(_wrapped(base_timestamp + one.timestamp_delta) for one in kept)
    data = wrap_payload(
        compress(attributes & COMPRESSION_MASK, b"".join(parts)),
        base_offset=header.base_offset,
        leader_epoch=header.leader_epoch,
        attributes=attributes,
        last_offset_delta=header.last_offset_delta,
        base_timestamp=base_timestamp if horizon is None else horizon,
        max_timestamp=newest,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        record_count=len(kept),
    )
    return Kept(data, len(kept), newest, True)


def _wrapped(value: int) -> int:
    return ((value + _SIGN) & _MASK) - _SIGN
