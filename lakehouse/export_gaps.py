"""Records that were deleted from the log before they were exported: which, and how that is said. Pure.

Offsets behind the end of what a table took are missing in it for good. Dead letters lack none of their own: a range that
held none looks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalog.exports import ExportGap, LedgerFile

SAID_MAX = 3


def gaps_in(files: Sequence[LedgerFile], positions: Mapping[int, int]) -> list[ExportGap]:
    """The gaps that ranges without rows stand for, beyond what the table had taken (partition -> next offset)."""
    return [
        ExportGap(one.topic, one.kind, one.shard, first, one.offset_next)
        for one in files
        if one.kind != "dlq" and (first := max(one.offset_first, positions.get(one.shard, 0))) < one.offset_next
    ]


def in_words(gaps: Sequence[ExportGap]) -> str:
    """What a table lacks, for its status; empty where it lacks nothing."""
    if not gaps:
        return ""
    count = sum(gap.offset_next - gap.offset_first for gap in gaps)
    said = [f"partition {gap.shard} offsets {gap.offset_first} to {gap.offset_next - 1}" for gap in gaps[:SAID_MAX]]
    more = f" and {len(gaps) - SAID_MAX} more ranges" if len(gaps) > SAID_MAX else ""
    return (
        f"{count} records were deleted from the log before they were exported ({', '.join(said)}{more}); the export goes on "
        "behind them"
    )
