"""A group's state as text for the database, and back. Pure.

What Kafka stores is stored: generation, protocol, leader, and the members with their metadata and assignment. A group is
stored when it has an assignment or is empty, so what comes back is Stable or Empty; calls that were parked are gone.
Version 1 of the layout; unknown fields are ignored at reading.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from broker.groups.group import Group, Member
from broker.groups.requests import GroupLimits
from broker.groups.states import State

LAYOUT = 1


class UnknownLayout(ValueError):
    """The state was written by a newer program: run that one."""


def dump_group(group: Group, assignments: Mapping[str, bytes] | None = None, *, members: bool = True) -> str:
    """The group as text. `assignments` stand in for the members' own while those aren't in force yet.

    Without `members` it comes back empty: for a group that has offsets to keep but no assignment yet.
    """
    return json.dumps(
        {
            "layout": LAYOUT,
            "generation": group.generation,
            "protocol_type": group.protocol_type,
            "protocol": group.protocol,
            "leader": group.leader,
            "since_ms": group.since_ms,
            "members": [
                _dump_member(
                    member, member.assignment if assignments is None else assignments.get(member.member_id, b"")
                )
                for member in (group.members.values() if members else ())
            ],
        },
        separators=(",", ":"),
    )


def _dump_member(member: Member, assignment: bytes) -> dict[str, Any]:
    return {
        "id": member.member_id,
        "instance": member.instance_id,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "session_ms": member.session_ms,
        "rebalance_ms": member.rebalance_ms,
        "protocols": [[name, b64encode(metadata).decode()] for name, metadata in member.protocols],
        "assignment": b64encode(assignment).decode(),
    }


def load_group(group_id: str, text: str, limits: GroupLimits) -> Group:
    """The group as it was stored, without timers. Raises UnknownLayout."""
    stored = json.loads(text)
    if stored["layout"] != LAYOUT:
        raise UnknownLayout(f"group {group_id!r} is stored in layout {stored['layout']}, this program knows {LAYOUT}")
    group = Group(group_id, limits, stored["since_ms"])
    group.generation = stored["generation"]
    group.protocol_type = stored["protocol_type"]
    group.protocol = stored["protocol"]
    for entry in stored["members"]:
        group.add(_load_member(entry))
    if group.members:
        group.state = State.STABLE
        group.leader = stored["leader"]
    return group


def _load_member(entry: Mapping[str, Any]) -> Member:
    return Member(
        member_id=entry["id"],
        instance_id=entry["instance"],
        client_id=entry["client_id"],
        client_host=entry["client_host"],
        session_ms=entry["session_ms"],
        rebalance_ms=entry["rebalance_ms"],
        protocols=tuple((name, b64decode(metadata)) for name, metadata in entry["protocols"]),
        assignment=b64decode(entry["assignment"]),
    )
