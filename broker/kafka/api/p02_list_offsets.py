"""ListOffsets (key 2), versions 1–11: offsets by position or by timestamp.

Timestamps: -1 next offset, -2 log start, -3 offset of the largest timestamp (v7), -4 earliest local, which is the log
start (v8), -5 latest tiered (v9) and -6 earliest to be tiered (v11), which are offset -1 because nothing is tiered,
otherwise the first record at or after it. A partition named twice is answered once, with INVALID_REQUEST. Nothing found is offset -1 with timestamp -1 and leader epoch -1. Answers come from a database read begun after the
request arrived, so that no client is ever told less than was acknowledged to it.

Deviations:
- The isolation level makes no difference: there are no transactions, so the last stable offset is the next offset.
- The leader epoch is always 0: partitions have no leaders.
- The largest timestamp is looked for at and above the log start; Kafka may name a record that is deleted already.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import TopicView
from schemas.kafka.api_keys import NEVER, ApiKey
from schemas.kafka.errors import ErrorCode

LEADER_EPOCH = 0
SPECIAL_FROM_VERSION = {-1: 1, -2: 1, -3: 7, -4: 8, -5: 9, -6: 11}


def _answer(index: int, error: int, offset: int = -1, timestamp: int = -1) -> dict[str, Any]:
    return {
        "partition_index": index,
        "error_code": error,
        "timestamp": timestamp,
        "offset": offset,
        "leader_epoch": LEADER_EPOCH if error == ErrorCode.NONE and offset >= 0 else -1,
    }


def _fail(call: Call, error: int) -> Buffers:
    topics = request_of(call)["topics"]
    answers = [
        {"name": topic["name"], "partitions": [_answer(part["partition_index"], error) for part in topic["partitions"]]}
        for topic in topics
    ]
    return response(call, {"throttle_time": 0, "topics": answers}, had_error=True)


@serve(ApiKey.LIST_OFFSETS, versions=(1, 11), fail=_fail)
def list_offsets(call: Call) -> Reply:
    """All partitions of the request in one read."""
    return _list(call, request_of(call))


async def _list(call: Call, request: Message) -> Buffers:
    services = call.context.services
    topics = request["topics"]
    shards = {
        topic["name"]: max((part["partition_index"] for part in topic["partitions"]), default=-1) for topic in topics
    }
    await know(services.topics, list(shards), shards=shards)
    asked = Counter((topic["name"], part["partition_index"]) for topic in topics for part in topic["partitions"])
    answers: list[dict[str, Any]] = []
    queries: list[tuple[int, int, int]] = []
    places: list[tuple[list[dict[str, Any]], int]] = []
    had_error = False
    for topic in topics:
        view = services.topics.by_name(topic["name"])
        rows: list[dict[str, Any]] = []
        for part in topic["partitions"]:
            index = part["partition_index"]
            times_asked = asked.pop((topic["name"], index), 0)
            if not times_asked:
                continue
            error = _refusal(view, part, call.version, times_asked)
            if error is ErrorCode.NONE and view is not None:
                queries.append((view.topic, index, part["timestamp"]))
                places.append((rows, len(rows)))
            rows.append(_answer(index, error))
            had_error |= error is not ErrorCode.NONE
        if rows:
            answers.append({"name": topic["name"], "partitions": rows})
    found = await services.reader.list_offsets(queries) if queries else []
    for (rows, at), query, answer in zip(places, queries, found, strict=True):
        rows[at] = _answer(query[1], answer.error, answer.offset, answer.timestamp)
        had_error |= answer.error != ErrorCode.NONE
    return response(call, {"throttle_time": 0, "topics": answers}, had_error=had_error)


def _refusal(view: TopicView | None, part: Message, version: int, times_asked: int) -> ErrorCode:
    """Why a partition isn't looked up; NONE where it is."""
    timestamp = part["timestamp"]
    if times_asked > 1:
        return ErrorCode.INVALID_REQUEST
    if view is None or not 0 <= part["partition_index"] < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if part.get("current_leader_epoch", -1) > LEADER_EPOCH:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    if timestamp < 0 and version < SPECIAL_FROM_VERSION.get(timestamp, NEVER):
        return ErrorCode.UNSUPPORTED_VERSION
    return ErrorCode.NONE
