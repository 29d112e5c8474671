"""ListTransactions (key 66), versions 0–2: none, as there are no transactions yet.

State names that Kafka doesn't know are told. From version 2 the pattern has to be a regular expression.

Deviations:
- A pattern is checked by Python's rules; Kafka has RE2's.
"""

from __future__ import annotations

import re

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

STATES = (
    "Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
)  # fmt: skip


def _fail(call: Call, error: int) -> Buffers:
    values = {"throttle_time": 0, "error_code": error, "unknown_state_filters": [], "transaction_states": []}
    return response(call, values, had_error=True)


@serve(ApiKey.LIST_TRANSACTIONS, versions=(0, 2), fail=_fail)
def list_transactions(call: Call) -> Reply:
    """Only the filters are looked at."""
    request = request_of(call)
    try:
        re.compile(request.get("transactional_id_pattern") or "")
    except re.error:
        return _fail(call, ErrorCode.INVALID_REGULAR_EXPRESSION)
    unknown = [state for state in dict.fromkeys(request["state_filters"]) if state not in STATES]
    return response(
        call,
        {
            "throttle_time": 0,
            "error_code": ErrorCode.NONE,
            "unknown_state_filters": unknown,
            "transaction_states": [],
        },
    )
