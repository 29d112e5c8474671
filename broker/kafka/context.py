"""What all connections of a listener share: services, served APIs, counters, receive buffers. No behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker.kafka.leaders import Leaders
from broker.kafka.registry import Api
from broker.kafka.statistics import ApiStatistics, FrontStatistics
from broker.services import Services
from schemas.kafka.receive_pool import ReceivePool

if TYPE_CHECKING:
    from broker.kafka.connection import Connection


class Door(Protocol):
    """What the listener gives its connections."""

    def admit(self, connection: Connection, address: str) -> str | None:
        """None where the connection may stay, else the reason for closing it."""
        ...

    def closed(self, connection: Connection, address: str) -> None:
        """A connection has gone; called once for each that was admitted."""
        ...


@dataclass(slots=True)
class Context:
    """What all connections of a listener share."""

    services: Services
    apis: Mapping[int, Api]
    statistics: FrontStatistics
    door: Door
    leaders: Leaders = field(default_factory=Leaders)
    pool: ReceivePool = field(default_factory=ReceivePool)
    api_statistics: dict[int, ApiStatistics] = field(init=False)

    def __post_init__(self) -> None:
        self.api_statistics = {key: self.statistics.of(api.name) for key, api in self.apis.items()}
