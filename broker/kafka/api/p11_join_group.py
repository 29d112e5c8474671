"""JoinGroup (key 11), versions 0–9: become a member of a group's next generation, or be told the current one.

From version 4 a new dynamic member is first given an id (MEMBER_ID_REQUIRED) and joins with it. Static members
(version 5) keep their assignment across a restart. The answer comes when all members have joined, or when the
rebalance timeout has passed; only the leader is told the members.

Deviations:
- A second call of a member while its first one waits answers the first with REBALANCE_IN_PROGRESS; Kafka never answers it.
- An id that was given out to a dynamic member isn't known together with an instance id: UNKNOWN_MEMBER_ID, in Kafka
  UNKNOWN_SERVER_ERROR.
- Group ids are at most 2000 bytes and can't contain the character NUL.
"""

from __future__ import annotations

from uuid import UUID

from broker.groups.requests import Join, JoinReply
from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import asked, check_group_id, client_host
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey

REBALANCE_TIMEOUT_FROM = 1
MEMBER_ID_REQUIRED_FROM = 4
NULL_PROTOCOL_FROM = 7
SKIP_ASSIGNMENT_FROM = 9


def _fail(call: Call, error: int) -> Buffers:
    return _answer(call, JoinReply(error, request_of(call)["member_id"]))


@serve(ApiKey.JOIN_GROUP, versions=(0, 9), fail=_fail)
def join_group(call: Call) -> Reply:
    """Ask the group; the answer may take as long as a rebalance."""
    request = request_of(call)
    error = check_group_id(request["group_id"])
    return call.fail(error) if error else _join(call, request)


async def _join(call: Call, request: Message) -> Buffers:
    session_ms = request["session_timeout"]
    join = Join(
        member_id=request["member_id"],
        instance_id=request.get("group_instance_id"),
        client_id=call.client_id,
        client_host=client_host(call),
        session_ms=session_ms,
        rebalance_ms=request["rebalance_timeout"] if call.version >= REBALANCE_TIMEOUT_FROM else session_ms,
        protocol_type=request["protocol_type"],
        protocols=tuple((protocol["name"], bytes(protocol["metadata"])) for protocol in request["protocols"]),
        fresh_id=str(UUID(int=call.context.services.rng.getrandbits(128), version=4)),
        id_required=call.version >= MEMBER_ID_REQUIRED_FROM,
        skips=call.version >= SKIP_ASSIGNMENT_FROM,
    )
    return _answer(call, await asked(call, request["group_id"], join, JoinReply))


def _answer(call: Call, answer: JoinReply) -> Buffers:
    return response(
        call,
        {
            "throttle_time": 0,
            "error_code": answer.error,
            "generation_id": answer.generation,
            "protocol_type": answer.protocol_type,
            "protocol_name": answer.protocol or (None if call.version >= NULL_PROTOCOL_FROM else ""),
            "leader": answer.leader,
            "skip_assignment": answer.skip_assignment,
            "member_id": answer.member_id,
            "members": [
                {"member_id": member_id, "group_instance_id": instance_id, "metadata": metadata}
                for member_id, instance_id, metadata in answer.members
            ],
        },
        had_error=bool(answer.error),
    )
