"""The classic group's states and rules as two tables: how it moves between states, and what each request does in each. Pure.

The machine (`broker.groups.classic`) moves only along `MOVES` and answers only by `RULES`; the drawing in the docs is
made from them (`drawing`). Source: Kafka's group coordinator (KIP-62, KIP-345, KIP-394, KIP-559, KIP-814).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum


class State(StrEnum):
    """Kafka's names, as DescribeGroups and ListGroups tell them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


class Cause(StrEnum):
    """Why a group moves."""

    REBALANCE = "a member joins, changes, leaves or is lost"
    JOINED = "all have joined, or the rebalance timeout has passed"
    EMPTIED = "nobody is left"
    ASSIGNED = "the leader's assignment is stored"
    GONE = "deleted, expired, or the coordinator has moved"


MOVES: Mapping[tuple[State, Cause], State] = {
    (State.EMPTY, Cause.REBALANCE): State.PREPARING,
    (State.STABLE, Cause.REBALANCE): State.PREPARING,
    (State.COMPLETING, Cause.REBALANCE): State.PREPARING,
    (State.PREPARING, Cause.JOINED): State.COMPLETING,
    (State.PREPARING, Cause.EMPTIED): State.EMPTY,
    (State.COMPLETING, Cause.ASSIGNED): State.STABLE,
    (State.EMPTY, Cause.GONE): State.DEAD,
    (State.PREPARING, Cause.GONE): State.DEAD,
    (State.COMPLETING, Cause.GONE): State.DEAD,
    (State.STABLE, Cause.GONE): State.DEAD,
}


class Kind(StrEnum):
    """Requests whose answer depends on the state, once the member is known to be who it says."""

    REJOIN = "JoinGroup of a known member"
    REPLACE = "JoinGroup of a static member under a new id"
    SYNC = "SyncGroup"
    HEARTBEAT = "Heartbeat"
    LEAVE = "LeaveGroup"
    COMMIT = "OffsetCommit"
    DELETE = "DeleteGroups"


class Rule(Enum):
    """What is done; the texts are the docs'."""

    UNAVAILABLE = "COORDINATOR_NOT_AVAILABLE"
    UNKNOWN = "UNKNOWN_MEMBER_ID"
    REBALANCING = "REBALANCE_IN_PROGRESS"
    UPDATE_AND_PARK = "take the metadata; wait for the others"
    SAME_OR_REBALANCE = "same metadata: the generation again; changed: rebalance"
    FOLLOWER_SAME_OR_REBALANCE = "a follower's same metadata: the generation again; else rebalance"
    PARK = "wait for the others"
    REBALANCE = "rebalance"
    KEEP_OR_REBALANCE = "same protocol: store the new id, keep the assignment; else rebalance"
    PARK_SYNC = "wait for the leader; the leader's call stores the assignment"
    ASSIGNMENT = "the stored assignment"
    ALIVE = "no error; the session begins anew"
    ALIVE_REBALANCING = "REBALANCE_IN_PROGRESS; the session begins anew"
    NOTHING = "nothing more"
    TRY_COMPLETE = "complete the join if all the others have joined"
    ACCEPT = "stored"
    ACCEPT_ALIVE = "stored; the session begins anew"
    DELETE = "deleted"
    NOT_EMPTY = "NON_EMPTY_GROUP"
    NOT_FOUND = "GROUP_ID_NOT_FOUND"


_COLUMNS = (State.EMPTY, State.PREPARING, State.COMPLETING, State.STABLE, State.DEAD)
_ROWS: Mapping[Kind, tuple[Rule, Rule, Rule, Rule, Rule]] = {
    Kind.REJOIN: (
        Rule.UNKNOWN, Rule.UPDATE_AND_PARK, Rule.SAME_OR_REBALANCE, Rule.FOLLOWER_SAME_OR_REBALANCE, Rule.UNAVAILABLE,
    ),
    Kind.REPLACE: (Rule.UNKNOWN, Rule.PARK, Rule.REBALANCE, Rule.KEEP_OR_REBALANCE, Rule.UNAVAILABLE),
    Kind.SYNC: (Rule.UNKNOWN, Rule.REBALANCING, Rule.PARK_SYNC, Rule.ASSIGNMENT, Rule.UNAVAILABLE),
    Kind.HEARTBEAT: (Rule.UNKNOWN, Rule.ALIVE_REBALANCING, Rule.ALIVE, Rule.ALIVE, Rule.UNAVAILABLE),
    Kind.LEAVE: (Rule.NOTHING, Rule.TRY_COMPLETE, Rule.REBALANCE, Rule.REBALANCE, Rule.UNAVAILABLE),
    Kind.COMMIT: (Rule.ACCEPT, Rule.ACCEPT_ALIVE, Rule.REBALANCING, Rule.ACCEPT_ALIVE, Rule.UNAVAILABLE),
    Kind.DELETE: (Rule.DELETE, Rule.NOT_EMPTY, Rule.NOT_EMPTY, Rule.NOT_EMPTY, Rule.NOT_FOUND),
}  # fmt: skip
RULES: Mapping[tuple[State, Kind], Rule] = {
    (state, kind): rule for kind, row in _ROWS.items() for state, rule in zip(_COLUMNS, row, strict=True)
}


def drawing() -> str:
    """The states and moves as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> Empty"]
    lines += [f"    {source} --> {target}: {cause}" for (source, cause), target in MOVES.items()]
    return "\n".join([*lines, "    Dead --> [*]"])


def rules_table() -> str:
    """What each request does in each state, as a Markdown table."""
    lines = ["| request | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    lines += [f"| {kind} | " + " | ".join(rule.value for rule in row) + " |" for kind, row in _ROWS.items()]
    return "\n".join(lines)
