"""LeaveGroup (key 13), versions 0–5: members leave; from version 3 several at once, static ones also by instance id alone."""

from __future__ import annotations

from broker.groups.requests import Leave, LeaveReply
from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import asked, check_group_id
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey

BATCH_FROM = 3


def _members(call: Call, request: Message) -> list[Message]:
    return list(request["members"]) if call.version >= BATCH_FROM else [request]


def _fail(call: Call, error: int) -> Buffers:
    return _answer(call, [], LeaveReply(error))


@serve(ApiKey.LEAVE_GROUP, versions=(0, 5), fail=_fail)
def leave_group(call: Call) -> Reply:
    """Ask the group."""
    request = request_of(call)
    error = check_group_id(request["group_id"])
    return call.fail(error) if error else _leave(call, request)


async def _leave(call: Call, request: Message) -> Buffers:
    members = _members(call, request)
    named = tuple((member["member_id"], member.get("group_instance_id")) for member in members)
    return _answer(call, members, await asked(call, request["group_id"], Leave(named), LeaveReply))


def _answer(call: Call, members: list[Message], answer: LeaveReply) -> Buffers:
    had_error = bool(answer.error or any(answer.members))
    error = answer.error
    if call.version < BATCH_FROM and not error and answer.members:
        error = answer.members[0]
    told = [
        {"member_id": member["member_id"], "group_instance_id": member.get("group_instance_id"), "error_code": code}
        for member, code in zip(members, answer.members, strict=False)
    ]
    return response(call, {"throttle_time": 0, "error_code": error, "members": told}, had_error=had_error)
