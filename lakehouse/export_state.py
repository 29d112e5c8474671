"""What the exporter tells its parent: one small JSON file, replaced as a whole, from which the parent makes metrics.

`freshness_seconds` is how long ago a record may have been acknowledged and not be in the table yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lakehouse.exporter import Mirrored

STATE_FILE_VARIABLE = "NEVE_EXPORT_STATE_FILE"


def state_of(mirrored: Iterable[Mirrored], now_ms: int) -> dict[str, Any]:
    """Facts of every table as JSON. Times are Unix ms, freshness seconds."""
    tables = [
        {
            "topic": one.row.name,
            "kind": kind,
            "freshness_seconds": max(0, now_ms - facts.valid_through_ms) / 1000,
            "offset_lag": facts.offset_lag,
            "gap_records": facts.gap_records,
            "rows": facts.rows,
            "last_success_ms": facts.last_success_ms,
        }
        for one in mirrored
        for kind, facts in sorted(one.facts.items())
    ]
    return {"written_ms": now_ms, "tables": tables}
