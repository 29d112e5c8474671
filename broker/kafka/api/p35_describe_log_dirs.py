"""DescribeLogDirs (key 35), versions 1–5: one log directory, with the bytes of every partition.

The size of a partition is the bytes of its record batches that the metadata database knows.

Deviations:
- The log directory is the place of the cluster's segments in the object store, the same for every agent; each agent
  names all partitions, and their bytes are there once.
- Total and usable bytes of the place are not known (-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.broker_configs import log_dir
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    return response(call, {"throttle_time": 0, "error_code": error, "results": []}, had_error=True)


@serve(ApiKey.DESCRIBE_LOG_DIRS, versions=(1, 5), fail=_fail)
def describe_log_dirs(call: Call) -> Reply:
    """Topics and sizes are read now."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    asked = request["topics"]
    wanted: dict[str, set[int]] | None = None
    if asked is not None:
        wanted = {}
        for topic in asked:
            wanted.setdefault(topic["topic"], set()).update(topic["partitions"])
    views = [view for view in await services.topics.all() if wanted is None or view.name in wanted]
    sizes = await services.holdings.shard_bytes([view.topic for view in views])
    topics = [_topic(view, None if wanted is None else wanted[view.name], sizes) for view in views]
    place = {
        "error_code": ErrorCode.NONE,
        "log_dir": log_dir(services.cluster.cluster_id),
        "topics": [topic for topic in topics if topic["partitions"]],
        "total_bytes": -1,
        "usable_bytes": -1,
        "is_cordoned": False,
    }
    return response(call, {"throttle_time": 0, "error_code": ErrorCode.NONE, "results": [place]})


def _topic(view: TopicView, wanted: set[int] | None, sizes: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    return {
        "name": view.name,
        "partitions": [
            {
                "partition_index": shard,
                "partition_size": sizes.get((view.topic, shard), 0),
                "offset_lag": 0,
                "is_future_key": False,
            }
            for shard in range(view.shards)
            if wanted is None or shard in wanted
        ],
    }
