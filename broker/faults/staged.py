"""The faults of a running agent: what wraps its store, database and connections, and the rules it follows.

Built only where the profile allows faults, so a production agent has no wrapper at all. Rules are in the metadata database
and reach every agent with its next look; they are read and written past the faulty database, so that what was let loose can
always be taken back. While the database can't be asked the known rules go on until their time is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter

from broker.faults.connection import FaultyConnection
from broker.faults.database import FaultyDatabase
from broker.faults.table import FOR_EVER, FaultTable
from broker.kafka.context import Context
from broker.objects.faulty import FaultyStore
from broker.objects.port import ObjectStore
from broker.rounds import repeat
from broker.services import Clock
from catalog.database import Database
from catalog.faults import FaultStore, StoredFault
from schemas.fault_points import POINTS, FaultRule
from schemas.settings import Settings

log = structlog.get_logger(__name__)
ALLOWED_IN = ("staging", "development")


class SetFault(NamedTuple):
    """A rule, the milliseconds it has left (None: no end), and how often it has struck on this agent."""

    rule: FaultRule
    left_ms: int | None
    fired: int


def faults_allowed(settings: Settings) -> bool:
    """May faults be let strike in this profile?"""
    return settings.profile in ALLOWED_IN


class StagedFaults:
    """One per agent. `run` belongs to the agent's supervisor."""

    def __init__(
        self, settings: Settings, clock: Clock, rng: random.Random, registry: CollectorRegistry | None = None
    ) -> None:
        assert faults_allowed(settings), "a production agent has no faults"
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._store: FaultStore | None = None
        self.table = FaultTable(rng, _counting(registry) if registry is not None else None)

    def strike(self, point: str, subject: str) -> FaultRule | None:
        """What the wrappers ask."""
        return self.table.strike(point, subject, self._clock.monotonic())

    def wrap_store(self, store: ObjectStore) -> ObjectStore:
        """The object port with faults."""
        return FaultyStore(store, self._rng, self.strike, self.table.armed)

    def wrap_database(self, database: Database) -> Database:
        """The database port with faults. The rules themselves are kept in `database` as it is."""
        self._store = FaultStore(database)
        return FaultyDatabase(database, self._rng, self.strike)

    def connection(self, context: Context, number: int) -> FaultyConnection:
        """The protocol of the next connection."""
        return FaultyConnection(context, number, self.strike)

    async def add(self, rule: FaultRule, for_ms: int | None) -> int:
        """Set a rule; it holds here at once, on other agents with their next look. Raises WrongFault."""
        number = await self._kept.add(rule.checked(), for_ms, rules_max=self._settings.faults_max)
        await self.follow()
        log.warning("a fault was set", number=number, point=rule.point, rate=rule.rate, pattern=rule.pattern)
        return number

    async def remove(self, number: int | None) -> int:
        """Remove one rule, or all; returns how many there were."""
        removed = await self._kept.remove(number)
        await self.follow()
        return removed

    async def in_force(self) -> list[SetFault]:
        """The rules in force, read now."""
        return [
            SetFault(stored.rule, stored.left_ms, self.table.fired_by(stored.rule.number))
            for stored in await self._followed()
        ]

    async def follow(self) -> None:
        """Take in the rules as they are now."""
        await self._followed()

    async def run(self) -> None:
        """Follow the rules for ever."""
        interval_s = self._settings.fault_poll_interval_ms / 1000
        await repeat(self.follow, interval_s=interval_s, failure="faults could not be polled")

    @property
    def _kept(self) -> FaultStore:
        assert self._store is not None, "wrap the database first"
        return self._store

    async def _followed(self) -> Sequence[StoredFault]:
        stored = await self._kept.read()
        now_s = self._clock.monotonic()
        self.table.replace(
            (each.rule, FOR_EVER if each.left_ms is None else now_s + each.left_ms / 1000)
            for each in stored
            if each.rule.point in POINTS  # an agent of another version may know more
        )
        return stored


def _counting(registry: CollectorRegistry) -> Callable[[str], None]:
    fired = Counter("neve_faults", "Faults that struck on purpose.", ["point"], registry=registry)
    of = {point: fired.labels(point) for point in POINTS}
    return lambda point: of[point].inc()
