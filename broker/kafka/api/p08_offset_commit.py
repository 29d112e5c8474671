"""OffsetCommit (key 8), versions 2–10: store offsets of a group, of a member of this generation or from outside of an empty one.

A generation below zero comes from outside of group management and makes the group where there is none; another one is
answered with GROUP_ID_NOT_FOUND there, before version 9 with ILLEGAL_GENERATION. Topics are named, from version 10 by id. A partition that doesn't exist is answered with UNKNOWN_TOPIC_OR_PARTITION (by id UNKNOWN_TOPIC_ID),
a metadata string above `offset.metadata.max.bytes` with OFFSET_METADATA_TOO_LARGE; the others are stored all the same.

Deviations:
- Group ids are at most 2000 bytes and can't contain the character NUL.
"""

from __future__ import annotations

from typing import Any

from broker.groups.requests import Commit
from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import check_group_id, groups_of
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import TopicView
from catalog.groups import NewOffset
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

IDS_FROM = 10
NOT_FOUND_FROM = 9
NO_RETENTION = -1


def _fail(call: Call, error: int) -> Buffers:
    request = request_of(call)
    return _answer(call, request, [[error] * len(topic["partitions"]) for topic in request["topics"]])


@serve(ApiKey.OFFSET_COMMIT, versions=(2, 10), fail=_fail)
def offset_commit(call: Call) -> Reply:
    """Check each partition, then the group, then store."""
    request = request_of(call)
    error = check_group_id(request["group_id"], may_be_empty=True)
    return call.fail(error) if error else _commit(call, request)


async def _commit(call: Call, request: Message) -> Buffers:
    services = call.context.services
    asked = request["topics"]
    by_id = call.version >= IDS_FROM
    field = "topic_id" if by_id else "name"
    shards = {
        topic[field]: max((part["partition_index"] for part in topic["partitions"]), default=-1)
        for topic in asked
        if topic[field] is not None
    }
    if by_id:
        await know(services.topics, ids=shards, shards=shards)
        views = [services.topics.by_id(topic["topic_id"]) if topic["topic_id"] is not None else None for topic in asked]
    else:
        await know(services.topics, names=shards, shards=shards)
        views = [services.topics.by_name(topic["name"]) for topic in asked]
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    errors = [
        [_check(view, part, services.settings.offset_metadata_max_bytes, unknown) for part in topic["partitions"]]
        for topic, view in zip(asked, views, strict=True)
    ]
    if not any(code in (0, ErrorCode.OFFSET_METADATA_TOO_LARGE) for codes in errors for code in codes):
        return _answer(call, request, errors)
    retention_ms = request.get("retention_time", NO_RETENTION)
    expire_ms = services.clock.now_ms() + retention_ms if retention_ms >= 0 else -1
    offsets = [
        _offset(view, part, expire_ms)
        for topic, view, codes in zip(asked, views, errors, strict=True)
        for part, code in zip(topic["partitions"], codes, strict=True)
        if view is not None and not code
    ]
    member = Commit(
        request["member_id"], request["generation_id_or_member_epoch"], request.get("group_instance_id")
    )  # fmt: skip
    error = await groups_of(call).commit(request["group_id"], member, offsets)
    if error == ErrorCode.GROUP_ID_NOT_FOUND and call.version < NOT_FOUND_FROM:
        error = ErrorCode.ILLEGAL_GENERATION
    if error:
        taken = (ErrorCode.NONE, ErrorCode.OFFSET_METADATA_TOO_LARGE)
        errors = [[error if code in taken else code for code in codes] for codes in errors]
    return _answer(call, request, errors)


def _check(view: TopicView | None, part: Message, metadata_bytes_max: int, unknown: ErrorCode) -> int:
    if view is None:
        return unknown
    if not 0 <= part["partition_index"] < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if utf16_units(part["committed_metadata"] or "") > metadata_bytes_max:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    return ErrorCode.NONE


def utf16_units(text: str) -> int:
    """The length of a text as Java counts it, which is what the limit is compared with."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _offset(view: TopicView, part: Message, expire_ms: int) -> NewOffset:
    return NewOffset(
        view.topic,
        part["partition_index"],
        part["committed_offset"],
        part.get("committed_leader_epoch", -1),
        part["committed_metadata"] or "",
        expire_ms,
    )


def _answer(call: Call, request: Message, errors: list[list[int]]) -> Buffers:
    topics: list[dict[str, Any]] = [
        {
            "name": topic.get("name", ""),
            "topic_id": topic.get("topic_id"),
            "partitions": [
                {"partition_index": part["partition_index"], "error_code": code}
                for part, code in zip(topic["partitions"], codes, strict=True)
            ],
        }
        for topic, codes in zip(request["topics"], errors, strict=True)
        if codes
    ]
    had_error = any(code for codes in errors for code in codes)
    return response(call, {"throttle_time": 0, "topics": topics}, had_error=had_error)
