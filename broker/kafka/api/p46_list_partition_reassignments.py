"""ListPartitionReassignments (key 46), versions 0–0: none; partitions never move."""

from __future__ import annotations

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"throttle_time": 0, **explain(error), "topics": []}, had_error=True)


@serve(ApiKey.LIST_PARTITION_REASSIGNMENTS, versions=(0, 0), fail=_fail)
def list_partition_reassignments(call: Call) -> Reply:
    """Whatever is asked for."""
    request_of(call)
    return response(call, {"throttle_time": 0, **explain(ErrorCode.NONE), "topics": []})
