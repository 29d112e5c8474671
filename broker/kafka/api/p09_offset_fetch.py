"""OffsetFetch (key 9), versions 1–10: the committed offsets of a group, from version 8 of several groups.

Null topics ask for everything the group has committed. A partition without a committed offset is answered with offset -1,
metadata "" and no error, whether it exists or not; a topic id that doesn't exist with UNKNOWN_TOPIC_ID.

Deviations:
- There are no pending offsets of transactions yet, so `require_stable` makes no difference.
- Group ids are at most 2000 bytes and can't contain the character NUL.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import check_group_id, groups_of
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from catalog.groups import StoredOffset
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

GROUPS_FROM = 8
IDS_FROM = 10
TOP_LEVEL_FROM = 2


def _groups(call: Call, request: Message) -> list[Message]:
    return list(request["groups"]) if call.version >= GROUPS_FROM else [request]


def _fail(call: Call, error: int) -> Buffers:
    return _response(call, [_failed(call, group, error) for group in _groups(call, request_of(call))])


@serve(ApiKey.OFFSET_FETCH, versions=(1, 10), fail=_fail)
def offset_fetch(call: Call) -> Reply:
    """One group after the other."""
    return _fetch(call, _groups(call, request_of(call)))


async def _fetch(call: Call, groups: list[Message]) -> Buffers:
    return _response(call, [await _one_group(call, group) for group in groups])


async def _one_group(call: Call, group: Message) -> dict[str, Any]:
    error: int = check_group_id(group["group_id"], may_be_empty=True)
    offsets: list[StoredOffset] = []
    if not error:
        error, offsets = await groups_of(call).offsets(group["group_id"])
    if error:
        return _failed(call, group, error)
    asked = group["topics"]
    topics = _everything(offsets) if asked is None else await _named(call, asked, offsets)
    return {"group_id": group["group_id"], "topics": topics, "error_code": ErrorCode.NONE}


def _everything(offsets: list[StoredOffset]) -> list[dict[str, Any]]:
    topics: dict[int, dict[str, Any]] = {}
    for offset in offsets:
        entry = topics.setdefault(
            offset.topic, {"name": offset.topic_name, "topic_id": offset.topic_id, "partitions": []}
        )
        entry["partitions"].append(_partition(offset.shard, offset))
    return list(topics.values())


async def _named(call: Call, asked: list[Message], offsets: list[StoredOffset]) -> list[dict[str, Any]]:
    if call.version >= IDS_FROM:
        topics = call.context.services.topics
        await know(topics, ids=[topic["topic_id"] for topic in asked if topic["topic_id"] is not None])
        found_by_id = {(offset.topic_id, offset.shard): offset for offset in offsets}
        return [
            {
                "topic_id": topic["topic_id"],
                "partitions": [
                    _partition(shard, found_by_id.get((topic["topic_id"], shard)))
                    if topic["topic_id"] is not None and topics.by_id(topic["topic_id"]) is not None
                    else _partition(shard, None, ErrorCode.UNKNOWN_TOPIC_ID)
                    for shard in topic["partition_indexes"]
                ],
            }
            for topic in asked
        ]
    found = {(offset.topic_name, offset.shard): offset for offset in offsets}
    return [
        {
            "name": topic["name"],
            "partitions": [
                _partition(shard, found.get((topic["name"], shard))) for shard in topic["partition_indexes"]
            ],
        }
        for topic in asked
    ]


def _partition(shard: int, offset: StoredOffset | None, error: int = 0) -> dict[str, Any]:
    return {
        "partition_index": shard,
        "committed_offset": -1 if offset is None else offset.offset,
        "committed_leader_epoch": -1 if offset is None else offset.leader_epoch,
        "metadata": "" if offset is None else offset.metadata,
        "error_code": error,
    }


def _failed(call: Call, group: Message, error: int) -> dict[str, Any]:
    """Version 1 has room for an error with each partition only."""
    asked = [] if call.version >= TOP_LEVEL_FROM else group["topics"] or []
    topics = [
        {"name": topic["name"], "partitions": [_partition(n, None, error) for n in topic["partition_indexes"]]}
        for topic in asked
    ]
    return {"group_id": group["group_id"], "topics": topics, "error_code": error}


def _response(call: Call, groups: list[dict[str, Any]]) -> Buffers:
    had_error = any(group["error_code"] for group in groups)
    if call.version >= GROUPS_FROM:
        return response(call, {"throttle_time": 0, "groups": groups}, had_error=had_error)
    return response(call, {"throttle_time": 0, **groups[0]}, had_error=had_error)
