"""Which agents serve a client's partitions: those of its zone, so that no record bytes cross zones on their way. Pure.

Kafka's Metadata request has no field for a rack, so clients say their zone in their client id, the way other brokers over
object stores read it: pairs like `zone=a` between `,` `;` `|` `&` or blanks, in any place of it.

Owns: nobody is left without agents. A zone in which no agent is alive is served by all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from broker.services import BrokerView

KEYS = ("zone", "az", "ws_az", "warpstream_az", "diskless_az", "automq_az")
_PAIR = re.compile(rf"(?:^|[,;|&\s])(?:{'|'.join(KEYS)})=([^,;|&\s=]+)")


def zone_in(client_id: str) -> str:
    """The zone that a client id names; the first of several, empty where it names none."""
    found = _PAIR.search(client_id)
    return "" if found is None else found[1]


def by_zone(brokers: Sequence[BrokerView]) -> tuple[tuple[int, ...], ...]:
    """The broker ids of each zone, by its name; nothing where there are no two zones."""
    zones: dict[str, list[int]] = {}
    for broker in brokers:
        if broker.zone:
            zones.setdefault(broker.zone, []).append(broker.broker_id)
    return tuple(tuple(zones[name]) for name in sorted(zones)) if len(zones) > 1 else ()


def agents_of(zone: str, brokers: Sequence[BrokerView]) -> Sequence[BrokerView]:
    """The live agents of a client's zone, else all; all as well for a client without a zone.

    Libraries make client ids longer (`zone=a-StreamThread-1-consumer`): where no agent is in such a zone, it is taken for
    the longest zone with agents that it begins with.
    """
    if not zone:
        return brokers
    zones = sorted({broker.zone for broker in brokers if broker.zone}, key=lambda name: (-len(name), name))
    meant = next((name for name in zones if zone == name), None)
    if meant is None:
        meant = next((name for name in zones if zone.startswith(f"{name}-")), None)
    return brokers if meant is None else [broker for broker in brokers if broker.zone == meant]
