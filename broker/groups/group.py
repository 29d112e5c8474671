"""One classic group's members and bookkeeping, without the rules of the protocol (those are in `broker.groups.classic`). Pure.

Invariants: `static` names exactly the members with an instance id; `leader` is a member or None; a pending id is no
member; every state change goes along `states.MOVES`; `support` counts the members of each protocol and `waiting` the
parked JoinGroups, so that a member's call costs the same in a large group.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from broker.groups.requests import Answer, Effect, GroupLimits, JoinReply, Protocols, Reply, SyncReply, Token
from broker.groups.states import MOVES, RULES, Cause, Kind, Rule, State
from broker.groups.timers import Timers

CONSUMER = "consumer"
"""Protocol type of consumers, whose metadata names the topics they subscribe to."""


@dataclass(slots=True)
class Member:
    """One member. `join` and `sync` are its parked calls; `is_new` until its first generation."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocols: Protocols
    assignment: bytes = b""
    join: Token | None = None
    sync: Token | None = None
    is_new: bool = False

    def metadata(self, protocol: str | None) -> bytes:
        """Its metadata for a protocol; empty where it doesn't support it."""
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")


@dataclass(slots=True)
class Group:
    """One classic group in the memory of its coordinator."""

    group_id: str
    limits: GroupLimits
    since_ms: int
    """Unix ms when the group came into its state."""
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    static: dict[str, str] = field(default_factory=dict)
    pending: dict[str, None] = field(default_factory=dict)
    """Ids given out (KIP-394) whose owners haven't joined yet."""
    support: dict[str, int] = field(default_factory=dict)
    """Members by the protocol they support."""
    waiting: int = 0
    """Members whose JoinGroup is parked."""
    unsynced: dict[str, None] = field(default_factory=dict)
    """Members of this generation that haven't asked for their assignment yet."""
    initial: bool = False
    """Preparing the first generation after being empty: the join ends by its timer alone."""
    newcomer: bool = False
    """Somebody joined since the initial delay was last extended."""
    initial_delay_ms: int = 0
    initial_left_ms: int = 0
    timers: Timers = field(default_factory=Timers)
    out: list[Effect] = field(default_factory=list)

    def rule(self, kind: Kind) -> Rule:
        """What this kind of request does now."""
        return RULES[self.state, kind]

    def move(self, cause: Cause, wall_ms: int) -> None:
        """Go along the table of moves; a move that isn't in it is a mistake of ours."""
        self.state = MOVES[self.state, cause]
        self.since_ms = wall_ms

    def reply(self, token: Token | None, answer: Answer) -> None:
        """Answer a caller; None where nobody waits."""
        if token is not None:
            self.out.append(Reply(token, answer))

    # Members

    def add(self, member: Member) -> None:
        """Take a member in."""
        self.members[member.member_id] = member
        self._support(member, 1)
        self.waiting += member.join is not None
        self.pending.pop(member.member_id, None)
        if member.instance_id is not None:
            self.static[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id

    def remove(self, member_id: str, error: int) -> None:
        """Forget a member or pending id; what it had parked is answered with `error`."""
        self.timers.drop(("session", member_id))
        self.pending.pop(member_id, None)
        self.unsynced.pop(member_id, None)
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._support(member, -1)
        self.answer_join(member, JoinReply(error, ""))
        self.reply(member.sync, SyncReply(error))
        if member.instance_id is not None:
            self.static.pop(member.instance_id, None)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)

    def park_join(self, member: Member, token: Token) -> None:
        """Let the member's JoinGroup wait. Answer the one that may be waiting before."""
        assert member.join is None, "a call that waits is answered before another one takes its place"
        member.join = token
        self.waiting += 1

    def answer_join(self, member: Member, answer: JoinReply) -> None:
        """Answer the member's JoinGroup if one waits."""
        self.reply(self.unpark_join(member), answer)

    def unpark_join(self, member: Member) -> Token | None:
        """Take the member's JoinGroup away, if one waits, without an answer."""
        token, member.join = member.join, None
        self.waiting -= token is not None
        return token

    def change_protocols(self, member: Member, protocols: Protocols) -> None:
        """Take over what the member supports now."""
        self._support(member, -1)
        member.protocols = protocols
        self._support(member, 1)

    def _support(self, member: Member, step: int) -> None:
        for name in dict(member.protocols):
            self.support[name] = self.support.get(name, 0) + step
            if not self.support[name]:
                del self.support[name]

    def rename_static(self, member: Member, new_id: str) -> None:
        """Give a static member another id, in its old place; the order of members stays."""
        old_id = member.member_id
        assert member.instance_id is not None, "only static members are replaced"
        self.timers.drop(("session", old_id))
        member.member_id = new_id
        self.members = {new_id if key == old_id else key: value for key, value in self.members.items()}
        if old_id in self.unsynced:
            self.unsynced = {new_id if key == old_id else key: None for key in self.unsynced}
        self.static[member.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id

    def alive(self, member: Member, now_ms: int) -> None:
        """The member's session begins anew."""
        self.timers.set(("session", member.member_id), now_ms + member.session_ms)

    def all_joined(self) -> bool:
        """Everybody has joined, also those who were only given an id."""
        return not self.pending and self.waiting == len(self.members)

    def rebalance_ms(self) -> int:
        """The longest rebalance timeout among the members."""
        return max((member.rebalance_ms for member in self.members.values()), default=0)

    def elect(self) -> bool:
        """Make sure that the leader is a member that has joined; False where nobody has."""
        leader = self.members.get(self.leader or "")
        if leader is not None and leader.join is not None:
            return True
        joined = next((member.member_id for member in self.members.values() if member.join is not None), None)
        if joined is not None:
            self.leader = joined
        return joined is not None

    # Protocols

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """May a member with these protocols be in the group?"""
        if not self.members:
            return bool(protocol_type) and bool(protocols)
        count = len(self.members)
        return self.protocol_type == protocol_type and any(self.support.get(name) == count for name, _ in protocols)

    def common_protocols(self) -> list[str]:
        """Protocols that every member supports."""
        return [name for name, count in self.support.items() if count == len(self.members)]

    def select_protocol(self) -> str:
        """Every member votes for the first it likes among the common ones; the most votes win, then the earliest vote."""
        common = self.common_protocols()
        votes = Counter(
            next(name for name, _ in member.protocols if name in common) for member in self.members.values()
        )
        return max(votes, key=lambda name: votes[name])

    # Answers

    def join_reply(self, member: Member, *, skip_assignment: bool = False) -> JoinReply:
        """The current generation as this member is told it; the leader alone learns who the members are."""
        leads = self.leader == member.member_id
        members = (
            ()
            if not leads
            else tuple(
                (other.member_id, other.instance_id, other.metadata(self.protocol)) for other in self.members.values()
            )
        )
        return JoinReply(
            0,
            member.member_id,
            self.generation,
            self.protocol_type,
            self.protocol,
            self.leader or "",
            skip_assignment,
            members,
        )


@dataclass(frozen=True, slots=True)
class Description:
    """A group as DescribeGroups tells it: metadata only of a stable group. Members: (id, instance id, client id, client
    host, metadata, assignment)."""

    state: State
    protocol_type: str
    protocol: str
    members: tuple[tuple[str, str | None, str, str, bytes, bytes], ...]


def describe(group: Group) -> Description:
    """The group as DescribeGroups tells it."""
    stable = group.state is State.STABLE
    return Description(
        group.state,
        group.protocol_type or "",
        (group.protocol or "") if stable else "",
        tuple(
            (
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata(group.protocol) if stable else b"",
                member.assignment,
            )
            for member in group.members.values()
        ),
    )
