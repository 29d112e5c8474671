"""Is the caller the member it says it is, and of this generation? Kafka codes, 0 where it is. Pure."""

from __future__ import annotations

from broker.groups.group import Group
from broker.groups.requests import Commit
from broker.groups.states import Kind, Rule, State
from schemas.kafka.errors import ErrorCode


def check_member(group: Group, member_id: str, instance_id: str | None) -> ErrorCode:
    """An instance id that another member id has taken over fences the caller (KIP-345)."""
    if instance_id is not None:
        current = group.static.get(instance_id)
        if current is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if current != member_id:
            return ErrorCode.FENCED_INSTANCE_ID
    return ErrorCode.NONE if member_id in group.members else ErrorCode.UNKNOWN_MEMBER_ID


def check_generation(group: Group, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
    """The member, then its generation."""
    if group.state is State.DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    error = check_member(group, member_id, instance_id)
    if not error and generation != group.generation:
        return ErrorCode.ILLEGAL_GENERATION
    return error


def check_commit(group: Group, request: Commit) -> ErrorCode:
    """Offsets come from members of this generation, or from outside while the group is empty."""
    if group.state is State.DEAD:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if request.generation < 0 and group.state is State.EMPTY:
        return ErrorCode.NONE
    if request.generation < 0 and not request.member_id and request.instance_id is None:
        return ErrorCode.UNKNOWN_MEMBER_ID
    error = check_generation(group, request.member_id, request.instance_id, request.generation)
    if not error and group.rule(Kind.COMMIT) is Rule.REBALANCING:
        return ErrorCode.REBALANCE_IN_PROGRESS
    return error
