"""AlterClientQuotas (key 49), versions 0–1: set and take away quotas, or only check that they could be set.

`producer_byte_rate`, `consumer_byte_rate` and `request_percentage` are enforced by each agent, for the connections that it
has; on the agent that is asked they hold with the answer, on others within `quota_poll_interval_ms`. All connections have
the user ANONYMOUS until there is authentication. An entity that stands twice in a request is changed by what comes first
and answered with INVALID_REQUEST.

Deviations:
- `controller_mutation_rate` and `connection_creation_rate` are stored and told, not enforced.
- An IP entity is named by an address; Kafka also takes host names that it can resolve.
- A quota that is not a number (NaN) is INVALID_REQUEST; Kafka takes it.
- The names of an entity have at most about 2,000 bytes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.quotas.entities import Op, Refused, changes, entity_of
from catalog.quotas import Entity, QuotaChange
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int) -> Buffers:
    entities = dict.fromkeys(_entity(entry) for entry in request_of(call)["entries"])
    answers = [_answer(entity, error) for entity in entities]
    return response(call, {"throttle_time": 0, "entries": answers}, had_error=True)


@serve(ApiKey.ALTER_CLIENT_QUOTAS, versions=(0, 1), fail=_fail)
def alter_client_quotas(call: Call) -> Reply:
    """All entities that can be changed are changed together."""
    return _alter(call, request_of(call))


async def _alter(call: Call, request: Message) -> Buffers:
    refused: dict[Entity, Refused | None] = {}
    accepted: list[QuotaChange] = []
    for entry in request["entries"]:
        entity = _entity(entry)
        try:
            wanted = list(_ops(entry, entity, twice=entity in refused))
            accepted += changes(entity, wanted)
            refused[entity] = None
        except Refused as refusal:
            refused[entity] = refusal
    if not request["validate_only"]:
        await call.context.services.quotas.alter(accepted)
    answers = [
        _answer(entity) if refusal is None else _answer(entity, refusal.error, str(refusal))
        for entity, refusal in refused.items()
    ]
    return response(call, {"throttle_time": 0, "entries": answers}, had_error=any(refused.values()))


def _entity(entry: Message) -> Entity:
    return entity_of((part["entity_type"], part["entity_name"]) for part in entry["entity"])


def _ops(entry: Message, entity: Entity, *, twice: bool) -> Iterator[Op]:
    """The changes of one entity. Raises Refused."""
    keys = [op["key"] for op in entry["ops"]]
    if twice or len(set(keys)) < len(keys):
        raise Refused(f"Ignoring duplicate entity ClientQuotaEntity(entries={_shown(entity)})")
    for op in entry["ops"]:
        yield Op(op["key"], None if op["remove"] else op["value"])


def _shown(entity: Iterable[tuple[str, str | None]]) -> str:
    return "{" + ", ".join(f"{kind}={'null' if name is None else name}" for kind, name in entity) + "}"


def _answer(entity: Entity, error: int = ErrorCode.NONE, message: str | None = None) -> dict[str, Any]:
    parts = [{"entity_type": kind, "entity_name": name} for kind, name in entity]
    return {**explain(error, message), "entity": parts}
