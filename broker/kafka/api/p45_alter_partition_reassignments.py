"""AlterPartitionReassignments (key 45), versions 0–1: every partition has its one replica, so there is nothing to move.

Replicas are checked as Kafka checks them: known brokers, none twice. One broker is the replica that the partition has, and
the answer is that it is done; taking a reassignment back is NO_REASSIGNMENT_IN_PROGRESS.

Deviations:
- Several replicas are INVALID_REPLICA_ASSIGNMENT also where that many agents are alive: the object store keeps the
  copies, and a second replica would be nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"throttle_time": 0, "error_code": error, "error_message": None}, had_error=True)


@serve(ApiKey.ALTER_PARTITION_REASSIGNMENTS, versions=(0, 1), fail=_fail)
def alter_partition_reassignments(call: Call) -> Reply:
    """Look the topics up; nothing moves."""
    return _alter(call, request_of(call))


async def _alter(call: Call, request: Message) -> Buffers:
    services = call.context.services
    await know(services.topics, [topic["name"] for topic in request["topics"]])
    responses = [
        {"name": topic["name"], "partitions": [_answer(services, topic["name"], part) for part in topic["partitions"]]}
        for topic in request["topics"]
    ]
    values = {
        "throttle_time": 0,
        "allow_replication_factor_change": request.get("allow_replication_factor_change", True),
        "error_code": ErrorCode.NONE,
        "error_message": None if responses else "",
        "responses": responses,
    }
    had_error = any(part["error_code"] for topic in responses for part in topic["partitions"])
    return response(call, values, had_error=had_error)


def _answer(services: Services, name: str, part: Message) -> dict[str, Any]:
    error, message = _outcome(services, name, part["partition_index"], part["replicas"])
    return {"partition_index": part["partition_index"], "error_code": error, "error_message": message}


def _outcome(services: Services, name: str, index: int, replicas: list[int] | None) -> tuple[ErrorCode, str | None]:
    view = services.topics.by_name(name)
    if view is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}."
    if not 0 <= index < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}."
    if replicas is None:
        return ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, None
    wrong = _wrong(replicas, [broker.broker_id for broker in services.cluster.brokers()])
    if wrong is not None:
        return ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The manual partition assignment includes {wrong}"
    return ErrorCode.NONE, None


def _wrong(replicas: list[int], brokers: list[int]) -> str | None:
    if not replicas:
        return "an empty replica list."
    ordered = sorted(replicas)
    for one, following in itertools.pairwise(ordered):
        if one == following:
            return f"the broker {one} more than once."
    for broker in ordered:
        if broker not in brokers:
            return f"broker {broker}, but no such broker is registered."
    return None if len(replicas) == 1 else f"{len(replicas)} replicas; the object store keeps the copies."
