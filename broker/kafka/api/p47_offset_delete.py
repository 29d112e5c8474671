"""OffsetDelete (key 47), versions 0–0: delete committed offsets of a group.

Of an empty group any; of a consumer group with members those of topics that nobody subscribes to, others are answered
with GROUP_SUBSCRIBED_TO_TOPIC; other groups with members with NON_EMPTY_GROUP. An offset that isn't there is no error.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import check_group_id, groups_of
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    return _answer(call, error, [])


@serve(ApiKey.OFFSET_DELETE, versions=(0, 0), fail=_fail)
def offset_delete(call: Call) -> Reply:
    """Check each partition, then the group, then delete."""
    request = request_of(call)
    error = check_group_id(request["group_id"])
    return call.fail(error) if error else _delete(call, request)


async def _delete(call: Call, request: Message) -> Buffers:
    topics = call.context.services.topics
    asked = request["topics"]
    await know(topics, names=[topic["name"] for topic in asked])
    known: list[tuple[int, str, int]] = []
    for topic in asked:
        view = topics.by_name(topic["name"])
        shards = [part["partition_index"] for part in topic["partitions"]]
        known += [(view.topic, view.name, shard) for shard in shards if view is not None and 0 <= shard < view.shards]
    known = list(dict.fromkeys(known))
    error, codes = await groups_of(call).delete_offsets(request["group_id"], known)
    if error:
        return _answer(call, error, [])
    found = {(name, shard): code for (_, name, shard), code in zip(known, codes, strict=True)}
    return _answer(
        call,
        ErrorCode.NONE,
        [
            {
                "name": topic["name"],
                "partitions": [
                    {
                        "partition_index": part["partition_index"],
                        "error_code": found.get(
                            (topic["name"], part["partition_index"]), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                        ),
                    }
                    for part in topic["partitions"]
                ],
            }
            for topic in asked
        ],
    )


def _answer(call: Call, error: int, topics: list[dict[str, Any]]) -> Buffers:
    had_error = bool(error) or any(part["error_code"] for topic in topics for part in topic["partitions"])
    return response(call, {"error_code": error, "throttle_time": 0, "topics": topics}, had_error=had_error)
