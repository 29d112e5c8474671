"""How far retention may raise a log start. Pure.

As Kafka does (`UnifiedLog.deleteOldSegments`), with extents in place of segments: oldest first, while the newest record of the
extent is older than retention.ms, or while the log without the extent still has retention.bytes. The first extent that
stays ends it, so a record from the future holds back what lies behind it.

What isn't in the topic's tables yet is held back: for `pin_ms` after its commit, and no more than `pin_bytes` of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from catalog.retained import OldExtent
from schemas.config_types import split_list
from schemas.topic_config import value_of

NO_BOUND = -1


class Policy(NamedTuple):
    """What a topic keeps; -1 is no bound."""

    retention_ms: int
    retention_bytes: int


class Pin(NamedTuple):
    """What the export of a shard holds back."""

    exported: int
    """Everything below is in the tables."""
    pin_ms: int
    pin_bytes: int
    unexported_bytes: int


def policy_of(config: Mapping[str, str], broker: Mapping[str, str]) -> Policy | None:
    """A topic's retention; None where its cleanup policy deletes nothing, or it keeps everything."""
    if "delete" not in split_list(value_of("cleanup.policy", config, broker)):
        return None
    policy = Policy(int(value_of("retention.ms", config, broker)), int(value_of("retention.bytes", config, broker)))
    return None if policy.retention_ms < 0 and policy.retention_bytes < 0 else policy


def is_due(oldest_ms: int, now_ms: int, policy: Policy) -> bool:
    """True where an extent with this newest record is past retention.ms."""
    return policy.retention_ms >= 0 and now_ms - oldest_ms > policy.retention_ms


def expired(extents: Sequence[OldExtent], *, policy: Policy, now_ms: int, log_bytes: int) -> int:
    """How many of a log's oldest extents its retention no longer keeps. `log_bytes` is the size of the whole log."""
    over = log_bytes - policy.retention_bytes if policy.retention_bytes >= 0 else 0
    count = 0
    for extent in extents:
        by_bytes = policy.retention_bytes >= 0 and over >= extent.bytes
        if not by_bytes and not is_due(extent.timestamp_ms, now_ms, policy):
            break
        over -= extent.bytes
        count += 1
    return count


def unpinned(extents: Sequence[OldExtent], *, pin: Pin, now_ms: int) -> int:
    """How many of these, which retention would remove, the export lets go: those that are in the tables, have waited long
    enough, or are too much."""
    excess = pin.unexported_bytes - pin.pin_bytes
    count = 0
    for extent in extents:
        if extent.offset_next > pin.exported:
            if excess <= 0 and now_ms - extent.committed_ms <= pin.pin_ms:
                break
            excess -= extent.bytes
        count += 1
    return count
