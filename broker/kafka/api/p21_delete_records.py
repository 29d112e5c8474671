"""DeleteRecords (key 21), versions 0–2: raise log starts; what lies below can't be read any more, and is removed later.

The offset is the first that stays, or -1 for the high watermark; below 0 or above the high watermark it is
OFFSET_OUT_OF_RANGE, at or below the log start it changes nothing. The answer holds the log start in force. Topics that are
compacted and nothing else are refused with POLICY_VIOLATION. A partition named twice is treated once, with its last
offset.

Deviations:
- The timeout is not looked at: the answer comes when the metadata transaction is done.
- Other agents serve records below the new log start from memory for up to `topic_poll_interval_ms`.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.broker_configs import broker_layers, nearest_values
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from catalog.database import CommitUnknown, Unreachable
from catalog.sequence import ShardKey
from schemas.config_types import split_list
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.topic_config import value_of

UNKNOWN_LOG_START = -1
Place = tuple[str, int]
"""(topic name, partition)."""
Result = tuple[int, int]
"""(error code, log start)."""


def _asked(request: Message) -> dict[Place, int]:
    """Offset by partition, in the order of the request."""
    return {
        (topic["name"], part["partition_index"]): part["offset"]
        for topic in request["topics"]
        for part in topic["partitions"]
    }


def _answer(call: Call, results: dict[Place, Result]) -> Buffers:
    topics: dict[str, list[dict[str, Any]]] = {}
    for (name, index), (error, log_start) in results.items():
        row = {"partition_index": index, "low_watermark": log_start, "error_code": error}
        topics.setdefault(name, []).append(row)
    answers = [{"name": name, "partitions": rows} for name, rows in topics.items()]
    had_error = any(error for error, _ in results.values())
    return response(call, {"throttle_time": 0, "topics": answers}, had_error=had_error)


def _fail(call: Call, error: int) -> Buffers:
    return _answer(call, dict.fromkeys(_asked(request_of(call)), (error, UNKNOWN_LOG_START)))


@serve(ApiKey.DELETE_RECORDS, versions=(0, 2), fail=_fail)
def delete_records(call: Call) -> Reply:
    """All partitions of the request in one transaction."""
    return _delete(call, _asked(request_of(call)))


async def _delete(call: Call, asked: dict[Place, int]) -> Buffers:
    services = call.context.services
    await know(services.topics, dict.fromkeys(name for name, _ in asked))
    results: dict[Place, Result] = {}
    wanted: dict[ShardKey, int] = {}
    places: dict[ShardKey, Place] = {}
    for place, offset in asked.items():
        key = _shard(services, place)
        if isinstance(key, ErrorCode):
            results[place] = (key, UNKNOWN_LOG_START)
        else:
            results[place] = (ErrorCode.NONE, UNKNOWN_LOG_START)
            wanted[key], places[key] = offset, place
    if wanted:
        try:
            raised = await services.records.delete_records(wanted)
        except (Unreachable, CommitUnknown):
            results.update(dict.fromkeys(places.values(), (ErrorCode.REQUEST_TIMED_OUT, UNKNOWN_LOG_START)))
        else:
            results.update({places[key]: (answer.error, answer.log_start) for key, answer in raised.items()})
    return _answer(call, results)


def _shard(services: Services, place: Place) -> ShardKey | ErrorCode:
    """The shard whose records may be deleted, or why not."""
    name, index = place
    view = services.topics.by_name(name)
    if view is None or not 0 <= index < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    broker = nearest_values(broker_layers(services.settings, services.configs, services.cluster.self_view))
    policies = split_list(value_of("cleanup.policy", view.config, broker))
    if "compact" in policies and "delete" not in policies:
        return ErrorCode.POLICY_VIOLATION
    return view.topic, index
