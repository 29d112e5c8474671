"""The topics that a group's members subscribe to, from the consumers' own metadata (ConsumerProtocolSubscription). Pure.

The layout is `version int16, topics array of string, user data ...`; only the beginning is read, which is the same in
every version.
"""

from __future__ import annotations

from broker.groups.group import CONSUMER, Group
from schemas.kafka.wire import STRING_BYTES_MAX


def topics_of(metadata: bytes) -> list[str] | None:
    """The topics named in one member's metadata; None where it isn't a subscription."""
    if len(metadata) < 6:
        return None
    count = int.from_bytes(metadata[2:6], "big", signed=True)
    if count < 0 or count > (len(metadata) - 6) // 2:
        return None
    at = 6
    topics = []
    for _ in range(count):
        size = int.from_bytes(metadata[at : at + 2], "big", signed=True)
        end = at + 2 + size
        if not 0 <= size <= STRING_BYTES_MAX or end > len(metadata):
            return None
        try:
            topics.append(metadata[at + 2 : end].decode())
        except UnicodeDecodeError:
            return None
        at = end
    return topics


def subscribed(group: Group) -> frozenset[str] | None:
    """Topics that members of a consumer group subscribe to; None where that can't be known."""
    if group.protocol_type != CONSUMER:
        return None
    if not group.members:
        return frozenset()
    if group.protocol is None:
        return None
    topics: list[str] = []
    for member in group.members.values():
        found = topics_of(member.metadata(group.protocol))
        if found is None:
            return None
        topics += found
    return frozenset(topics)
