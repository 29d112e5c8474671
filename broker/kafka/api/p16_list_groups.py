"""ListGroups (key 16), versions 0–5: the groups that this agent coordinates; clients ask every agent.

From version 4 filtered by state, from version 5 by type; both filters ignore case. All groups are of type `classic`.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import groups_of
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey

TYPE = "classic"


def _fail(call: Call, error: int) -> Buffers:
    return _response(call, error, [])


@serve(ApiKey.LIST_GROUPS, versions=(0, 5), fail=_fail)
def list_groups(call: Call) -> Reply:
    """Groups by id."""
    request = request_of(call)
    states = {state.lower() for state in request.get("states_filter", ())}
    types = {kind.lower() for kind in request.get("types_filter", ())}
    error, listed = groups_of(call).listed()
    groups = [
        {
            "group_id": listing.group_id,
            "protocol_type": listing.protocol_type,
            "group_state": listing.state,
            "group_type": TYPE,
        }
        for listing in listed
        if (not states or listing.state.lower() in states) and (not types or TYPE in types)
    ]
    return _response(call, error, groups)


def _response(call: Call, error: int, groups: list[dict[str, Any]]) -> Buffers:
    return response(call, {"throttle_time": 0, "error_code": error, "groups": groups}, had_error=bool(error))
