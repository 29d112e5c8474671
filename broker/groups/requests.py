"""What goes into a group's state machine and what comes out of it, as values. Pure.

`Token` stands for the caller that waits for an answer: a parked JoinGroup or SyncGroup is its token kept by the member.
Member ids are made by the caller (`Join.fresh_id`), because they take randomness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

Token = int
Protocols = tuple[tuple[str, bytes], ...]
"""(name, metadata) in the member's order of preference."""


class Now(NamedTuple):
    """The two clocks: `ms` for timers, never going back, and `wall_ms` (Unix) for what is stored."""

    ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Settings that the machine goes by; durations in ms."""

    session_min_ms: int = 6_000
    session_max_ms: int = 1_800_000
    initial_delay_ms: int = 3_000
    new_member_join_ms: int = 300_000
    size_max: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Join:
    """JoinGroup. `id_required`: a new dynamic member is only given an id (v4+); `skips`: it knows skipAssignment (v9+)."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: Protocols
    fresh_id: str
    id_required: bool = True
    skips: bool = True


@dataclass(frozen=True, slots=True)
class Sync:
    """SyncGroup. `assignments` are (member id, bytes), from the leader alone."""

    member_id: str
    generation: int
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None
    assignments: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Heartbeat."""

    member_id: str
    generation: int
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """LeaveGroup: (member id, instance id) of each member that leaves."""

    members: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Commit:
    """May this member commit offsets? A generation below zero comes from outside of group management."""

    member_id: str
    generation: int
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """DeleteGroups of this group."""


Request = Join | Sync | Heartbeat | Leave | Commit | Delete


@dataclass(frozen=True, slots=True)
class JoinReply:
    """`members`: (id, instance id, metadata), for the leader alone."""

    error: int
    member_id: str
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    skip_assignment: bool = False
    members: tuple[tuple[str, str | None, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class SyncReply:
    """A member's assignment."""

    error: int
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True)
class LeaveReply:
    """One error per member that was named, in its order."""

    error: int
    members: tuple[int, ...] = ()


Answer = JoinReply | SyncReply | LeaveReply | int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer one caller."""

    token: Token
    answer: Answer


@dataclass(frozen=True, slots=True)
class Store:
    """Store this state of the group, then tell the machine with `stored(write, error)`. Writes keep their order."""

    write: int
    state: str


Effect = Reply | Store
