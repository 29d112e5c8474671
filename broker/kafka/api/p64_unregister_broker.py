"""UnregisterBroker (key 64), versions 0–0: agents come and go by themselves, so there is nothing to take away.

A broker that isn't there is BROKER_ID_NOT_REGISTERED.

Deviations:
- An agent that is alive is not unregistered (INVALID_REQUEST): its lease ends when it stops. Kafka takes the registration
  away from a broker that runs.
"""

from __future__ import annotations

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    return response(call, {"throttle_time": 0, **explain(error, message)}, had_error=True)


@serve(ApiKey.UNREGISTER_BROKER, versions=(0, 0), fail=_fail)
def unregister_broker(call: Call) -> Reply:
    """Never done: either it is gone already, or it is alive."""
    broker_id: int = request_of(call)["broker_id"]
    if broker_id in [broker.broker_id for broker in call.context.services.cluster.brokers()]:
        return _fail(call, ErrorCode.INVALID_REQUEST, f"Broker {broker_id} is alive; it leaves when it is stopped.")
    message = f"Broker ID {broker_id} is not currently registered"
    return _fail(call, ErrorCode.BROKER_ID_NOT_REGISTERED, message)
