"""The deletion job: retention, what lies below log starts, unused objects, orphans. One agent of the cluster does it.

Owns: the lease is held, and named in every write, while anything is done; a round's work is bounded, and one that was full
is followed by the next after a breath. Whatever goes wrong ends the round, and the next one does it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from broker.deletion.counts import DeletionCounts
from broker.deletion.objects import ObjectSweeper
from broker.deletion.orphans import OrphanSweeper
from broker.deletion.pins import ExportPins
from broker.deletion.retention import Retention
from broker.objects.port import ObjectStore, ObjectStoreError
from broker.services import Clock
from catalog.agents import AgentStore
from catalog.database import Database, DatabaseError
from catalog.dead_epochs import DeadEpochStore
from catalog.deletions import DeletionStore
from catalog.epochs import EpochStore
from catalog.exports import ExportStore
from catalog.leases import Lease, LeaseLost, LeaseStore
from catalog.log_starts import LogStartStore
from catalog.retained import RetainedStore
from catalog.topics import TopicStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

LEASE = "deletion"
BREATH_S = 0.05


class DeletionJob:
    """`run` belongs to the agent's supervisor; every agent has one."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        clock: Clock,
        settings: Settings,
        *,
        cluster_id: str,
        instance: str,
        broker_values: Callable[[], Mapping[str, str]],
    ) -> None:
        self.counts = DeletionCounts()
        self._clock = clock
        self._settings = settings
        self._instance = instance
        self._leases = LeaseStore(database)
        self._lease: Lease | None = None
        self._lease_since_s = 0.0
        self._judged_s: float | None = None
        deletions, exports = DeletionStore(database), ExportStore(database)
        self._retention = Retention(
            RetainedStore(database),
            LogStartStore(database),
            TopicStore(database),
            ExportPins(exports, AgentStore(database), settings),
            settings,
            broker_values,
            self.counts,
        )
        self._objects = ObjectSweeper(deletions, store, settings, self.counts)
        self._orphans = OrphanSweeper(
            EpochStore(database),
            DeadEpochStore(database),
            deletions,
            store,
            settings,
            self.counts,
            cluster_id=cluster_id,
        )

    async def run(self) -> None:
        """Work for ever."""
        more = False
        while True:
            await asyncio.sleep(BREATH_S if more else self._settings.deletion_interval_ms / 1000)
            more = await self.round()

    async def round(self) -> bool:
        """One round, if the lease is or can be had. True where there is more to do at once."""
        try:
            lease = await self._hold()
            if lease is None:
                return False
            more = await self._work(lease)
        except (DatabaseError, ObjectStoreError) as error:
            if isinstance(error, LeaseLost):
                self._lease = None
            self._retention.begin_anew()
            log.warning("deletion could not go on, trying again", error=str(error), error_type=type(error).__name__)
            return False
        finally:
            self.counts.holds_lease = self._lease is not None
        self.counts.last_success_s = self._clock.monotonic()
        return more

    async def close(self) -> None:
        """Give the lease back, so that another agent goes on at once; else it runs out by itself."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            await self._leases.release(lease)
        except DatabaseError as error:
            log.warning("the deletion job's lease was not given back, it runs out by itself", error=str(error))

    async def _work(self, lease: Lease) -> bool:
        now_s = self._clock.monotonic()
        interval_s = self._settings.log_retention_check_interval_ms / 1000
        judge = self._judged_s is None or now_s - self._judged_s >= interval_s
        more = await self._retention.walk(lease, judge=judge)
        if judge and not more:
            self._judged_s = now_s
        for sweep in (self._objects.round, self._orphans.round):
            held = await self._hold()
            if held is None or held.epoch != lease.epoch:
                return False
            more = await sweep(held) or more
        return more

    async def _hold(self) -> Lease | None:
        """The lease, taken or prolonged where it is time. Raises DatabaseError."""
        lease_ms = self._settings.deletion_lease_ms
        now_s = self._clock.monotonic()
        if self._lease is None:
            self._lease = await self._leases.acquire(LEASE, self._instance, lease_ms)
            self._retention.begin_anew()
        elif now_s - self._lease_since_s < lease_ms / 3000:
            return self._lease
        else:
            try:
                self._lease = await self._leases.renew(self._lease, lease_ms)
            except LeaseLost:
                self._lease = None
                raise
        self._lease_since_s = now_s
        return self._lease
