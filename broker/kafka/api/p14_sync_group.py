"""SyncGroup (key 14), versions 0–5: a member's assignment for this generation. The leader's call brings it for all.

The assignment is stored before any member is told. Members that don't sync within the rebalance timeout are dropped.

Deviations:
- A call that waits when its member leaves or is dropped is answered with UNKNOWN_MEMBER_ID; Kafka never answers it.
"""

from __future__ import annotations

from broker.groups.requests import Sync, SyncReply
from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import asked, check_group_id
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

PROTOCOL_FROM = 5


def _fail(call: Call, error: int) -> Buffers:
    return _answer(call, SyncReply(error))


@serve(ApiKey.SYNC_GROUP, versions=(0, 5), fail=_fail)
def sync_group(call: Call) -> Reply:
    """Ask the group; the answer waits for the leader's."""
    request = request_of(call)
    error = check_group_id(request["group_id"])
    if not error and call.version >= PROTOCOL_FROM and None in (request["protocol_type"], request["protocol_name"]):
        error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    return call.fail(error) if error else _sync(call, request)


async def _sync(call: Call, request: Message) -> Buffers:
    sync = Sync(
        member_id=request["member_id"],
        generation=request["generation_id"],
        instance_id=request.get("group_instance_id"),
        protocol_type=request.get("protocol_type"),
        protocol=request.get("protocol_name"),
        assignments=tuple((given["member_id"], bytes(given["assignment"])) for given in request["assignments"]),
    )
    return _answer(call, await asked(call, request["group_id"], sync, SyncReply))


def _answer(call: Call, answer: SyncReply) -> Buffers:
    return response(
        call,
        {
            "throttle_time": 0,
            "error_code": answer.error,
            "protocol_type": answer.protocol_type,
            "protocol_name": answer.protocol,
            "assignment": answer.assignment,
        },
        had_error=bool(answer.error),
    )
