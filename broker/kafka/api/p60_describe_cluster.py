"""DescribeCluster (key 60), versions 0–2: cluster id, controller and brokers.

The brokers are those that Metadata names to this client.

Deviations:
- Every agent does what Kafka's controller does, so the agent that is asked names itself as the controller, or
  one that it names.
- There are no fenced brokers: an agent whose lease ran out is gone.
"""

from __future__ import annotations

from broker.kafka.answers import (
    CLUSTER_OPERATIONS,
    OPERATIONS_NOT_ASKED,
    agents_told,
    explain,
    request_of,
    response,
)
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

BROKERS = 1
CONTROLLERS = 2


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    values = {"throttle_time": 0, **explain(error, message), "cluster_id": "", "brokers": []}
    return response(call, values, had_error=True)


@serve(ApiKey.DESCRIBE_CLUSTER, versions=(0, 2), fail=_fail)
def describe_cluster(call: Call) -> Reply:
    """The live agents, by broker id."""
    request = request_of(call)
    endpoint_type = request.get("endpoint_type", BROKERS)
    if endpoint_type == CONTROLLERS:
        wanted = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
        return _fail(call, ErrorCode.MISMATCHED_ENDPOINT_TYPE, wanted)
    if endpoint_type != BROKERS:
        return _fail(call, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {endpoint_type}")
    return _describe(call, request)


async def _describe(call: Call, request: Message) -> Buffers:
    told = await agents_told(call)
    wants_operations = request["include_cluster_authorized_operations"]
    return response(
        call,
        {
            "throttle_time": 0,
            **explain(ErrorCode.NONE),
            "endpoint_type": BROKERS,
            "cluster_id": call.context.services.cluster.cluster_id,
            "controller_id": told.controller,
            "brokers": [
                {
                    "broker_id": broker.broker_id,
                    "host": broker.host,
                    "port": broker.port,
                    "rack": broker.zone or None,
                    "is_fenced": False,
                }
                for broker in told.named
            ],
            "cluster_authorized_operations": CLUSTER_OPERATIONS if wants_operations else OPERATIONS_NOT_ASKED,
        },
    )
