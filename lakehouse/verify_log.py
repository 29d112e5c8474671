"""What the tables of a topic should hold, recomputed from its log with the pure-Python decoder. None of the exporter's code.

Records are counted and hashed one by one as they come by; only a latest table's keys are kept. What the dead letters say
about a range of offsets is taken from the rows of the dead-letter table, and checked against the log in turn.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lakehouse.verify_rows import RowRules, cells_hash, headers_hash
from schemas.kafka.batch import batch_size, read_header
from schemas.kafka.records import Record, RecordError, decode_batch
from schemas.row_checksum import RowChecksum, row_hash

MODULUS = 1 << 64
MISPLACED_MAX = 10


@dataclass(slots=True)
class Tally:
    """Rows seen: count, sum of hashes, least and largest offset."""

    count: int = 0
    sum: int = 0
    moments: int = 0
    """Sum of hashes of timestamps."""
    cells: int = 0
    """Sum of hashes of the declared columns' values."""
    headers: int = 0
    """Sum of hashes of headers."""
    offset_min: int | None = None
    offset_max: int | None = None

    def add(self, offset: int, hashed: int, moment: int, cells: int, headers: int) -> None:
        """Take one row."""
        self.count += 1
        self.sum = (self.sum + hashed) % MODULUS
        self.moments = (self.moments + moment) % MODULUS
        self.cells = (self.cells + cells) % MODULUS
        self.headers = (self.headers + headers) % MODULUS
        self.offset_min = offset if self.offset_min is None else min(self.offset_min, offset)
        self.offset_max = offset if self.offset_max is None else max(self.offset_max, offset)

    @property
    def checksum(self) -> RowChecksum:
        """As the ledger writes it."""
        return RowChecksum(self.count, self.sum)


@dataclass(frozen=True, slots=True)
class DeadRanges:
    """Offsets of one partition that the dead letters hold, as ranges sorted by their first offset."""

    firsts: Sequence[int] = ()
    nexts: Sequence[int] = ()

    def holds(self, offset: int) -> bool:
        """True where the offset is a dead letter, or lies in a broken batch."""
        at = bisect_right(self.firsts, offset) - 1
        return at >= 0 and offset < self.nexts[at]


@dataclass(slots=True)
class Expected:
    """What one partition's log says its tables should hold, from `first` to the watermarks asked for."""

    partition: int
    first: int
    with_value: bool
    watermark: int
    """Of the main table."""
    history_watermark: int = 0
    dead: DeadRanges = field(default_factory=DeadRanges)
    dead_in_history: DeadRanges = field(default_factory=DeadRanges)
    """The same without records that are dead letters for having no key: a history keeps those."""
    latest: bool = False
    rules: RowRules = field(default_factory=RowRules)
    drop: bool = False
    """True where records that don't fit are dropped."""
    append: Tally = field(default_factory=Tally)
    history: Tally = field(default_factory=Tally)
    dead_records: Tally = field(default_factory=Tally)
    broken_batches: int = 0
    unexplained: list[int] = field(default_factory=list)
    """Offsets of broken batches that the dead letters don't have."""
    misplaced: list[str] = field(default_factory=list)
    """Records that are dead letters and fit, or don't fit and are no dead letters; the first few, in words."""
    kept: array[int] | None = None
    """Where the log is compacted by key: the offsets of the records that it has. Rows of tables that keep every record are
    compared at these alone, as far as the log is compacted."""
    _newest: dict[bytes | None, tuple[int, int, int, int, int]] = field(default_factory=dict)

    def take(self, batches: bytes, max_bytes: int) -> None:
        """Take the whole batches of one fetch, in offset order."""
        view = memoryview(batches)
        at = 0
        while at < len(view):
            size = batch_size(view, at)
            header = read_header(view, at)
            try:
                records = [] if header.is_control else decode_batch(view[at : at + size], max_bytes=max_bytes)
            except RecordError:
                self._broken(header.base_offset, header.base_offset + header.last_offset_delta + 1)
                records = []
            for record in records:
                self._record(record)
            at += size

    def _record(self, record: Record) -> None:
        offset, key, value = record.offset, record.key, record.value
        if offset < self.first:
            return
        if self.kept is not None:
            self.kept.append(offset)
        cells, moment = self.rules.cells(record), self.rules.moment_hash(record)
        headers = headers_hash(record)
        is_dead = self.dead.holds(offset)
        if is_dead and offset < self.watermark:
            self.dead_records.add(offset, row_hash(self.partition, offset, key, value), moment, 0, headers)
        hashed = row_hash(self.partition, offset, key, value if self.with_value else None)
        row = (offset, hashed, moment, 0 if not cells else cells_hash(offset, cells), headers)
        fits = cells is not None
        if offset < self.history_watermark and fits and not self.dead_in_history.holds(offset):
            self.history.add(*row)
        if offset >= self.watermark:
            return
        self._place(offset, fits and not (self.latest and key is None), is_dead)
        if is_dead or not fits:
            return
        if not self.latest:
            self.append.add(*row)
        elif value is None:
            self._newest.pop(key, None)
        else:
            self._newest[key] = row

    def _place(self, offset: int, fits: bool, is_dead: bool) -> None:
        """A record that fits belongs into the table, any other one to the dead letters, unless they are dropped."""
        if fits == is_dead and not (self.drop and not fits) and len(self.misplaced) < MISPLACED_MAX:
            words = "fits and is a dead letter" if fits else "doesn't fit and is no dead letter"
            self.misplaced.append(f"offset {offset} {words}")

    def _broken(self, first: int, next_: int) -> None:
        if first >= self.watermark or next_ <= self.first:
            return
        self.broken_batches += 1
        if not self.dead.holds(max(first, self.first)):
            self.unexplained.append(first)

    def main(self) -> Tally:
        """What the main table should hold."""
        if not self.latest:
            return self.append
        tally = Tally()
        for row in self._newest.values():
            tally.add(*row)
        return tally


def dead_ranges(rows: Sequence[tuple[int, int, int]]) -> Mapping[int, DeadRanges]:
    """partition -> ranges, from rows of (partition, offset, next offset)."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for partition, first, next_ in sorted(rows):
        firsts, nexts = found.setdefault(partition, ([], []))
        firsts.append(first)
        nexts.append(next_)
    return {partition: DeadRanges(firsts, nexts) for partition, (firsts, nexts) in found.items()}
