"""What the deletion job of this agent has done, for the metrics. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DeletionCounts:
    """Totals since the start, but for `waiting_*` and times."""

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

    def counters(self) -> tuple[tuple[str, str, int], ...]:
        """Name, meaning and value of what only grows."""
        return (
            ("neve_deletion_extents", "Extents removed below log starts.", self.extents_removed),
            ("neve_deletion_log_bytes", "Bytes of those extents.", self.log_bytes_removed),
            ("neve_deletion_condemned_objects", "Objects that nothing refers to any more.", self.objects_condemned),
            ("neve_deletion_orphans", "Objects that were uploaded and never committed.", self.orphans_condemned),
            ("neve_deletion_objects", "Objects deleted from the store.", self.objects_deleted),
            ("neve_deletion_bytes", "Bytes of those objects.", self.bytes_deleted),
            ("neve_deletion_refused_epochs", "Dead epochs with too many orphans to be right.", self.epochs_refused),
        )

    def gauges(self) -> tuple[tuple[str, str, int], ...]:
        """Name, meaning and value of what comes and goes."""
        return (
            (
                "neve_deletion_waiting_objects",
                "Objects that nothing refers to and that wait for their deletion.",
                self.waiting_objects,
            ),
            ("neve_deletion_waiting_bytes", "Bytes of those objects.", self.waiting_bytes),
        )
