"""DeleteGroups (key 42), versions 0–2: delete empty groups with their committed offsets.

A group with members is answered with NON_EMPTY_GROUP, one that doesn't exist with GROUP_ID_NOT_FOUND.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import check_group_id, groups_of
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey


def _fail(call: Call, error: int) -> Buffers:
    return _response(call, [(group_id, error) for group_id in request_of(call)["groups_names"]])


@serve(ApiKey.DELETE_GROUPS, versions=(0, 2), fail=_fail)
def delete_groups(call: Call) -> Reply:
    """One group after the other; each has its own answer. A group named twice is answered once."""
    return _delete(call, list(dict.fromkeys(request_of(call)["groups_names"])))


async def _delete(call: Call, group_ids: list[str]) -> Buffers:
    return _response(call, [(group_id, await _one(call, group_id)) for group_id in group_ids])


async def _one(call: Call, group_id: str) -> int:
    error = check_group_id(group_id, may_be_empty=True)
    return error or await groups_of(call).delete(group_id)


def _response(call: Call, errors: list[tuple[str, int]]) -> Buffers:
    results: list[dict[str, Any]] = [{"group_id": group_id, "error_code": error} for group_id, error in errors]
    return response(call, {"throttle_time": 0, "results": results}, had_error=any(error for _, error in errors))
