"""What simulated members say in JoinGroup and SyncGroup: consumers' subscriptions and assignments, and two assignors.

Range gives each member a run of every topic's partitions. The cooperative one leaves partitions where they are, takes away
what a member has too much, and gives that away only in the next generation, when nobody claims it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack, unpack_from

from neve.simulation.group_history import Key

RANGE, COOPERATIVE = "range", "cooperative-sticky"
_VERSION = 1


def subscription(topics: Sequence[str], owned: Sequence[Key]) -> bytes:
    """ConsumerProtocolSubscription v1."""
    out = [pack(">hi", _VERSION, len(topics)), *(_string(topic) for topic in topics), pack(">i", -1), _keys(owned)]
    return b"".join(out)


def owned_of(data: bytes) -> list[Key]:
    """The partitions that a subscription claims."""
    (count,) = unpack_from(">i", data, 2)
    at = 6
    for _topic in range(count):
        at += 2 + int(unpack_from(">h", data, at)[0])
    return _read_keys(data, at + 4)


def assignment(keys: Sequence[Key]) -> bytes:
    """ConsumerProtocolAssignment v1."""
    return pack(">h", _VERSION) + _keys(keys) + pack(">i", -1)


def assigned_of(data: bytes) -> list[Key]:
    """The partitions of an assignment; none where it is empty."""
    return _read_keys(data, 2) if data else []


def assign(protocol: str, subscriptions: Mapping[str, bytes], keys: Sequence[Key]) -> dict[str, list[Key]]:
    """What the leader gives to each member."""
    if protocol == RANGE:
        return _range(sorted(subscriptions), keys)
    return _cooperative({member: owned_of(data) for member, data in sorted(subscriptions.items())}, keys)


def _range(members: Sequence[str], keys: Sequence[Key]) -> dict[str, list[Key]]:
    out: dict[str, list[Key]] = {member: [] for member in members}
    topics: dict[str, list[Key]] = {}
    for key in sorted(keys):
        topics.setdefault(key[0], []).append(key)
    for parts in topics.values():
        each, more = divmod(len(parts), len(members))
        at = 0
        for place, member in enumerate(members):
            count = each + (place < more)
            out[member] += parts[at : at + count]
            at += count
    return out


def _cooperative(owned: Mapping[str, Sequence[Key]], keys: Sequence[Key]) -> dict[str, list[Key]]:
    claims: dict[Key, list[str]] = {key: [] for key in sorted(keys)}
    for member, theirs in owned.items():
        for key in theirs:
            claims.setdefault(key, []).append(member)
    most = -(-len(keys) // len(owned))
    out: dict[str, list[Key]] = {member: [] for member in owned}
    free: list[Key] = []
    for key, members in claims.items():
        if len(members) != 1:
            free.append(key)
        elif len(out[members[0]]) < most:
            out[members[0]].append(key)
    for key in free:
        member = min(out, key=lambda name: (len(out[name]), name))
        out[member].append(key)
    return out


def _string(text: str) -> bytes:
    data = text.encode()
    return pack(">h", len(data)) + data


def _keys(keys: Sequence[Key]) -> bytes:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(keys):
        topics.setdefault(topic, []).append(partition)
    out = [pack(">i", len(topics))]
    for topic, partitions in topics.items():
        out += [_string(topic), pack(f">i{len(partitions)}i", len(partitions), *partitions)]
    return b"".join(out)


def _read_keys(data: bytes, at: int) -> list[Key]:
    (topics,) = unpack_from(">i", data, at)
    at += 4
    keys: list[Key] = []
    for _topic in range(topics):
        (size,) = unpack_from(">h", data, at)
        topic = data[at + 2 : at + 2 + size].decode()
        at += 2 + size
        (count,) = unpack_from(">i", data, at)
        keys += [(topic, int(partition)) for partition in unpack_from(f">{count}i", data, at + 4)]
        at += 4 + 4 * count
    return keys
