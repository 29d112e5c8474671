"""How many connections a listener takes: bounds that can be changed while the agent runs, worked out once per change.

Looked at for every connection that comes, and clients that connect anew for each request make thousands of them a second.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.kafka.broker_configs import value_in_force
from broker.services import BrokerView, Services


class Bounds(NamedTuple):
    """Connections open at a time: in all, and from one address."""

    connections_max: int
    per_address_max: int


class ConnectionBounds:
    """The bounds in force; before the agent has registered, those it was started with."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._found_for: tuple[BrokerView | None, int] | None = None
        self._bounds = Bounds(0, 0)

    def now(self) -> Bounds:
        """As last changed, as far as this agent has heard."""
        services = self._services
        broker = services.cluster.self_view if services.cluster.brokers() else None
        wanted = broker, services.configs.broker_changes
        if wanted != self._found_for:
            self._bounds = Bounds(self._bound("max.connections", broker), self._bound("max.connections.per.ip", broker))
            self._found_for = wanted
        return self._bounds

    def _bound(self, name: str, broker: BrokerView | None) -> int:
        services = self._services
        if broker is None:
            return int(getattr(services.settings, name.replace(".", "_")))
        return int(value_in_force(name, services.settings, services.configs, broker) or 0)
