"""Key compaction as a leased job: which shards of compacted topics are due, the dirtiest first, round by round.

Owns: one round at a time, under the job's lease; rounds and what was looked at are forgotten when the lease was somebody
else's meanwhile. A shard whose round fails doesn't keep the others waiting; the job says so when it has been through all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog
from prometheus_client.core import Metric

from broker.compaction.keyed_counts import KeyedCounts
from broker.compaction.keyed_plan import KeyPolicy, dirty_ratio, is_due, key_policy_of
from broker.compaction.keyed_round import CleaningRound, KeyedWorld, LogUnreadable, RoundEnded
from broker.deletion.pins import ExportPins
from broker.jobs.port import Turn
from broker.services import Clock
from catalog.jobs import JobKey
from catalog.key_cleaning import Dirt, LogBounds
from catalog.leases import Lease
from catalog.topics import TopicRow, TopicStore

log = structlog.get_logger(__name__)

KEY = JobKey("key-compaction")
OFFSET_MAX = 2**63 - 1


class _Due(NamedTuple):
    ratio: float
    topic: TopicRow
    shard: int
    dirt: Dirt
    policy: KeyPolicy


class KeyCompactionJob:
    """Implements broker.jobs.port.Job. `beside` runs during each turn (it renews the agent epochs of what is written)."""

    def __init__(
        self,
        world: KeyedWorld,
        topics: TopicStore,
        pins: ExportPins,
        clock: Clock,
        *,
        beside: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.counts = KeyedCounts()
        self._beside = beside
        self._world = world
        self._topics = topics
        self._pins = pins
        self._clock = clock
        self._lease_epoch = -1
        self._unlooked: list[tuple[TopicRow, int, KeyPolicy]] | None = None
        self._due: list[_Due] = []
        self._round: CleaningRound | None = None
        self._failed: list[str] = []
        self._again = False

    @property
    def key(self) -> JobKey:
        """Its name."""
        return KEY

    @property
    def interval_ms(self) -> int:
        """See broker.jobs.port.Job."""
        return self._world.settings.key_compaction_interval_ms

    def metrics(self) -> Iterable[Metric]:
        """What it has done since the start of this process."""
        return self.counts.metrics()

    async def run_once(self, turn: Turn) -> bool:
        """One turn. Raises LogUnreadable when all shards had theirs and some could not be read, DatabaseError, ObjectStoreError."""
        if turn.lease.epoch != self._lease_epoch:
            self._forget()
            self._lease_epoch = turn.lease.epoch
        beside = None if self._beside is None else asyncio.ensure_future(self._beside())
        try:
            while await self._step(turn.lease):
                await turn.breathe()
                if turn.over:
                    return True
        except BaseException:
            self._forget()
            raise
        finally:
            if beside is not None:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
        failed, again = self._failed, self._again
        self._forget()
        if failed:
            raise LogUnreadable("; ".join(failed[:3]))
        self.counts.last_success_s = self._clock.monotonic()
        return again

    def _forget(self) -> None:
        self._unlooked, self._due, self._round = None, [], None
        self._failed, self._again = [], False

    async def _step(self, lease: Lease) -> bool:
        """Look at a shard, or go on with a round; False where nothing is left."""
        if self._round is not None:
            await self._round_step(self._round, lease)
            return True
        if self._unlooked is None:
            self._unlooked = await self._compacted()
            self.counts.due, self.counts.ratio_max = 0, 0.0
            return True
        if self._unlooked:
            await self._look(*self._unlooked.pop(), lease)
            return True
        if self._due:
            one = self._due.pop()
            self._round = CleaningRound(self._world, one.topic, one.shard, one.dirt, one.policy)
            return True
        return False

    async def _compacted(self) -> list[tuple[TopicRow, int, KeyPolicy]]:
        await self._pins.look()
        broker = self._world.broker_values()
        rows: Sequence[TopicRow] = await self._topics.all()
        policies = [(row, key_policy_of(row.config, broker)) for row in rows]
        return [(row, shard, policy) for row, policy in policies if policy for shard in reversed(range(row.shards))]

    async def _look(self, topic: TopicRow, shard: int, policy: KeyPolicy, lease: Lease) -> None:
        """What of this shard may be compacted, and is that worth a round?"""
        key = (topic.topic, shard)
        exported = self._pins.exported(topic, shard)
        bounds = LogBounds(
            OFFSET_MAX if exported is None else exported, self._world.settings.key_compaction_tail_ms, policy.lag_min_ms
        )
        dirt = await self._world.states.dirt(key, bounds)
        if dirt is None:
            return
        if dirt.dirty_since_ms is not None:
            await self._world.states.note_dirty(key, dirt.dirty_since_ms, lease)
        ratio = dirty_ratio(dirt)
        self.counts.ratio_max = max(self.counts.ratio_max, ratio)
        if is_due(dirt, policy):
            self.counts.due += 1
            self._due.append(_Due(ratio, topic, shard, dirt, policy))
            self._due.sort(key=lambda one: (one.ratio, one.topic.topic, one.shard))

    async def _round_step(self, one: CleaningRound, lease: Lease) -> None:
        try:
            if await one.step(lease):
                return
            self.counts.rounds += 1
            self._again = self._again or one.is_full
            log.info("log compacted by key", topic=one.key[0], partition=one.key[1], **_told(one))
        except RoundEnded as ended:
            self.counts.rounds_ended += 1
            log.info("key compaction of a log ended early", topic=one.key[0], partition=one.key[1], reason=str(ended))
        except LogUnreadable as unreadable:
            self._failed.append(str(unreadable))
        self._round = None
        self._take(one)

    def _take(self, one: CleaningRound) -> None:
        counts = self.counts
        counts.records_read += one.cleaned.records_read
        counts.records_removed += one.cleaned.records_read - one.cleaned.records_kept
        counts.tombstones_removed += one.cleaned.tombstones_dropped
        counts.batches_unreadable += one.cleaned.batches_unreadable
        counts.bytes_before += one.counts.bytes_before
        counts.bytes_after += one.counts.bytes_after
        counts.swaps_dropped += one.counts.swaps_dropped


def _told(one: CleaningRound) -> Mapping[str, int]:
    return {
        "records_read": one.cleaned.records_read,
        "records_kept": one.cleaned.records_kept,
        "bytes_before": one.counts.bytes_before,
        "bytes_after": one.counts.bytes_after,
    }
