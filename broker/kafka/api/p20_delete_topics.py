"""DeleteTopics (key 20), versions 1–6: delete topics by name or, from version 6, by id.

A deleted topic's name is free at once. A topic that stands twice in one request, by name, by id or by both, is answered
once, with INVALID_REQUEST, and stays; a name together with an id in one entry, or neither, likewise.

Deviations:
- The timeout is not looked at: the deletion is one metadata transaction, and the answer comes behind it.
- Messages beside error codes are in our words.
- Bytes and rows of a deleted topic stay where they are until they are reclaimed.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Topics, TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

Target = tuple[str | None, UUID | None]


def _targets(request: Message) -> list[Target]:
    if "topics" in request:
        return [(topic["name"], topic["topic_id"]) for topic in request["topics"]]
    return [(name, None) for name in request["topic_names"]]


def _answer(target: Target, error: int) -> dict[str, Any]:
    return {"name": target[0], "topic_id": target[1], **explain(error)}


def _fail(call: Call, error: int) -> Buffers:
    answers = [_answer(target, error) for target in _targets(request_of(call)) if call.version > 5 or target[0]]
    return response(call, {"throttle_time": 0, "responses": answers}, had_error=True)


@serve(ApiKey.DELETE_TOPICS, versions=(1, 6), fail=_fail)
def delete_topics(call: Call) -> Reply:
    """Delete one topic after the other; each has its own answer."""
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
    if times_asked > 1 or (name is None) == (topic_id is None):
        return _answer(target, ErrorCode.INVALID_REQUEST)
    view: TopicView | None
    if topic_id is not None:
        view = topics.by_id(topic_id)
        missing = ErrorCode.UNKNOWN_TOPIC_ID
    else:
        view = topics.by_name(name or "")
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if view is None:
        return _answer(target, missing)
    await topics.delete(view)
    return _answer((view.name, view.topic_id), ErrorCode.NONE)
