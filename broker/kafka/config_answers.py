"""What AlterConfigs and IncrementalAlterConfigs do alike: one resource after the other, each with its own answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call
from broker.kafka.config_changes import Operation, RefusedChange
from broker.kafka.config_resources import Work, alter, refresh
from broker.kafka.messages import Message
from broker.services import Services
from catalog.database import CommitUnknown, Unreachable
from schemas.kafka.errors import ErrorCode


def fail(call: Call, error: int) -> Buffers:
    """The response that carries one error for every resource."""
    answers = [_answer(resource, error) for resource in request_of(call)["resources"]]
    return response(call, {"throttle_time": 0, "responses": answers}, had_error=True)


async def alter_all(call: Call, work: Work, operation: Callable[[Message], Operation]) -> Buffers:
    """Change each resource by its operations, or only check; a resource that stands twice in the request stays."""
    request = request_of(call)
    services = call.context.services
    resources = request["resources"]
    keys = [(resource["resource_type"], resource["resource_name"]) for resource in resources]
    times = Counter(keys)
    await refresh(services, keys)
    answers = []
    for resource, key in zip(resources, keys, strict=True):
        if times[key] > 1:
            answers.append(_answer(resource, ErrorCode.INVALID_REQUEST, "Each resource must appear at most once."))
            continue
        operations = [operation(config) for config in resource["configs"]]
        answers.append(await _one(services, resource, operations, work, request["validate_only"]))
    had_error = any(answer["error_code"] != ErrorCode.NONE for answer in answers)
    return response(call, {"throttle_time": 0, "responses": answers}, had_error=had_error)


async def _one(
    services: Services, resource: Message, operations: Sequence[Operation], work: Work, validate_only: bool
) -> dict[str, Any]:
    kind, name = resource["resource_type"], resource["resource_name"]
    try:
        await alter(services, kind, name, operations, work, validate_only=validate_only)
    except RefusedChange as refused:
        return _answer(resource, refused.error, refused.message)
    except (Unreachable, CommitUnknown) as failure:
        return _answer(resource, ErrorCode.REQUEST_TIMED_OUT, str(failure))
    return _answer(resource, ErrorCode.NONE)


def _answer(resource: Message, error: int, message: str | None = None) -> dict[str, Any]:
    return {
        **explain(error, message),
        "resource_type": resource["resource_type"],
        "resource_name": resource["resource_name"],
    }
