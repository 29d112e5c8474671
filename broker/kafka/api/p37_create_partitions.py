"""CreatePartitions (key 37), versions 0–3: give topics more partitions, or only check that they could have them.

`count` is what a topic has afterwards. New partitions are empty and can be used at once, on every agent: one that hasn't
heard of them looks them up. A topic named twice in one request is answered once, with INVALID_REQUEST.

Deviations:
- Any broker ids in an assignment are taken: the object store keeps the copies.
- The timeout is not looked at: the answer comes when the metadata transaction is done.
- More partitions than `partitions_max_per_topic` are POLICY_VIOLATION; Kafka's bound is 10,000 in a request.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.assignments import InvalidAssignment, check_added
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from catalog.database import CommitUnknown, Unreachable
from catalog.topics import NotMoreShards, TopicGone
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


class _Refused(Exception):
    """One topic can't grow so; what its answer says."""

    def __init__(self, error: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or error.name)
        self.error = error
        self.message = message


def _fail(call: Call, error: int) -> Buffers:
    answers = [_answer(topic["name"], error) for topic in request_of(call)["topics"]]
    return response(call, {"throttle_time": 0, "results": answers}, had_error=True)


@serve(ApiKey.CREATE_PARTITIONS, versions=(0, 3), fail=_fail)
def create_partitions(call: Call) -> Reply:
    """One topic after the other; each has its own answer."""
    return _create(call, request_of(call))


async def _create(call: Call, request: Message) -> Buffers:
    services = call.context.services
    topics = request["topics"]
    times = Counter(topic["name"] for topic in topics)
    await services.topics.fresh(list(times))
    once = {topic["name"]: topic for topic in topics}
    answers = [
        await _grow(services, topic, twice=times[name] > 1, validate_only=request["validate_only"])
        for name, topic in once.items()
    ]
    had_error = any(answer["error_code"] != ErrorCode.NONE for answer in answers)
    return response(call, {"throttle_time": 0, "results": answers}, had_error=had_error)


async def _grow(services: Services, topic: Message, *, twice: bool, validate_only: bool) -> dict[str, Any]:
    name: str = topic["name"]
    try:
        if twice:
            raise _Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        view = services.topics.by_name(name)
        if view is None:
            raise _Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        _check(topic, view.shards, services.settings.partitions_max_per_topic)
        if not validate_only:
            await services.topics.grow(view, topic["count"])
    except _Refused as refused:
        return _answer(name, refused.error, refused.message)
    except NotMoreShards as refused:
        return _answer(name, ErrorCode.INVALID_PARTITIONS, _no_increase(topic, refused.shards))
    except TopicGone:
        return _answer(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    except (Unreachable, CommitUnknown) as failure:
        return _answer(name, ErrorCode.REQUEST_TIMED_OUT, str(failure))
    return _answer(name, ErrorCode.NONE)


def _check(topic: Message, shards: int, most: int) -> None:
    count: int = topic["count"]
    if count <= shards:
        raise _Refused(ErrorCode.INVALID_PARTITIONS, _no_increase(topic, shards))
    if topic["assignments"] is not None:
        try:
            check_added([assignment["broker_ids"] for assignment in topic["assignments"]], count - shards)
        except InvalidAssignment as invalid:
            raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, str(invalid)) from invalid
    if count > most:
        raise _Refused(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def _no_increase(topic: Message, shards: int) -> str:
    count = topic["count"]
    if count == shards:
        return f"Topic already has {shards} partition(s)."
    return f"The topic {topic['name']} currently has {shards} partition(s); {count} would not be an increase."


def _answer(name: str, error: int, message: str | None = None) -> dict[str, Any]:
    return {"name": name, "error_code": error, "error_message": message}
