"""DescribeConfigs (key 32), versions 1–4: the configs of topics and of the agent that is asked.

Topics show all of Kafka's configs and Neve's own for tables, with source, type, synonyms and meaning. A broker shows the
settings that clients and tools look up; they are read-only. The cluster-wide broker resource (empty name) has none.

Deviations:
- A broker's configs are all read-only: an agent takes its settings when it starts.
- Messages beside error codes are in our words.
- Broker loggers, client metrics and groups have no configs here: INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.broker_configs import broker_settings, describe_broker
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.names import InvalidName, check_topic_name
from schemas.topic_config import ConfigEntry, describe

TOPIC = 2
BROKER = 4


def _fail(call: Call, error: int) -> Buffers:
    results = [_result(resource, error) for resource in request_of(call)["resources"]]
    return response(call, {"throttle_time": 0, "results": results}, had_error=True)


@serve(ApiKey.DESCRIBE_CONFIGS, versions=(1, 4), fail=_fail)
def describe_configs(call: Call) -> Reply:
    """Each resource has its own answer; topics are read from the database."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    resources = request["resources"]
    names = [resource["resource_name"] for resource in resources if resource["resource_type"] == TOPIC]
    if names:
        await services.topics.fresh([name for name in dict.fromkeys(names) if _name_objection(name) is None])
    results = [_one(services, resource, request) for resource in resources]
    had_error = any(result["error_code"] != ErrorCode.NONE for result in results)
    return response(call, {"throttle_time": 0, "results": results}, had_error=had_error)


def _one(services: Services, resource: Message, request: Message) -> dict[str, Any]:
    kind, name = resource["resource_type"], resource["resource_name"]
    if kind == TOPIC:
        return _topic(services, resource, request)
    if kind != BROKER:
        return _result(resource, ErrorCode.INVALID_REQUEST, f"resources of type {kind} have no configs here")
    if not name:
        return _result(resource, ErrorCode.NONE)
    own = services.cluster.self_view.broker_id
    if name != str(own):
        message = f"Unexpected broker id, expected {own} or empty string, but received {name!r}"
        return _result(resource, ErrorCode.INVALID_REQUEST, message)
    return _result(resource, ErrorCode.NONE, entries=describe_broker(services.settings, own), request=request)


def _topic(services: Services, resource: Message, request: Message) -> dict[str, Any]:
    objection = _name_objection(resource["resource_name"])
    if objection is not None:
        return _result(resource, ErrorCode.INVALID_TOPIC_EXCEPTION, objection)
    view = services.topics.by_name(resource["resource_name"])
    if view is None:
        return _result(resource, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    entries = describe(view.config, broker_settings(services.settings))
    return _result(resource, ErrorCode.NONE, entries=entries, request=request)


def _name_objection(name: str) -> str | None:
    try:
        check_topic_name(name)
    except InvalidName as invalid:
        return str(invalid)
    return None


def _result(
    resource: Message,
    error: int,
    message: str | None = None,
    entries: Sequence[ConfigEntry] = (),
    request: Message | None = None,
) -> dict[str, Any]:
    wanted = resource["configuration_keys"]
    shown = [entry for entry in entries if not wanted or entry.name in wanted]
    return {
        **explain(error, message),
        **({} if error else {"error_message": ""}),  # not null, as Kafka answers here
        "resource_type": resource["resource_type"],
        "resource_name": resource["resource_name"],
        "configs": [_config(entry, request or {}) for entry in shown],
    }


def _config(entry: ConfigEntry, request: Message) -> dict[str, Any]:
    synonyms = entry.synonyms if request.get("include_synonyms", False) else ()
    return {
        "name": entry.name,
        "value": None if entry.sensitive else entry.value,
        "read_only": entry.read_only,
        "config_source": entry.source,
        "is_sensitive": entry.sensitive,
        "synonyms": [{"name": name, "value": value, "source": source} for name, value, source in synonyms],
        "config_type": entry.type,
        "documentation": entry.documentation if request.get("include_documentation", False) else None,
    }
