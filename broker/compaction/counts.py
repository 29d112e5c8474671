"""What small-object compaction has done in this process, for the metrics. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CompactionCounts:
    """Totals since the start."""

    objects_written: int = 0
    bytes_written: int = 0
    extents_replaced: int = 0
    extents_written: int = 0
    """What took the place of those."""
    swaps_dropped: int = 0
    """Objects that were written in vain: somebody else had changed their inputs, or the agent epoch was lost."""
    inputs_left: int = 0
    """Extents that could not be read: missing or corrupt. `neve fsck` says more."""

    def counters(self) -> tuple[tuple[str, str, int], ...]:
        """Name, meaning and value of what only grows."""
        return (
            ("neve_compaction_objects", "Objects written by compaction.", self.objects_written),
            ("neve_compaction_bytes", "Bytes of those objects.", self.bytes_written),
            ("neve_compaction_extents_replaced", "Extents replaced by compaction.", self.extents_replaced),
            ("neve_compaction_extents_written", "Extents in their place.", self.extents_written),
            ("neve_compaction_dropped", "Objects written in vain, as others were faster.", self.swaps_dropped),
            ("neve_compaction_inputs_left", "Extents found missing or corrupt.", self.inputs_left),
        )
