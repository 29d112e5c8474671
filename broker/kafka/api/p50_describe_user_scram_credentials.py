"""DescribeUserScramCredentials (key 50), versions 0–0: nobody has any, as there is no authentication yet.

All users: an empty list. A user that is named: RESOURCE_NOT_FOUND, or DUPLICATE_RESOURCE where it is named twice.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"throttle_time": 0, **explain(error), "results": []}, had_error=True)


@serve(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, versions=(0, 0), fail=_fail)
def describe_user_scram_credentials(call: Call) -> Reply:
    """Each named user once."""
    times = Counter(user["name"] for user in request_of(call)["users"] or ())
    results = [_result(name, times[name]) for name in times]
    values = {"throttle_time": 0, "error_code": ErrorCode.NONE, "error_message": "", "results": results}
    return response(call, values, had_error=bool(results))


def _result(name: str, times: int) -> dict[str, Any]:
    error = ErrorCode.RESOURCE_NOT_FOUND
    message = f"Attempt to describe a user credential that does not exist: {name}"
    if times > 1:
        error = ErrorCode.DUPLICATE_RESOURCE
        message = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
    return {"user": name, "error_code": error, "error_message": message, "credential_infos": []}
