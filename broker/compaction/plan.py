"""Which extents of a shard are worth merging into one. Pure.

Small neighbours are merged into larger extents, those into still larger ones, up to a bound: an extent is what a reader
loads for its first byte, so it must stay small, however large the object is that holds it. Owns:

- every merge at least doubles the size of each extent in it (none makes up more than half of the whole), so a byte is
  rewritten a logarithmic number of times; only where very many lie together are they merged whatever their sizes;
- extents per shard stay bounded by the bytes it holds and the logarithm of its age: old ones may span more time
  than young ones, a fixed share of their age, so that retention by time stays about as exact as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from catalog.compaction import SettledExtent

AGE_SHARE = 8
"""A merged extent spans at most an eighth of its age."""


class MergeLimits(NamedTuple):
    """Bounds of merges within one shard."""

    extent_bytes: int
    """Largest merged extent."""
    extents_min: int
    """Fewer are left alone until more follow, unless they make up a whole extent."""
    extents_crowd: int
    """Where nothing else is to be merged, so many are, although one of them is larger than the rest together."""
    extents_max: int
    """Most extents in one merge."""
    span_ms: int
    """Between the commits of a merged extent's records there may always be this much."""


class Group(NamedTuple):
    """Neighbours `[first, end)` of a shard's extents to be merged."""

    first: int
    end: int


def plan_merges(extents: Sequence[SettledExtent], now_ms: int, limits: MergeLimits) -> list[Group]:
    """Groups worth merging, in order, apart from each other. `extents` are one shard's, contiguous and settled."""
    groups: list[Group] = []
    _search(extents, 0, len(extents), now_ms, limits, groups)
    if not groups and len(extents) >= limits.extents_crowd:
        _search(extents, 0, len(extents), now_ms, limits, groups, crowds=True)
    return groups


def final_until(extents: Sequence[SettledExtent], limits: MergeLimits) -> int:
    """How many of these first extents need never be looked at again: so many bytes follow that none of them can be merged
    with anything that is still to come."""
    behind = 0
    for at in range(len(extents) - 1, -1, -1):
        behind += extents[at].extent.byte_length
        if behind > 2 * limits.extent_bytes:
            return at
    return 0


def _search(
    extents: Sequence[SettledExtent],
    first: int,
    end: int,
    now_ms: int,
    limits: MergeLimits,
    groups: list[Group],
    *,
    crowds: bool = False,
) -> None:
    at = first
    while at < end:
        reach, full = _reach(extents, at, end, now_ms, limits)
        count = reach - at
        if count < (2 if full else limits.extents_min):
            if reach == end:
                return  # whatever begins later has fewer
            at += 1
            continue
        sizes = [extents[position].extent.byte_length for position in range(at, reach)]
        largest = max(sizes)
        if 2 * largest <= sum(sizes) or (crowds and count >= limits.extents_crowd):
            groups.append(Group(at, reach))
            at = reach
        else:  # the large one stays; what lies before it is looked at by itself
            middle = at + sizes.index(largest)
            _search(extents, at, middle, now_ms, limits, groups, crowds=crowds)
            at = middle + 1


def _reach(extents: Sequence[SettledExtent], at: int, end: int, now_ms: int, limits: MergeLimits) -> tuple[int, bool]:
    """Where the longest group that begins here ends, and whether it does because another extent would be too much."""
    begun_ms = extents[at].committed_ms
    size = 0
    for position in range(at, min(end, at + limits.extents_max)):
        one = extents[position]
        size += one.extent.byte_length
        if size > limits.extent_bytes:
            return position, True
        if one.committed_ms - begun_ms > max(limits.span_ms, (now_ms - one.committed_ms) // AGE_SHARE):
            return position, False
    return min(end, at + limits.extents_max), False
