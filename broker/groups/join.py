"""JoinGroup: new members, ids given out first (KIP-394), members that join again, static members under a new id. Pure."""

from __future__ import annotations

from broker.groups.group import Group, Member
from broker.groups.rebalance import rebalance_or_try, try_complete
from broker.groups.replace import Replaced, replace_static
from broker.groups.requests import Join, JoinReply, Now, Token
from broker.groups.states import Kind, Rule, State
from broker.groups.validate import check_member
from schemas.kafka.errors import ErrorCode


def join(group: Group, request: Join, token: Token, now: Now) -> Replaced | None:
    """Answer or park a JoinGroup. Gives back a static member's replacement that has to be stored before the answer."""
    error, named = _refusal(group, request)
    if error:
        group.reply(token, JoinReply(error, named))
        if error == ErrorCode.GROUP_MAX_SIZE_REACHED:
            group.remove(request.member_id, error)
            try_complete(group, now)  # the others wait for it no more
        return None
    if request.member_id:
        if request.member_id in group.pending:
            _add(group, request, request.member_id, token, now)
        else:
            _rejoin(group, request, token, now)
        return None
    new_id = f"{request.client_id if request.instance_id is None else request.instance_id}-{request.fresh_id}"
    if request.instance_id is not None and request.instance_id in group.static:
        return replace_static(group, request, new_id, token, now)
    if request.instance_id is None and request.id_required:
        group.pending[new_id] = None
        group.timers.set(("session", new_id), now.ms + request.session_ms)
        group.reply(token, JoinReply(ErrorCode.MEMBER_ID_REQUIRED, new_id))
    else:
        _add(group, request, new_id, token, now)
    return None


def _refusal(group: Group, request: Join) -> tuple[ErrorCode, str]:
    """(error, member id to answer with); no error where the request may go on."""
    member_id = request.member_id
    limits = group.limits
    if not limits.session_min_ms <= request.session_ms <= limits.session_max_ms:
        return ErrorCode.INVALID_SESSION_TIMEOUT, member_id
    if group.state is State.DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE, member_id
    if not _has_room(group, member_id):
        return ErrorCode.GROUP_MAX_SIZE_REACHED, ""
    if not group.supports(request.protocol_type, request.protocols):
        return ErrorCode.INCONSISTENT_GROUP_PROTOCOL, member_id
    if member_id in group.pending:
        # An id is only given out first to members without an instance id.
        return (ErrorCode.NONE if request.instance_id is None else ErrorCode.UNKNOWN_MEMBER_ID), member_id
    if member_id:
        return check_member(group, member_id, request.instance_id), member_id
    return ErrorCode.NONE, member_id


def _has_room(group: Group, member_id: str) -> bool:
    """While a rebalance is prepared those who have joined count, so that a group above its limit loses its last members."""
    member = group.members.get(member_id)
    if group.state is State.EMPTY:
        return True
    if group.state is State.PREPARING:
        return (member is not None and member.join is not None) or group.waiting < group.limits.size_max
    return member is not None or len(group.members) < group.limits.size_max


def _add(group: Group, request: Join, member_id: str, token: Token, now: Now) -> None:
    if not group.members:
        group.protocol_type = request.protocol_type
    if group.state is State.PREPARING and group.initial:
        group.newcomer = True
    member = Member(
        member_id=member_id,
        instance_id=request.instance_id,
        client_id=request.client_id,
        client_host=request.client_host,
        session_ms=request.session_ms,
        rebalance_ms=request.rebalance_ms,
        protocols=request.protocols,
        join=token,
        is_new=True,
    )
    group.add(member)
    # It can't send heartbeats before it knows its id: only a long wait ends its first session.
    group.timers.set(("session", member_id), now.ms + group.limits.new_member_join_ms)
    rebalance_or_try(group, now)


def _rejoin(group: Group, request: Join, token: Token, now: Now) -> None:
    member = group.members[request.member_id]
    rule = group.rule(Kind.REJOIN)
    same = member.protocols == request.protocols
    if rule is Rule.UNKNOWN:
        group.reply(token, JoinReply(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id))
    elif same and (
        rule is Rule.SAME_OR_REBALANCE or (rule is Rule.FOLLOWER_SAME_OR_REBALANCE and group.leader != member.member_id)
    ):
        group.reply(token, group.join_reply(member))
    else:
        update(group, member, request, token)
        rebalance_or_try(group, now)


def update(group: Group, member: Member, request: Join, token: Token) -> None:
    """Take over what the member says of itself, and park its call."""
    # A second call of one member means that the first one's connection is gone.
    group.answer_join(member, JoinReply(ErrorCode.REBALANCE_IN_PROGRESS, member.member_id))
    group.park_join(member, token)
    group.change_protocols(member, request.protocols)
    member.rebalance_ms = request.rebalance_ms
    member.session_ms = request.session_ms
