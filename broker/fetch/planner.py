"""From (shard, offset, budgets) to extents: what a Fetch answer will be made of, before a byte is read.

Pure. Owns KIP-74: partitions are served in the request's order until `max_bytes` are planned; each gets at most its own
limit; the first partition that has anything gets at least one whole batch, whatever the limits. Budgets are counted in
whole extents here and in whole batches when bytes are cut (`cut_extents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from broker.services import FetchPart
from catalog.sequence import Extent


class ShardView(NamedTuple):
    """One shard as one snapshot shows it: `extents[at:end]` are contiguous and the first holds the asked offset."""

    high_watermark: int
    log_start: int
    extents: Sequence[Extent]
    at: int
    end: int
    error: int = 0


class PlannedPart(NamedTuple):
    """What one partition will answer with. `limit` bounds its bytes unless `whole_first`."""

    error: int
    high_watermark: int
    log_start: int
    extents: Sequence[Extent]
    limit: int
    whole_first: bool


def plan_fetch(parts: Sequence[FetchPart], views: Sequence[ShardView], max_bytes: int) -> tuple[list[PlannedPart], int]:
    """Plan an answer; returns the parts in request order and the bytes planned (an upper estimate, whole extents)."""
    planned: list[PlannedPart] = []
    left = max_bytes
    total = 0
    first = True
    for part, view in zip(parts, views, strict=True):
        if view.error:
            planned.append(PlannedPart(view.error, -1, -1, (), 0, False))
            continue
        limit = min(part.max_bytes, left)
        if view.at >= view.end or (limit <= 0 and not first):
            planned.append(PlannedPart(0, view.high_watermark, view.log_start, (), 0, False))
            continue
        stop, length = _within(view, limit)
        planned.append(PlannedPart(0, view.high_watermark, view.log_start, view.extents[view.at : stop], limit, first))
        first = False
        used = min(length, max(limit, 0))
        left -= used
        total += length
    return planned, total


def replan(part: PlannedPart, view: ShardView) -> PlannedPart:
    """The same part of an answer from another view of its shard: what it may take of the answer stays."""
    if view.error:
        return PlannedPart(view.error, -1, -1, (), 0, False)
    stop, _ = _within(view, part.limit)
    return PlannedPart(
        0, view.high_watermark, view.log_start, view.extents[view.at : stop], part.limit, part.whole_first
    )


def freeze(view: ShardView, bytes_max: int) -> ShardView:
    """The same view over its own copy of the extents that `bytes_max` can need: the index may change under the other."""
    if view.at >= view.end:
        return view._replace(extents=(), at=0, end=0)
    stop, _ = _within(view, bytes_max)
    return view._replace(extents=view.extents[view.at : stop], at=0, end=stop - view.at)


def _within(view: ShardView, limit: int) -> tuple[int, int]:
    """End position and bytes of the extents that are needed to fill `limit`; at least one."""
    at = view.at
    length = 0
    while at < view.end:
        length += view.extents[at].byte_length
        at += 1
        if length >= limit:
            break
    return at, length
