"""What the deletion job of this agent has done, for the metrics. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DeletionCounts:
    """Totals since the start, but for `waiting_*` and times."""

    holds_lease: bool = False
    extents_removed: int = 0
    log_bytes_removed: int = 0
    objects_condemned: int = 0
    orphans_condemned: int = 0
    objects_deleted: int = 0
    bytes_deleted: int = 0
    epochs_refused: int = 0
    """Dead epochs with more orphans than the sweeper trusts: somebody has to look."""
    waiting_objects: int = 0
    waiting_bytes: int = 0
    """Condemned and not deleted yet, as of the last round."""
    last_success_s: float | None = None
    """Monotonic time of the last round that went through."""
