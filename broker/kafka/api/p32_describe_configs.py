"""DescribeConfigs (key 32), versions 1–4: the configs of topics, brokers, loggers, client metrics and groups.

Topics show all of Kafka's configs and Neve's own for tables, with source, type, synonyms and meaning. A broker shows
Kafka's whole list, the empty broker name what is set for all of them. Brokers and loggers are told by the agent that is
asked, for itself.

Deviations:
- Most configs of a broker are without effect and carry Kafka's defaults; their documentation says which. An agent
  has own defaults of connections (`max.connections`, `max.connections.per.ip`).
- There is one logger, `root`.
- Where Kafka sends its usual message for a code, none is sent: clients have their own.
- Configs of groups and client metrics are kept and shown, and nothing reads them yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.config_changes import RefusedChange
from broker.kafka.config_resources import described, refresh
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from schemas.config_types import ConfigEntry, ConfigSource
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    results = [_result(resource, error) for resource in request_of(call)["resources"]]
    return response(call, {"throttle_time": 0, "results": results}, had_error=True)


@serve(ApiKey.DESCRIBE_CONFIGS, versions=(1, 4), fail=_fail)
def describe_configs(call: Call) -> Reply:
    """Each resource has its own answer, as of now."""
    return _describe(call, request_of(call))


async def _describe(call: Call, request: Message) -> Buffers:
    services = call.context.services
    resources = request["resources"]
    await refresh(services, [(resource["resource_type"], resource["resource_name"]) for resource in resources])
    results = [_one(services, resource, request) for resource in resources]
    had_error = any(result["error_code"] != ErrorCode.NONE for result in results)
    return response(call, {"throttle_time": 0, "results": results}, had_error=had_error)


def _one(services: Services, resource: Message, request: Message) -> dict[str, Any]:
    try:
        entries = described(services, resource["resource_type"], resource["resource_name"])
    except RefusedChange as refused:
        return _result(resource, refused.error, refused.message)
    return _result(resource, ErrorCode.NONE, entries=entries, request=request)


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
        "error_code": error,
        "error_message": message if error else "",  # not null without an error, as Kafka answers here
        "resource_type": resource["resource_type"],
        "resource_name": resource["resource_name"],
        "configs": [_config(entry, request or {}) for entry in shown],
    }


def _config(entry: ConfigEntry, request: Message) -> dict[str, Any]:
    synonyms = entry.synonyms if request.get("include_synonyms", False) else ()
    # of loggers Kafka always tells it, empty as it is
    documented = request.get("include_documentation", False) or entry.source is ConfigSource.BROKER_LOGGER
    return {
        "name": entry.name,
        "value": entry.value,
        "read_only": entry.read_only,
        "config_source": entry.source,
        "is_sensitive": entry.sensitive,
        "synonyms": [{"name": name, "value": value, "source": source} for name, value, source in synonyms],
        "config_type": entry.type,
        "documentation": entry.documentation if documented else None,
    }
