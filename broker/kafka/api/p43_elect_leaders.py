"""ElectLeaders (key 43), versions 0–2: ELECTION_NOT_NEEDED, for every partition that there is.

Any agent serves any partition, so every partition has the leader that it should have. Where all partitions are asked for,
each topic is answered without partitions, as Kafka does where no election is needed.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import explain, know, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

PREFERRED, UNCLEAN = 0, 1
NOT_NEEDED = "Leader election not needed for topic partition."


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    results = [
        {"topic": topic["topic"], "partition_result": [_result(index, error, message) for index in topic["partitions"]]}
        for topic in request_of(call)["topic_partitions"] or ()
    ]
    values = {"throttle_time": 0, "error_code": error, "replica_election_results": results}
    return response(call, values, had_error=True)


def _result(index: int, error: int, message: str | None) -> dict[str, Any]:
    return {"partition_id": index, **explain(error, message)}


@serve(ApiKey.ELECT_LEADERS, versions=(0, 2), fail=_fail)
def elect_leaders(call: Call) -> Reply:
    """Look the topics up; nothing is elected."""
    request = request_of(call)
    kind = request.get("election_type", PREFERRED)
    if kind not in (PREFERRED, UNCLEAN) and request["topic_partitions"] != []:
        return _fail(call, ErrorCode.INVALID_REQUEST, f"Unknown election type {kind}")
    return _elect(call, request)


async def _elect(call: Call, request: Message) -> Buffers:
    topics = call.context.services.topics
    results: list[dict[str, Any]]
    if request["topic_partitions"] is None:
        results = [{"topic": view.name, "partition_result": []} for view in await topics.all()]
    else:
        await know(topics, [topic["topic"] for topic in request["topic_partitions"]])
        results = [
            {
                "topic": topic["topic"],
                "partition_result": [
                    _outcome(topic["topic"], topics.by_name(topic["topic"]), index) for index in topic["partitions"]
                ],
            }
            for topic in request["topic_partitions"]
        ]
    had_error = any(
        part["error_code"] != ErrorCode.ELECTION_NOT_NEEDED for topic in results for part in topic["partition_result"]
    )
    values = {"throttle_time": 0, "error_code": ErrorCode.NONE, "replica_election_results": results}
    return response(call, values, had_error=had_error)


def _outcome(name: str, view: TopicView | None, index: int) -> dict[str, Any]:
    if view is None:
        return _result(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    if not 0 <= index < view.shards:
        return _result(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    return _result(index, ErrorCode.ELECTION_NOT_NEEDED, NOT_NEEDED)
