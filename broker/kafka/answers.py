"""What several API modules do alike: read a small request, write its response, look topics up. No wire knowledge of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from broker.kafka.call import Buffers, Call
from broker.kafka.messages import Message, read_request, write_response
from broker.kafka.zones import agents_of, by_zone, zone_in
from broker.services import BrokerView, Topics, TopicView
from schemas.kafka.errors import ErrorCode

TOPIC_OPERATIONS = 0xDF8
"""Authorized operations on a topic where nothing restricts them: bits of Kafka's AclOperation codes 3-8, 10, 11."""
CLUSTER_OPERATIONS = 0x1FA0
"""The same for the cluster: bits 5, 7-12."""
OPERATIONS_NOT_ASKED = -(1 << 31)


def request_of(call: Call) -> Message:
    """The decoded request. Raises WireError, which closes the connection."""
    elements_max = call.context.services.settings.request_elements_max
    return read_request(call.api.key, call.version, call.frame, call.body_at, elements_max=elements_max)


def response(call: Call, values: Mapping[str, Any], *, had_error: bool = False) -> Buffers:
    """The encoded response as a handler returns it."""
    call.had_error = had_error
    if call.charge is not None:
        values = {**values, "throttle_time": call.throttle_ms}
    return [write_response(call.api.key, call.version, values)]


_MESSAGES = {int(error): error.message for error in ErrorCode}


def explain(error: int, message: str | None = None) -> dict[str, Any]:
    """The fields `error_code` and `error_message`: no message without an error."""
    if error == ErrorCode.NONE:
        return {"error_code": 0, "error_message": None}
    return {"error_code": error, "error_message": message or _MESSAGES.get(error)}


class Told(NamedTuple):
    """The agents that a client is told of, by broker id."""

    named: Sequence[BrokerView]
    """Those that it may talk to."""
    leading: tuple[int, ...]
    """The broker ids of those that it is sent to for partitions."""
    zones: tuple[tuple[int, ...], ...]
    """The broker ids of each zone, where agents of several are named: each has a replica of every partition, so to say,
    which consumers may be sent to by their rack."""
    controller: int
    """Every agent does what Kafka's controller does: the one that is asked, if it is named."""


async def agents_told(call: Call) -> Told:
    """What the caller is told of the live agents, as of now (see broker.kafka.zones).

    Where agents of other zones are named, a client that names no zone has none: any agent may be asked next, and what it
    says must be the same. Where only a zone's are named, it stays in the zone of the agent that it asked.
    """
    services = call.context.services
    brokers = await services.cluster.look()
    me = services.cluster.self_view
    others = services.settings.metadata_other_zones
    zoned = agents_of(zone_in(call.client_id) or ("" if others else me.zone), brokers)
    named = brokers if others else zoned
    controller = me if me in named else named[0]
    return Told(named, tuple(broker.broker_id for broker in zoned), by_zone(named), controller.broker_id)


async def know(
    topics: Topics, names: Iterable[str] = (), ids: Iterable[UUID] = (), *, shards: Mapping[str | UUID, int] = {}
) -> None:
    """Read from the database whichever of these topics the agent's cache doesn't hold; one read for all of them.

    `shards`: the highest partition asked for, by name or id. A topic that has fewer in the cache is read too: another
    agent may have given it more.
    """
    missing_names = [name for name in names if _lacks(topics.by_name(name), shards.get(name, -1))]
    missing_ids = [topic_id for topic_id in ids if _lacks(topics.by_id(topic_id), shards.get(topic_id, -1))]
    if missing_names or missing_ids:
        await topics.fresh(missing_names, missing_ids)


def _lacks(view: TopicView | None, shard: int) -> bool:
    return view is None or shard >= view.shards
