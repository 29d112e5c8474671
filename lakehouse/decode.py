"""Runs of stored record batches -> chunks of decoded rows, ready to become Arrow columns.

Stored batches carry the base offsets their producers sent; the run says where it begins and the walk adds
last_offset_delta + 1 from batch to batch. A batch whose checksum is right but whose records (or compression) are broken
becomes one `BrokenBatch` and the walk goes on behind it; control batches have no rows. Anything wrong around the batches -
magic, length, checksum, the run's end - is damage in storage: `CorruptRun`, nothing is exported.

Memory: a chunk has at most `rows_max` rows and closes at `bytes_max` decompressed bytes; a single batch may exceed that by
its own size, at most `decompressed_bytes_max`. Rows are counted before arrays are made. Bounds are checked in
`decode_walk`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lakehouse.arrow_spans import binary_array, header_array
from lakehouse.compiled import place
from lakehouse.decode_walk import OK, RECORD_BYTES_MIN, STATUS_TEXT, Bytes, Ints, Longs, fill_spans, measure
from schemas.kafka.batch import HEADER_BYTES, BatchError, BatchHeader, batch_size, crc_is_right, read_header
from schemas.kafka.compression import CompressionError, decompress

MIB = 1024 * 1024
NO_APPEND_TIME = -1
SPAN_BYTES_MAX = 2**31 - 1


class CorruptRun(Exception):
    """Stored bytes are not what the metadata says they are: stop and report, don't skip."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds of one chunk, see the module's docstring."""

    rows_max: int = 262_144
    bytes_max: int = 32 * MIB
    decompressed_bytes_max: int = 128 * MIB


@dataclass(frozen=True, slots=True)
class StoredRun:
    """An extent's bytes: adjacent batches of one partition. `append_ms` >= 0 is the LogAppendTime of all its records."""

    partition: int
    offset_first: int
    offset_next: int
    data: bytes | bytearray | memoryview
    append_ms: int = NO_APPEND_TIME


@dataclass(frozen=True, slots=True)
class BrokenBatch:
    """A batch of offsets `[offset_first, offset_next)` whose checksum is right and whose records can't be read."""

    partition: int
    offset_first: int
    offset_next: int
    timestamp_ms: int
    timestamp_type: int
    cause: str
    error: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class DecodedChunk:
    """Rows of offsets `[offset_first, offset_next)` of one partition as arrays over one slab of bytes.

    Spans are (start in slab, length or -1 for null). `header_first` has rows + 1 positions into the header spans.
    """

    partition: int
    offset_first: int
    offset_next: int
    slab: Bytes
    offsets: Longs
    timestamps_ms: Longs
    timestamp_types: Ints
    keys: Ints
    values: Ints
    header_first: Ints
    header_keys: Ints
    header_values: Ints
    broken: tuple[BrokenBatch, ...]

    @property
    def rows(self) -> int:
        """Decoded rows; the broken batches' are not among them."""
        return len(self.offsets)

    def key_array(self) -> pa.Array:
        """Keys as Arrow binary."""
        return binary_array(self.slab, self.keys)

    def value_array(self) -> pa.Array:
        """Values as Arrow binary."""
        return binary_array(self.slab, self.values)

    def headers_array(self) -> pa.Array:
        """Headers as list<struct<key string, value binary>>."""
        return header_array(self.slab, self.header_first, self.header_keys, self.header_values)


@dataclass(slots=True)
class _Section:
    """Measured records `[at, end)` of one batch, not yet filled in."""

    records: Bytes
    at: int
    end: int
    rows: int
    headers: int
    offset_base: int
    offset_next: int
    timestamp_base: int
    timestamp_fixed_ms: int | None


@dataclass(slots=True)
class _Pending:
    """What the next chunk will be made of."""

    partition: int
    offset_first: int
    offset_next: int
    sections: list[_Section] = field(default_factory=list)
    broken: list[BrokenBatch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0

    def add(self, section: _Section) -> None:
        self.sections.append(section)
        self.rows += section.rows
        self.bytes += section.end - section.at
        self.offset_next = section.offset_next


def decode_runs(runs: Iterable[StoredRun], limits: DecodeLimits = DecodeLimits()) -> Iterator[DecodedChunk]:
    """Decode runs of one partition, in offset order, into chunks that join without a gap of their own.

    The chunks cover every offset of the runs, also those that have no rows (control batches, gaps). Raises CorruptRun.
    """
    pending: _Pending | None = None
    for run in runs:
        if pending is None:
            pending = _Pending(run.partition, run.offset_first, run.offset_first)
        if run.partition != pending.partition or run.offset_first < pending.offset_next:
            raise ValueError(
                f"run at {run.partition}/{run.offset_first} doesn't follow {pending.partition}/{pending.offset_next}"
            )
        for item in _batches(run, limits):
            if isinstance(item, BrokenBatch):
                pending.broken.append(item)
                pending.bytes += len(item.raw)
                pending.offset_next = item.offset_next
                continue
            for piece in _pieces(item, limits.rows_max):
                if pending.rows + piece.rows > limits.rows_max:
                    yield _fill(pending)
                    pending = _Pending(run.partition, pending.offset_next, pending.offset_next)
                pending.add(piece)
            if pending.bytes >= limits.bytes_max:
                yield _fill(pending)
                pending = _Pending(run.partition, pending.offset_next, pending.offset_next)
        pending.offset_next = run.offset_next
    if pending is not None and pending.offset_next > pending.offset_first:
        yield _fill(pending)


def _batches(run: StoredRun, limits: DecodeLimits) -> Iterator[_Section | BrokenBatch]:
    view = memoryview(run.data)
    at = 0
    offset = run.offset_first
    while at < len(view):
        try:
            size = batch_size(view, at)
            header = read_header(view, at)
        except BatchError as error:
            raise CorruptRun(f"partition {run.partition} offset {offset}, byte {at} of the run: {error}") from error
        _check_header(run, header, view, at, size, offset)
        offset_next = offset + header.last_offset_delta + 1
        if not header.is_control:
            yield _section(run, header, view[at : at + size], offset, limits)
        at += size
        offset = offset_next
    if offset != run.offset_next:
        raise CorruptRun(
            f"partition {run.partition}: the run should end at offset {run.offset_next}, its batches end at {offset}"
        )


def _check_header(run: StoredRun, header: BatchHeader, view: memoryview, at: int, size: int, offset: int) -> None:
    where = f"partition {run.partition} offset {offset}, byte {at} of the run"
    if header.magic != 2:
        raise CorruptRun(f"{where}: magic {header.magic} is not a record batch of version 2")
    if header.last_offset_delta < 0 or offset + header.last_offset_delta + 1 > run.offset_next:
        raise CorruptRun(
            f"{where}: last offset delta {header.last_offset_delta} leaves the run, which ends at {run.offset_next}"
        )
    if not crc_is_right(view, at, size, header.crc):
        raise CorruptRun(f"{where}: the checksum of the batch is wrong")


def _section(
    run: StoredRun, header: BatchHeader, batch: memoryview, offset: int, limits: DecodeLimits
) -> _Section | BrokenBatch:
    """Decompress and measure one batch."""
    offset_next = offset + header.last_offset_delta + 1
    fixed_ms = run.append_ms if run.append_ms >= 0 else header.max_timestamp if header.append_time else None

    def broken(cause: str, error: str) -> BrokenBatch:
        shown_ms = header.max_timestamp if fixed_ms is None else fixed_ms
        return BrokenBatch(
            run.partition, offset, offset_next, shown_ms, int(fixed_ms is not None), cause, error, bytes(batch)
        )

    try:
        plain = decompress(header.codec, batch[HEADER_BYTES:], limits.decompressed_bytes_max)
    except CompressionError as error:
        return broken("decompression", str(error))
    size = len(plain)
    if size > SPAN_BYTES_MAX:
        return broken("decompression", f"{size} decompressed bytes are more than a column can hold")
    if not 0 <= header.record_count <= size // RECORD_BYTES_MIN:
        return broken("broken_batch", f"{header.record_count} records can't be in {size} bytes")
    records: Bytes = np.frombuffer(plain, dtype=np.uint8)
    status, at, headers, _delta = measure(place(records), 0, size, header.record_count, -1, header.last_offset_delta)
    if status == OK and at != size:
        return broken("broken_batch", f"{size - at} bytes are left after the last record")
    if status != OK:
        return broken("broken_batch", STATUS_TEXT[status])
    return _Section(
        records, 0, size, header.record_count, headers, offset, offset_next, header.base_timestamp, fixed_ms
    )


def _pieces(section: _Section, rows_max: int) -> Iterator[_Section]:
    """A section as pieces of at most `rows_max` rows each."""
    at, rows_left, delta = section.at, section.rows, -1
    while rows_left > rows_max:
        status, end, headers, delta = measure(place(section.records), at, section.end, rows_max, delta, 2**31 - 1)
        if status != OK:
            raise AssertionError("a measured batch changed while it was read")
        offset_next = section.offset_base + delta + 1
        yield _Section(
            section.records,
            at,
            end,
            rows_max,
            headers,
            section.offset_base,
            offset_next,
            section.timestamp_base,
            section.timestamp_fixed_ms,
        )
        at, rows_left, section.headers = end, rows_left - rows_max, section.headers - headers
    yield _Section(
        section.records,
        at,
        section.end,
        rows_left,
        section.headers,
        section.offset_base,
        section.offset_next,
        section.timestamp_base,
        section.timestamp_fixed_ms,
    )


def _fill(pending: _Pending) -> DecodedChunk:
    """Copy the sections into one slab and write every row's spans."""
    size = sum(section.end - section.at for section in pending.sections)
    headers = sum(section.headers for section in pending.sections)
    if size > SPAN_BYTES_MAX:
        raise OverflowError("more than 2 GiB in one chunk: lower export_chunk_bytes or max_decompressed_message_bytes")
    slab: Bytes = np.empty(size, dtype=np.uint8)
    chunk = DecodedChunk(
        partition=pending.partition,
        offset_first=pending.offset_first,
        offset_next=pending.offset_next,
        slab=slab,
        offsets=np.empty(pending.rows, dtype=np.int64),
        timestamps_ms=np.empty(pending.rows, dtype=np.int64),
        timestamp_types=np.zeros(pending.rows, dtype=np.int32),
        keys=np.empty((pending.rows, 2), dtype=np.int32),
        values=np.empty((pending.rows, 2), dtype=np.int32),
        header_first=np.empty(pending.rows + 1, dtype=np.int32),
        header_keys=np.empty((headers, 2), dtype=np.int32),
        header_values=np.empty((headers, 2), dtype=np.int32),
        broken=tuple(pending.broken),
    )
    row = header = at = 0
    for section in pending.sections:
        end = at + section.end - section.at
        slab[at:end] = section.records[section.at : section.end]
        row_stop = row + section.rows
        reached, stop, header = fill_spans(
            place(slab),
            at,
            end,
            section.offset_base,
            section.timestamp_base,
            row,
            row_stop,
            header,
            headers,
            place(chunk.offsets),
            place(chunk.timestamps_ms),
            place(chunk.keys),
            place(chunk.values),
            place(chunk.header_first),
            place(chunk.header_keys),
            place(chunk.header_values),
        )
        if reached != row_stop or stop != end:
            raise AssertionError("a measured batch changed while it was read")
        if section.timestamp_fixed_ms is not None:
            chunk.timestamps_ms[row:row_stop] = section.timestamp_fixed_ms
            chunk.timestamp_types[row:row_stop] = 1
        row, at = row_stop, end
    chunk.header_first[row] = header
    return chunk
