"""A static member (KIP-345) that comes back under a new member id: the old id is fenced, the assignment stays. Pure.

In a stable group whose protocol would stay the same nothing is rebalanced: the new id is stored, and only then told.
Kafka's leader of version 9 and above then learns the members and that it need not assign (skipAssignment); older ones
are told the old leader's id, so that they don't try.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.groups.group import Group
from broker.groups.rebalance import rebalance_or_try, try_complete
from broker.groups.requests import Join, JoinReply, Now, Protocols, SyncReply, Token
from broker.groups.states import Kind, Rule, State
from schemas.kafka.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Replaced:
    """A replacement on its way to the database, with what it takes to undo it."""

    token: Token
    old_id: str
    new_id: str
    generation: int
    leader_before: str
    skips: bool
    old_protocols: Protocols
    old_session_ms: int
    old_rebalance_ms: int


def replace_static(group: Group, request: Join, new_id: str, token: Token, now: Now) -> Replaced | None:
    """Fence the old id and park the new one's call; gives back what has to be stored before it is answered."""
    assert request.instance_id is not None, "only static members are replaced"
    rule = group.rule(Kind.REPLACE)
    old_id = group.static[request.instance_id]
    member = group.members[old_id]
    group.answer_join(member, JoinReply(ErrorCode.FENCED_INSTANCE_ID, old_id))
    group.reply(member.sync, SyncReply(ErrorCode.FENCED_INSTANCE_ID))
    replaced = Replaced(
        token,
        old_id,
        new_id,
        group.generation,
        group.leader or "",
        request.skips,
        member.protocols,
        member.session_ms,
        member.rebalance_ms,
    )
    group.rename_static(member, new_id)
    member.sync = None
    group.park_join(member, token)
    member.client_id, member.client_host = request.client_id, request.client_host
    group.change_protocols(member, request.protocols)
    member.rebalance_ms, member.session_ms = request.rebalance_ms, request.session_ms
    group.alive(member, now.ms)
    if rule is Rule.KEEP_OR_REBALANCE and group.select_protocol() == group.protocol:
        return replaced
    if group.state is State.PREPARING:
        try_complete(group, now)
    else:
        rebalance_or_try(group, now)
    return None


def replacement_stored(group: Group, what: Replaced, error: int, now: Now) -> None:
    """Answer the new id, or put the old one back where it couldn't be stored."""
    member = group.members.get(what.new_id)
    if member is None or member.join != what.token or group.state is not State.STABLE:
        return  # replaced again, gone, or the call waits in a rebalance that has begun since
    assert group.generation == what.generation, "a parked call is answered when its generation ends"
    group.unpark_join(member)
    if error:
        group.change_protocols(member, what.old_protocols)
        member.session_ms, member.rebalance_ms = what.old_session_ms, what.old_rebalance_ms
        group.rename_static(member, what.old_id)
        group.alive(member, now.ms)
        group.reply(what.token, JoinReply(error, ""))
        return
    group.alive(member, now.ms)
    if what.skips:
        group.reply(what.token, group.join_reply(member, skip_assignment=group.leader == what.new_id))
        return
    answer = JoinReply(
        0, what.new_id, group.generation, group.protocol_type, group.protocol, what.leader_before, False, ()
    )
    group.reply(what.token, answer)
