"""DescribeProducers (key 61), versions 0–0: the idempotent producers that partitions remember.

Deviations:
- The last timestamp is the moment of the producer's last commit; Kafka tells the largest timestamp of its last batch.
- There are no transactions yet: coordinator epoch and start offset of a transaction are -1.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import explain, know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from catalog.holdings import ShardProducer
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.names import InvalidName, check_topic_name

NOWHERE = "This server does not host this topic-partition."
NONE = -1


def _fail(call: Call, error: int) -> Buffers:
    topics = [
        {
            "name": topic["name"],
            "partitions": [
                _partition(index, error, explain(error)["error_message"]) for index in topic["partition_indexes"]
            ],
        }
        for topic in request_of(call)["topics"]
    ]
    return response(call, {"throttle_time": 0, "topics": topics}, had_error=True)


def _partition(
    index: int, error: int, message: str | None = None, producers: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "partition_index": index,
        "error_code": error,
        "error_message": message,
        "active_producers": producers or [],
    }


@serve(ApiKey.DESCRIBE_PRODUCERS, versions=(0, 0), fail=_fail)
def describe_producers(call: Call) -> Reply:
    """Read now."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    await know(services.topics, [topic["name"] for topic in request["topics"]])
    views = {topic["name"]: services.topics.by_name(topic["name"]) for topic in request["topics"]}
    shards = [
        (view.topic, index)
        for topic in request["topics"]
        if (view := views[topic["name"]]) is not None
        for index in topic["partition_indexes"]
        if 0 <= index < view.shards
    ]
    remembered: dict[tuple[int, int], list[dict[str, Any]]] = {shard: [] for shard in shards}
    for producer in await services.holdings.producers(sorted(remembered)):
        remembered[producer.topic, producer.shard].append(_producer(producer))
    topics = []
    for topic in request["topics"]:
        name = topic["name"]
        view = views[name]
        parts = []
        for index in topic["partition_indexes"]:
            if view is None:
                parts.append(_partition(index, *_why_not(name)))
            elif (found := remembered.get((view.topic, index))) is None:
                parts.append(_partition(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            else:
                parts.append(_partition(index, ErrorCode.NONE, None, found))
        topics.append({"name": name, "partitions": parts})
    had_error = any(part["error_code"] for topic in topics for part in topic["partitions"])
    return response(call, {"throttle_time": 0, "topics": topics}, had_error=had_error)


def _why_not(name: str) -> tuple[ErrorCode, str]:
    try:
        check_topic_name(name)
    except InvalidName as invalid:
        return ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {invalid}"
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, NOWHERE


def _producer(producer: ShardProducer) -> dict[str, Any]:
    return {
        "producer_id": producer.producer_id,
        "producer_epoch": producer.epoch,
        "last_sequence": producer.last_sequence,
        "last_timestamp": producer.updated_ms,
        "coordinator_epoch": NONE,
        "current_txn_start_offset": NONE,
    }
