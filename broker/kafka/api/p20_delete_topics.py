"""DeleteTopics (key 20), versions 1–6: delete topics by name or, from version 6, by id.

A deleted topic's name is free at once; its offsets in groups are gone, and requests by its old id find nothing. A topic
that stands twice in one request, by name, by id or by both, is answered once, with INVALID_REQUEST, and stays; a name
together with an id in one entry, or neither, likewise. With `delete_topic_enable` off nothing is deleted.

Deviations:
- The timeout is not looked at: the deletion is one metadata transaction, and the answer comes behind it.
- Where Kafka sends its usual message for a code, none is sent: clients have their own.
- What a deleted topic leaves behind is removed by the deletion job; what wasn't exported by then is not exported any more.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Topics, TopicView
from catalog.topics import TopicGone
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

Target = tuple[str | None, UUID | None]
DISABLED_SINCE = 3
"""First version that knows TOPIC_DELETION_DISABLED."""


def _targets(request: Message) -> list[Target]:
    if "topics" in request:
        return [(topic["name"], topic["topic_id"]) for topic in request["topics"]]
    return [(name, None) for name in request["topic_names"]]


def _answer(target: Target, error: int, message: str | None = None) -> dict[str, Any]:
    return {"name": target[0], "topic_id": target[1], "error_code": error, "error_message": message}


def _fail(call: Call, error: int) -> Buffers:
    answers = [_answer(target, error) for target in _targets(request_of(call)) if call.version > 5 or target[0]]
    return response(call, {"throttle_time": 0, "responses": answers}, had_error=True)


@serve(ApiKey.DELETE_TOPICS, versions=(1, 6), fail=_fail)
def delete_topics(call: Call) -> Reply:
    """Delete one topic after the other; each has its own answer."""
    if not call.context.services.settings.delete_topic_enable:
        return call.fail(
            ErrorCode.INVALID_REQUEST if call.version < DISABLED_SINCE else ErrorCode.TOPIC_DELETION_DISABLED
        )
    return _delete(call, _targets(request_of(call)))


async def _delete(call: Call, targets: list[Target]) -> Buffers:
    topics = call.context.services.topics
    await topics.fresh([name for name, _ in targets if name], [topic_id for _, topic_id in targets if topic_id])
    answers = [await _delete_one(topics, target, times) for target, times in _each_once(topics, targets)]
    had_error = any(answer["error_code"] != ErrorCode.NONE for answer in answers)
    return response(call, {"throttle_time": 0, "responses": answers}, had_error=had_error)


def _each_once(topics: Topics, targets: list[Target]) -> list[tuple[Target, int]]:
    """Each topic with the times it stands in the request; one that is named and given by id has both."""
    found: dict[Target | int, tuple[Target, int]] = {}
    for target in targets:
        name, topic_id = target
        view = None
        if name is None and topic_id is not None:
            view = topics.by_id(topic_id)
        elif name is not None and topic_id is None:
            view = topics.by_name(name)
        key = target if view is None else view.topic
        before, times = found.get(key, ((None, None), 0))
        found[key] = (before[0] if name is None else name, before[1] if topic_id is None else topic_id), times + 1
    return list(found.values())


async def _delete_one(topics: Topics, target: Target, times_asked: int) -> dict[str, Any]:
    name, topic_id = target
    objection = _objection(target, times_asked)
    if objection is not None:
        return _answer(target, ErrorCode.INVALID_REQUEST, objection)
    view: TopicView | None
    if topic_id is not None:
        view = topics.by_id(topic_id)
        missing = ErrorCode.UNKNOWN_TOPIC_ID
    else:
        view = topics.by_name(name or "")
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if view is None:
        return _answer(target, missing)
    try:
        await topics.delete(view)
    except TopicGone:
        return _answer(target, missing)
    return _answer((view.name, view.topic_id), ErrorCode.NONE)


def _objection(target: Target, times_asked: int) -> str | None:
    """What is wrong with how a topic is asked for."""
    name, topic_id = target
    if times_asked > 1:
        if name is not None and topic_id is not None:
            return "The provided topic name maps to an ID that was already supplied."
        return "Duplicate topic name." if topic_id is None else "Duplicate topic id."
    if name is None and topic_id is None:
        return "Neither topic name nor id were specified."
    if name is not None and topic_id is not None:
        return "You may not specify both topic name and topic id."
    return None
