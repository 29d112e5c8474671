"""ListConfigResources (key 74), versions 0–1: which resources have configs. Version 0 lists client metrics alone.

Every topic and every live agent is listed, and the groups and client metrics on which something is set.

Deviations:
- The order is by kind and name; Kafka's is that of its hash tables.
"""

from __future__ import annotations

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from schemas.config_kinds import ConfigKind
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

TYPES_SINCE = 1


def _fail(call: Call, error: int) -> Buffers:
    values = {"throttle_time": 0, "error_code": error, "config_resources": []}
    return response(call, values, had_error=True)


@serve(ApiKey.LIST_CONFIG_RESOURCES, versions=(0, 1), fail=_fail)
def list_config_resources(call: Call) -> Reply:
    """The resources of the kinds asked for; of all kinds where none is named."""
    return _list(call, request_of(call))


async def _list(call: Call, request: Message) -> Buffers:
    services = call.context.services
    wanted = request["resource_types"] if call.version >= TYPES_SINCE else [ConfigKind.CLIENT_METRICS]
    if any(kind not in tuple(ConfigKind) for kind in wanted):
        return call.fail(ErrorCode.UNSUPPORTED_VERSION)
    await services.configs.fresh()
    rows = [
        {"resource_name": name, "resource_type": int(kind)}
        for kind in ConfigKind
        if not wanted or kind in wanted
        for name in await _names(services, kind)
    ]
    return response(call, {"throttle_time": 0, "error_code": 0, "config_resources": rows})


async def _names(services: Services, kind: ConfigKind) -> list[str]:
    if kind is ConfigKind.TOPIC:
        return [view.name for view in await services.topics.all()]
    if kind in (ConfigKind.BROKER, ConfigKind.BROKER_LOGGER):
        return [str(broker.broker_id) for broker in await services.cluster.look()]
    return services.configs.names(kind)
