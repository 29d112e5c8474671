"""CreateAcls (key 30), versions 1–3: SECURITY_DISABLED, as Kafka answers without an authorizer.

A creation with an element of the kind UNKNOWN closes the connection, as in Kafka.
"""

from __future__ import annotations

from broker.kafka.acl_kinds import NO_AUTHORIZER, refuse_unknown
from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    results = [explain(error, message) for _ in request_of(call)["creations"]]
    return response(call, {"throttle_time": 0, "results": results}, had_error=True)


@serve(ApiKey.CREATE_ACLS, versions=(1, 3), fail=_fail)
def create_acls(call: Call) -> Reply:
    """There is no authorizer."""
    refuse_unknown(request_of(call)["creations"])
    return _fail(call, ErrorCode.SECURITY_DISABLED, NO_AUTHORIZER)
