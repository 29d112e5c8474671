"""DescribeQuorum (key 55), versions 0–2: the metadata database seen as a quorum of one.

The partition of `__cluster_metadata` has the agent that is asked as its leader and only voter, as Metadata names it the
controller; other live agents are observers. Any other partition is UNKNOWN_TOPIC_OR_PARTITION.

Deviations:
- There is no log of metadata: its end and high watermark are the number of changes to topics, epoch and lag are 0.
- From version 2 the leader's endpoint is its Kafka listener; directories have no ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import BrokerView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

METADATA_TOPIC = "__cluster_metadata"
NOWHERE = "This server does not host this topic-partition."
LISTENER = "CONTROLLER"


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"error_code": error, "error_message": None, "topics": [], "nodes": []}, had_error=True)


@serve(ApiKey.DESCRIBE_QUORUM, versions=(0, 2), fail=_fail)
def describe_quorum(call: Call) -> Reply:
    """The number of changes is read now."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    changes = await services.holdings.topic_changes()
    now_ms = services.clock.now_ms()
    leader = services.cluster.self_view
    topics = [
        {
            "topic_name": topic["topic_name"],
            "partitions": [
                _quorum(part["partition_index"], leader, services.cluster.brokers(), changes, now_ms)
                if topic["topic_name"] == METADATA_TOPIC and part["partition_index"] == 0
                else _unknown(part["partition_index"])
                for part in topic["partitions"]
            ],
        }
        for topic in request["topics"]
    ]
    found = any(not part["error_code"] for topic in topics for part in topic["partitions"])
    endpoint = {"name": LISTENER, "host": leader.host, "port": leader.port}
    values = {
        "error_code": ErrorCode.NONE,
        "error_message": "",
        "topics": topics,
        "nodes": [{"node_id": leader.broker_id, "listeners": [endpoint]}] if found else [],
    }
    return response(call, values, had_error=not found and bool(topics))


def _quorum(index: int, leader: BrokerView, brokers: Sequence[BrokerView], end: int, now_ms: int) -> dict[str, Any]:
    return {
        "partition_index": index,
        "error_code": ErrorCode.NONE,
        "error_message": "",
        "leader_id": leader.broker_id,
        "leader_epoch": 0,
        "high_watermark": end,
        "current_voters": [_replica(leader.broker_id, end, now_ms)],
        "observers": [_replica(other.broker_id, end, now_ms) for other in brokers if other != leader],
    }


def _replica(broker_id: int, end: int, now_ms: int) -> dict[str, Any]:
    return {
        "replica_id": broker_id,
        "replica_directory_id": None,
        "log_end_offset": end,
        "last_fetch_timestamp": now_ms,
        "last_caught_up_timestamp": now_ms,
    }


def _unknown(index: int) -> dict[str, Any]:
    return {
        "partition_index": index,
        "error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        "error_message": NOWHERE,
        "leader_id": 0,
        "leader_epoch": 0,
        "high_watermark": 0,
        "current_voters": [],
        "observers": [],
    }
