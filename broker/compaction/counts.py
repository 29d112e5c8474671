"""What small-object compaction has done in this process, for the metrics. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CompactionCounts:
    """Totals since the start, but for `last_success_s`."""

    objects_written: int = 0
    bytes_written: int = 0
    extents_replaced: int = 0
    extents_written: int = 0
    """What took the place of those."""
    swaps_dropped: int = 0
    """Objects that were written in vain: somebody else had changed their inputs, or the agent epoch was lost."""
    inputs_left: int = 0
    """Extents that could not be read: missing or corrupt. `neve fsck` says more."""
    last_success_s: float | None = None
    """Monotonic time of the last walk over all shards that went through."""
