"""DescribeGroups (key 15), versions 0–6: state, protocol and members of groups that this agent coordinates.

A group that doesn't exist is described as Dead, from version 6 with GROUP_ID_NOT_FOUND. Members' metadata is told of
stable groups only.
"""

from __future__ import annotations

from typing import Any

from broker.groups.group import Description
from broker.groups.states import State
from broker.kafka.answers import OPERATIONS_NOT_ASKED, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import GROUP_OPERATIONS, check_group_id, groups_of
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

NOT_FOUND_FROM = 6


def _fail(call: Call, error: int) -> Buffers:
    return _response(call, [_failed(group_id, error) for group_id in request_of(call)["groups"]])


@serve(ApiKey.DESCRIBE_GROUPS, versions=(0, 6), fail=_fail)
def describe_groups(call: Call) -> Reply:
    """One group after the other."""
    request = request_of(call)
    operations = OPERATIONS_NOT_ASKED
    if request.get("include_authorized_operations", False):
        operations = GROUP_OPERATIONS
    return _response(call, [_describe(call, group_id, operations) for group_id in request["groups"]])


def _describe(call: Call, group_id: str, operations: int) -> dict[str, Any]:
    error: int = check_group_id(group_id, may_be_empty=True)
    if error:
        return _failed(group_id, error)
    error, found = groups_of(call).describe(group_id)
    if error == ErrorCode.GROUP_ID_NOT_FOUND:
        entry = _failed(group_id, error if call.version >= NOT_FOUND_FROM else ErrorCode.NONE)
        message = f"Group {group_id} not found." if call.version >= NOT_FOUND_FROM else None
        told = operations if call.version < NOT_FOUND_FROM else OPERATIONS_NOT_ASKED
        return {**entry, "group_state": State.DEAD.value, "error_message": message, "authorized_operations": told}
    if found is None:
        return _failed(group_id, error)
    return {**_found(found), "group_id": group_id, "authorized_operations": operations}


def _found(found: Description) -> dict[str, Any]:
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "group_state": found.state.value,
        "protocol_type": found.protocol_type,
        "protocol_data": found.protocol,
        "members": [
            {
                "member_id": member_id,
                "group_instance_id": instance_id,
                "client_id": client_id,
                "client_host": host,
                "member_metadata": metadata,
                "member_assignment": assignment,
            }
            for member_id, instance_id, client_id, host, metadata, assignment in found.members
        ],
    }


def _failed(group_id: str, error: int) -> dict[str, Any]:
    return {
        "error_code": error,
        "error_message": None,
        "group_id": group_id,
        "group_state": "",
        "protocol_type": "",
        "protocol_data": "",
        "members": [],
        "authorized_operations": OPERATIONS_NOT_ASKED,
    }


def _response(call: Call, groups: list[dict[str, Any]]) -> Buffers:
    had_error = any(group["error_code"] for group in groups)
    return response(call, {"throttle_time": 0, "groups": groups}, had_error=had_error)
