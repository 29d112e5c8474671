"""DescribeDelegationToken (key 41), versions 1–3: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, as Kafka answers on a connection without authentication."""

from __future__ import annotations

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    values = {"error_code": error, "tokens": [], "throttle_time": 0}
    return response(call, values, had_error=True)


@serve(ApiKey.DESCRIBE_DELEGATION_TOKEN, versions=(1, 3), fail=_fail)
def describe_delegation_token(call: Call) -> Reply:
    """There are no tokens."""
    request_of(call)
    return _fail(call, ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)
