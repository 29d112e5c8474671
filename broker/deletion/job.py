"""The deletion job: retention, what lies below log starts, unused objects, orphans. One holder in the cluster does it.

Owns: the lease is named in every write; a turn's work is bounded. Whatever goes wrong ends the turn, and the next one does it
again. Where a turn stopped among the shards is its progress, for whoever goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from broker.deletion.counts import DeletionCounts
from broker.deletion.objects import ObjectSweeper
from broker.deletion.orphans import OrphanSweeper
from broker.deletion.pins import ExportPins
from broker.deletion.retention import BEGINNING, Retention
from broker.jobs.port import Turn
from broker.objects.port import ObjectStore
from broker.services import Clock
from catalog.agents import AgentStore
from catalog.database import Database
from catalog.dead_epochs import DeadEpochStore
from catalog.deletions import DeletionStore
from catalog.epochs import EpochStore
from catalog.exports import ExportStore
from catalog.jobs import JobKey
from catalog.leases import LeaseStore
from catalog.log_starts import LogStartStore
from catalog.retained import RetainedStore
from catalog.sequence import ShardKey
from catalog.topics import TopicStore
from schemas.settings import Settings

DELETION = JobKey("deletion")


class DeletionJob:
    """See broker.jobs.port.Job."""

    key = DELETION

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        clock: Clock,
        settings: Settings,
        *,
        cluster_id: str,
        broker_values: Callable[[], Mapping[str, str]],
    ) -> None:
        self.counts = DeletionCounts()
        self._clock = clock
        self._settings = settings
        self._epoch: int | None = None
        self._judged_s: float | None = None
        deletions, exports = DeletionStore(database), ExportStore(database)
        self._retention = Retention(
            RetainedStore(database),
            LogStartStore(database),
            TopicStore(database),
            ExportPins(exports, AgentStore(database), LeaseStore(database), settings),
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

    @property
    def interval_ms(self) -> int:
        """How often it looks for what can go."""
        return self._settings.deletion_interval_ms

    async def run_once(self, turn: Turn) -> bool:
        """One turn. True where there is more to do at once. Raises DatabaseError, ObjectStoreError."""
        if turn.lease.epoch != self._epoch:  # somebody else may have done it meanwhile
            self._retention.begin_anew(shard_of(turn.progress))
            self._epoch = turn.lease.epoch
        try:
            return await self._work(turn)
        except BaseException:
            self._epoch = None
            raise

    def metrics(self) -> Iterable[Metric]:
        """What it has done since the start of this process."""
        for name, text, value in self.counts.counters():
            yield CounterMetricFamily(name, text, value=value)
        for name, text, value in self.counts.gauges():
            yield GaugeMetricFamily(name, text, value=value)

    async def _work(self, turn: Turn) -> bool:
        now_s = self._clock.monotonic()
        interval_s = self._settings.log_retention_check_interval_ms / 1000
        judge = self._judged_s is None or now_s - self._judged_s >= interval_s
        more = await self._retention.walk(turn, judge=judge)
        if judge and not more:
            self._judged_s = now_s
        progress = "" if self._retention.at == BEGINNING else "{}/{}".format(*self._retention.at)
        if progress != turn.progress:
            await turn.save(progress)
        for sweep in (self._objects.round, self._orphans.round):
            await turn.breathe()
            more = await sweep(turn.lease) or more
        return more


def shard_of(progress: str) -> ShardKey:
    """The shard that a walk came to, from the job's progress."""
    topic, _, shard = progress.partition("/")
    numbers = topic.isascii() and shard.isascii() and topic.isdecimal() and shard.isdecimal()
    return (int(topic), int(shard)) if numbers else BEGINNING
