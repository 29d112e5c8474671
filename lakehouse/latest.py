"""Latest tables in the simple way: the whole table is rewritten per commit (copy-on-write), up to a number of keys.

Pure but for the CPU it takes. Identity is (partition, key bytes); the row with the largest offset wins; a null value is a
tombstone and takes the row away. Invariant owned here: after a commit the table equals the last value per (partition, key)
of all rows up to its watermark (I9), and doing the same rows again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOMBSTONE = "_kafka_tombstone"
"""In memory only; a declared column can't have this name."""
_KEYS = ["_kafka_partition", "_kafka_key"]


class TooManyKeys(Exception):
    """The table has more keys, or more bytes, than can be rewritten per commit."""


@dataclass(frozen=True, slots=True)
class LatestLimits:
    """Bounds of a table that is rewritten per commit. `bytes_max` is of its rows as Arrow has them."""

    keys_max: int
    bytes_max: int

    def check_keys(self, count: int) -> None:
        """Raises TooManyKeys."""
        if count > self.keys_max:
            raise TooManyKeys(
                f"the table would have {count} keys; a latest table takes {self.keys_max} (setting latest_keys_max): "
                "raise it, or set iceberg.kind=append"
            )

    def check_bytes(self, size: int) -> None:
        """Raises TooManyKeys."""
        if size > self.bytes_max:
            raise TooManyKeys(
                f"the table's rows take more than {self.bytes_max} bytes of memory (setting latest_bytes_max): "
                "raise it where there is memory, or set iceberg.kind=append"
            )


def read_bounded(batches: Iterable[pa.RecordBatch], schema: pa.Schema, limits: LatestLimits) -> pa.Table:
    """The rows of a table, read no further than its bound. Raises TooManyKeys."""
    read: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        size += batch.nbytes
        limits.check_bytes(size)
        read.append(batch)
    return pa.Table.from_batches(read, schema)


def with_tombstones(rows: pa.Table, tombstones: npt.NDArray[np.bool_]) -> pa.Table:
    """Rows with a column that says which of them are tombstones."""
    return rows.append_column(TOMBSTONE, pa.array(tombstones))


def last_per_key(rows: pa.Table) -> pa.Table:
    """The row with the largest offset of each (partition, key), in the order of rows. Offsets of a key may come in any order."""
    if rows.num_rows < 2:
        return rows
    number = pa.array(np.arange(rows.num_rows, dtype=np.int64))
    keyed = pa.table([rows[name] for name in _KEYS] + [rows["_kafka_offset"], number], names=[*_KEYS, "offset", "row"])
    keyed = keyed.sort_by([("_kafka_partition", "ascending"), ("offset", "ascending")])
    last = keyed.group_by(_KEYS, use_threads=False).aggregate([("row", "last")])
    if last.num_rows == rows.num_rows:
        return rows
    return rows.take(pa.array(np.sort(last["row_last"].to_numpy())))


def add_changes(before: pa.Table | None, rows: pa.Table, limits: LatestLimits) -> pa.Table:
    """The last change of each key so far. Raises TooManyKeys: what is no tombstone here will be in the table."""
    found = last_per_key(rows if before is None else pa.concat_tables([before, rows]))
    limits.check_keys(found.num_rows - int(found[TOMBSTONE].to_numpy().sum()))
    limits.check_bytes(found.nbytes)
    return found


def merge(current: pa.Table, changes: pa.Table, limits: LatestLimits) -> pa.Table:
    """The table's next content: `current` rows and `changes` (with tombstones), last value per key. Raises TooManyKeys."""
    old = with_tombstones(current, np.zeros(current.num_rows, dtype=np.bool_))
    both = pa.concat_tables([old.select(changes.column_names), changes], promote_options="permissive")
    kept = last_per_key(both)
    kept = kept.filter(pa.array(~kept[TOMBSTONE].to_numpy())).drop_columns([TOMBSTONE])
    limits.check_keys(kept.num_rows)
    limits.check_bytes(kept.nbytes)
    return kept


def nothing_changes(current: pa.Table, changes: pa.Table) -> bool:
    """True where `changes` holds only tombstones of keys that the table has not."""
    if changes.num_rows == 0:
        return True
    if not changes[TOMBSTONE].to_numpy().all():
        return False
    known = set(zip(current["_kafka_partition"].to_pylist(), current["_kafka_key"].to_pylist(), strict=True))
    gone = zip(changes["_kafka_partition"].to_pylist(), changes["_kafka_key"].to_pylist(), strict=True)
    return known.isdisjoint(gone)
