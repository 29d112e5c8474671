"""Heartbeat (key 12), versions 0–4: a member of this generation is alive. REBALANCE_IN_PROGRESS tells it to join again."""

from __future__ import annotations

from broker.groups.requests import Heartbeat
from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import asked, check_group_id
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"throttle_time": 0, "error_code": error}, had_error=bool(error))


@serve(ApiKey.HEARTBEAT, versions=(0, 4), fail=_fail)
def heartbeat(call: Call) -> Reply:
    """Ask the group."""
    request = request_of(call)
    error = check_group_id(request["group_id"])
    return call.fail(error) if error else _beat(call, request)


async def _beat(call: Call, request: Message) -> Buffers:
    beat = Heartbeat(request["member_id"], request["generation_id"], request.get("group_instance_id"))
    return _fail(call, await asked(call, request["group_id"], beat, int))
