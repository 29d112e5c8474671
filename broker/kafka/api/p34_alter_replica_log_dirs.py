"""AlterReplicaLogDirs (key 34), versions 1–2: partitions lie in one place, so they are where they are asked to be, or nowhere.

The one log directory has the name that DescribeLogDirs tells; any other is LOG_DIR_NOT_FOUND.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.broker_configs import log_dir
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    results = [
        {"topic_name": topic["name"], "partitions": [_answer(index, error) for index in topic["partitions"]]}
        for place in request_of(call)["dirs"]
        for topic in place["topics"]
    ]
    return response(call, {"throttle_time": 0, "results": results}, had_error=True)


def _answer(index: int, error: int) -> dict[str, Any]:
    return {"partition_index": index, "error_code": error}


@serve(ApiKey.ALTER_REPLICA_LOG_DIRS, versions=(1, 2), fail=_fail)
def alter_replica_log_dirs(call: Call) -> Reply:
    """Look the topics up, then answer; nothing moves."""
    return _alter(call, request_of(call))


async def _alter(call: Call, request: Message) -> Buffers:
    services = call.context.services
    await know(services.topics, [topic["name"] for place in request["dirs"] for topic in place["topics"]])
    here = log_dir(services.cluster.cluster_id)
    answers: dict[str, list[dict[str, Any]]] = {}
    for place in request["dirs"]:
        for topic in place["topics"]:
            view = services.topics.by_name(topic["name"])
            for index in topic["partitions"]:
                error = ErrorCode.LOG_DIR_NOT_FOUND
                if place["path"] == here:
                    found = view is not None and 0 <= index < view.shards
                    error = ErrorCode.NONE if found else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                answers.setdefault(topic["name"], []).append(_answer(index, error))
    results = [{"topic_name": name, "partitions": partitions} for name, partitions in answers.items()]
    had_error = any(part["error_code"] for parts in answers.values() for part in parts)
    return response(call, {"throttle_time": 0, "results": results}, had_error=had_error)
