"""InitProducerId (key 22), versions 0–5: a fresh producer id with epoch 0, for idempotent producers.

Without a transactional id the request is always granted a new id, also where it carries the id and epoch it had
(KIP-360: the producer begins anew). One of the two without the other is INVALID_REQUEST.

Deviations:
- A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: transactions are not served yet, and this
  is the error that the Java client and librdkafka raise at once as fatal, naming the transactional id. An error like
  COORDINATOR_NOT_AVAILABLE would be retried until the client gives up a minute later. Clients that ask for their
  coordinator first are told the same by FindCoordinator.
"""

from __future__ import annotations

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    values = {"throttle_time": 0, "error_code": error, "producer_id": -1, "producer_epoch": -1}
    return response(call, values, had_error=True)


@serve(ApiKey.INIT_PRODUCER_ID, versions=(0, 5), fail=_fail)
def init_producer_id(call: Call) -> Reply:
    """Refuse transactions; otherwise issue an id."""
    request = request_of(call)
    transactional_id: str | None = request["transactional_id"]
    if (request.get("producer_id", -1) == -1) != (request.get("producer_epoch", -1) == -1):
        return call.fail(ErrorCode.INVALID_REQUEST)
    if transactional_id is None:
        return _issue(call)
    if not transactional_id:
        return call.fail(ErrorCode.INVALID_REQUEST)
    return call.fail(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)


async def _issue(call: Call) -> Buffers:
    producer_id = await call.context.services.producer_ids.issue()
    values = {"throttle_time": 0, "error_code": ErrorCode.NONE, "producer_id": producer_id, "producer_epoch": 0}
    return response(call, values)
