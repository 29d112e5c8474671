"""DescribeClientQuotas (key 48), versions 0–1: the quotas of the entities that a filter finds.

Entities have a user, a client id, both, or an IP address; null stands for the default. A filter asks for a name, the
default or any, per type; `strict` leaves out entities with parts that the filter doesn't name.
"""

from __future__ import annotations

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.quotas.entities import Component, Refused, find
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    return response(call, {"throttle_time": 0, **explain(error, message), "entries": None}, had_error=True)


@serve(ApiKey.DESCRIBE_CLIENT_QUOTAS, versions=(0, 1), fail=_fail)
def describe_client_quotas(call: Call) -> Reply:
    """Read now, so that a change made anywhere is seen."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    components = [Component(part["entity_type"], part["match_type"], part["match"]) for part in request["components"]]
    quotas = await call.context.services.quotas.read()
    try:
        entities = find(quotas, components, strict=request["strict"])
    except Refused as refused:
        return _fail(call, refused.error, str(refused))
    entries = [
        {
            "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity],
            "values": [{"key": quota, "value": amount} for quota, amount in quotas[entity].items()],
        }
        for entity in entities
    ]
    values = {"throttle_time": 0, "error_code": ErrorCode.NONE, "error_message": "", "entries": entries}
    return response(call, values)
