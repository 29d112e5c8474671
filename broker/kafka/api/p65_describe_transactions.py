"""DescribeTransactions (key 65), versions 0–0: TRANSACTIONAL_ID_NOT_FOUND for every id, as there are no transactions yet.

An empty id is INVALID_REQUEST.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _state(transactional_id: str, error: int) -> dict[str, Any]:
    return {"error_code": error, "transactional_id": transactional_id, "transaction_state": "", "topics": []}


def _fail(call: Call, error: int) -> Buffers:
    states = [_state(name, error) for name in request_of(call)["transactional_ids"]]
    return response(call, {"throttle_time": 0, "transaction_states": states}, had_error=True)


@serve(ApiKey.DESCRIBE_TRANSACTIONS, versions=(0, 0), fail=_fail)
def describe_transactions(call: Call) -> Reply:
    """No id is known."""
    states = [
        _state(name, ErrorCode.TRANSACTIONAL_ID_NOT_FOUND if name else ErrorCode.INVALID_REQUEST)
        for name in request_of(call)["transactional_ids"]
    ]
    return response(call, {"throttle_time": 0, "transaction_states": states}, had_error=bool(states))
