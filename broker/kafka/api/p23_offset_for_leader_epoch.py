"""OffsetForLeaderEpoch (key 23), versions 2–4: where a leader epoch of a partition ends.

There is one leader epoch, 0, for ever: it ends where the log ends. A later epoch is unknown (-1), one before it ends
where the log starts.

Deviations:
- A replica's request is answered as a consumer's: there are no replicas.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

LEADER_EPOCH = 0
NOT_GIVEN = -1
LATEST, EARLIEST = -1, -2


def _answer(index: int, error: int, epoch: int = -1, offset: int = -1) -> dict[str, Any]:
    return {"error_code": error, "partition": index, "leader_epoch": epoch, "end_offset": offset}


def _fail(call: Call, error: int) -> Buffers:
    topics = [
        {"topic": topic["topic"], "partitions": [_answer(part["partition"], error) for part in topic["partitions"]]}
        for topic in request_of(call)["topics"]
    ]
    return response(call, {"throttle_time": 0, "topics": topics}, had_error=True)


@serve(ApiKey.OFFSET_FOR_LEADER_EPOCH, versions=(2, 4), fail=_fail)
def offset_for_leader_epoch(call: Call) -> Reply:
    """All partitions of the request in one read."""
    return _look(call, request_of(call))


async def _look(call: Call, request: Message) -> Buffers:
    services = call.context.services
    shards = {
        topic["topic"]: max((part["partition"] for part in topic["partitions"]), default=-1)
        for topic in request["topics"]
    }
    await know(services.topics, list(shards), shards=shards)
    topics: list[dict[str, Any]] = []
    queries: list[tuple[int, int, int]] = []
    waiting: list[tuple[dict[str, Any], int]] = []
    for topic in request["topics"]:
        view = services.topics.by_name(topic["topic"])
        rows = []
        for part in topic["partitions"]:
            error, epoch = _refusal(view, part), part["leader_epoch"]
            row = _answer(part["partition"], error)
            rows.append(row)
            if view is not None and error is ErrorCode.NONE and epoch != NOT_GIVEN and epoch <= LEADER_EPOCH:
                queries.append((view.topic, part["partition"], LATEST if epoch == LEADER_EPOCH else EARLIEST))
                waiting.append((row, epoch))
        topics.append({"topic": topic["topic"], "partitions": rows})
    found = await services.reader.list_offsets(queries) if queries else []
    for (row, epoch), answer in zip(waiting, found, strict=True):
        row["error_code"] = answer.error
        if answer.error == ErrorCode.NONE:
            row["leader_epoch"], row["end_offset"] = epoch, answer.offset
    had_error = any(row["error_code"] for topic in topics for row in topic["partitions"])
    return response(call, {"throttle_time": 0, "topics": topics}, had_error=had_error)


def _refusal(view: TopicView | None, part: Message) -> ErrorCode:
    current = part["current_leader_epoch"]
    if view is None or not 0 <= part["partition"] < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if current > LEADER_EPOCH:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    return ErrorCode.FENCED_LEADER_EPOCH if current not in (LEADER_EPOCH, NOT_GIVEN) else ErrorCode.NONE
