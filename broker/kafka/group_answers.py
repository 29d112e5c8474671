"""What the group APIs do alike: which group ids are allowed, who is calling, how a group's error is said."""

from __future__ import annotations

from typing import TypeVar

from broker.groups.requests import Request
from broker.kafka.call import Call
from broker.services import Groups
from schemas.kafka.errors import ErrorCode

Answered = TypeVar("Answered")
GROUP_ID_BYTES_MAX = 2_000
"""What an index of the metadata database takes; Kafka's own bound is that of a string, 32767."""
GROUP_OPERATIONS = 0xD48
"""Authorized operations on a group where nothing restricts them: bits of Kafka's AclOperation codes 3, 6, 8, 10, 11."""


def groups_of(call: Call) -> Groups:
    """The groups service."""
    return call.context.services.groups


async def asked(call: Call, group_id: str, request: Request, answer_type: type[Answered]) -> Answered:
    """What the group answers, when it has it: `answer_type` is what requests of this kind are answered with."""
    answer = await groups_of(call).ask(group_id, request)
    assert isinstance(answer, answer_type), f"{type(request).__name__} was answered with {type(answer).__name__}"
    return answer


def check_group_id(group_id: str | None, *, may_be_empty: bool = False) -> ErrorCode:
    """NONE where the id is allowed. Ids of members that use group management can't be empty."""
    if group_id is None or "\0" in group_id or len(group_id.encode()) > GROUP_ID_BYTES_MAX:
        return ErrorCode.INVALID_GROUP_ID
    return ErrorCode.NONE if group_id or may_be_empty else ErrorCode.INVALID_GROUP_ID


def client_host(call: Call) -> str:
    """The caller's address as Kafka tells it: `/127.0.0.1`."""
    return "/" + call.channel.peer.rpartition(":")[0]
