"""Small-object compaction as a job: one holder in the cluster for each share of the shards, a turn at a time.

Its objects are put under agent epochs of their own, so that a swap of many rows never waits for, or holds up, a commit of
records. They are leased for as long as epochs are used, because nobody renews them between two turns.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, Metric

from broker.compaction.compactor import ALL_SHARDS, Compactor
from broker.compaction.counts import CompactionCounts
from broker.compaction.walk import Share
from broker.epoch_keeper import EpochKeeper
from broker.jobs.port import Turn
from broker.objects.port import ObjectStore
from broker.services import Clock, Workers
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.jobs import JobKey
from schemas.settings import Settings


class CompactionJob:
    """Implements broker.jobs.port.Job."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        workers: Workers,
        *,
        cluster_id: str,
        instance: str,
        broker_values: Callable[[], Mapping[str, str]],
        share: Share = ALL_SHARDS,
        counts: CompactionCounts | None = None,
    ) -> None:
        self.key = JobKey("compaction", "" if share == ALL_SHARDS else f"{share.number + 1} of {share.of}")
        self._epochs = EpochKeeper(
            EpochStore(database), clock, settings, instance=instance, lease_ms=settings.epoch_rotate_ms
        )
        self._reports = share.number == 0
        self._compactor = Compactor(
            database, store, self._epochs, clock, rng, settings, workers, cluster_id=cluster_id,
            broker_values=broker_values, share=share, counts=counts,
        )  # fmt: skip
        self._interval_ms = settings.compaction_interval_ms
        self._lease_epoch = -1

    @property
    def interval_ms(self) -> int:
        """See the port."""
        return self._interval_ms

    @property
    def counts(self) -> CompactionCounts:
        """What it has done since the start of this process."""
        return self._compactor.counts

    def metrics(self) -> Iterable[Metric]:
        """The same; where there are several in this process, the first one tells for all, whose `counts` are one."""
        for name, text, value in self.counts.counters() if self._reports else ():
            yield CounterMetricFamily(name, text, value=value)

    async def run_once(self, turn: Turn) -> bool:
        """Objects until there is nothing to merge or the turn is over."""
        if turn.lease.epoch != self._lease_epoch:
            self._lease_epoch = turn.lease.epoch
            self._compactor.begin_anew()
        renewing = asyncio.get_running_loop().create_task(self._epochs.run())
        try:
            while (await self._compactor.compact_once(turn.lease)).more:
                await turn.breathe()
                if turn.over:
                    return True
            return False
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
