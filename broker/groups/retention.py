"""Which committed offsets of a group have run out (KIP-211). Pure.

With group management: in an empty group all, counted from when it became empty; in a stable consumer group those of
topics that nobody subscribes to, counted from their commit. Without (a simple group) counted from their commit. While
members come and go nothing runs out. An offset that was committed with a time of its own runs out at that time.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.groups.group import Group
from broker.groups.states import State
from broker.groups.subscription import subscribed
from catalog.groups import StoredOffset


def expired(group: Group, offsets: Sequence[StoredOffset], retention_ms: int, wall_ms: int) -> list[StoredOffset]:
    """The offsets that have run out."""
    kept_topics: frozenset[str] = frozenset()
    since_empty = False
    if group.protocol_type is not None:
        if group.state is State.EMPTY:
            since_empty = True
        elif group.state is State.STABLE:
            topics = subscribed(group)
            if topics is None:
                return []
            kept_topics = topics
        else:
            return []
    elif group.state is not State.EMPTY:
        return []

    def has_run_out(offset: StoredOffset) -> bool:
        if offset.topic_name in kept_topics:
            return False
        if offset.expire_ms >= 0:
            return wall_ms >= offset.expire_ms
        base_ms = group.since_ms if since_empty else offset.committed_ms
        return wall_ms - base_ms >= retention_ms

    return [offset for offset in offsets if has_run_out(offset)]
