"""DescribeTopicPartitions (key 75), versions 0–0: topics with their partitions, by name, in pages.

A page has at most `max_request_partition_size_limit` partitions; its cursor is where the next one begins. The agents
are those of the client's zone as of now, as in Metadata.

Deviations:
- A partition has one replica, the agent that clients are sent to for it; where there are several zones, one in each.
- The empty topic name is INVALID_TOPIC_EXCEPTION, as other bad names; Kafka says UNKNOWN_SERVER_ERROR.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, Told, agents_told, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.config_resources import topic_objection
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.kafka.topic_pages import Cursor, InvalidCursor, Piece, first_topic, page
from broker.services import TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

LEADER_EPOCH = 0
INTERNAL_TOPICS = frozenset(("__consumer_offsets", "__transaction_state", "__share_group_state"))


def _fail(call: Call, error: int) -> Buffers:
    topics = [
        {"error_code": error, "name": topic["name"], "partitions": [], "topic_authorized_operations": OPERATIONS_NOT_ASKED}
        for topic in request_of(call)["topics"]
    ]  # fmt: skip
    return response(call, {"throttle_time": 0, "topics": topics, "next_cursor": None}, had_error=True)


@serve(ApiKey.DESCRIBE_TOPIC_PARTITIONS, versions=(0, 0), fail=_fail)
def describe_topic_partitions(call: Call) -> Reply:
    """One page of the topics asked for; of all topics where none is named."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    asked = request["cursor"]
    cursor = None if asked is None else Cursor(asked["topic_name"], asked["partition_index"])
    names = [topic["name"] for topic in request["topics"]]
    try:
        first = first_topic(names or None, cursor)
    except InvalidCursor:
        return call.fail(ErrorCode.INVALID_REQUEST)
    views: dict[str, TopicView | None]
    if names:
        names = [name for name in dict.fromkeys(names) if name >= first]
        await services.topics.fresh([name for name in names if topic_objection(name) is None])
        views = {name: services.topics.by_name(name) for name in names}
    else:
        views = {view.name: view for view in await services.topics.all() if view.name >= first}
    limit = min(request["response_partition_limit"], services.settings.max_request_partition_size_limit)
    pieces, after = page({name: view.shards if view else None for name, view in views.items()}, cursor, limit)
    told = await agents_told(call)
    topics = [_topic(call, piece, views[piece.topic], told) for piece in pieces]
    values = {
        "throttle_time": 0,
        "topics": topics,
        "next_cursor": None if after is None else {"topic_name": after.topic, "partition_index": after.partition},
    }
    return response(call, values, had_error=any(topic["error_code"] for topic in topics))


def _topic(call: Call, piece: Piece, view: TopicView | None, agents: Told) -> dict[str, Any]:
    told: dict[str, Any] = {
        "error_code": _missing(piece.topic),
        "name": piece.topic,
        "is_internal": piece.topic in INTERNAL_TOPICS,
        "partitions": [],
        "topic_authorized_operations": TOPIC_OPERATIONS,
    }
    if view is None or piece.shards is None:
        return told
    replicas = call.context.leaders.replicas_of(view.topic_id, view.shards, agents.leading, agents.zones)
    return told | {
        "error_code": ErrorCode.NONE,
        "topic_id": view.topic_id,
        "partitions": [_partition(shard, list(replicas[shard])) for shard in piece.shards],
    }


def _missing(name: str) -> ErrorCode:
    if topic_objection(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _partition(shard: int, replicas: list[int]) -> dict[str, Any]:
    return {
        "error_code": ErrorCode.NONE,
        "partition_index": shard,
        "leader_id": replicas[0],
        "leader_epoch": LEADER_EPOCH,
        "replica_nodes": replicas,
        "isr_nodes": replicas,
        "eligible_leader_replicas": [],
        "last_known_elr": [],
        "offline_replicas": [],
    }
