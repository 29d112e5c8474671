"""Retention: one walk over all shards that raises log starts by age and size and removes the extents below them.

Owns: extents below a log start are removed before the shard's size is judged; a walk does a bounded number of
transactions and is gone on with where it stopped. Age is judged by the database's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from broker.deletion.counts import DeletionCounts
from broker.deletion.pins import ExportPins
from broker.deletion.plan import Pin, Policy, expired, is_due, policy_of, unpinned
from broker.deletion.sizes import LogSizes
from broker.jobs.port import Turn
from catalog.leases import Lease
from catalog.log_starts import LogStartStore
from catalog.retained import OldExtent, RetainedStore, ShardHead
from catalog.sequence import ShardKey
from catalog.topics import TopicRow, TopicStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

BEGINNING: ShardKey = (-1, -1)


class Retention:
    """See the module. One per agent; works while the job's lease is held. `broker_values` gives what is set for this broker,
    by Kafka's names, and so the defaults of topics."""

    def __init__(
        self,
        retained: RetainedStore,
        starts: LogStartStore,
        topics: TopicStore,
        pins: ExportPins,
        settings: Settings,
        broker_values: Callable[[], Mapping[str, str]],
        counts: DeletionCounts,
    ) -> None:
        self._retained = retained
        self._starts = starts
        self._topic_store = topics
        self._pins = pins
        self._settings = settings
        self._counts = counts
        self._broker_values = broker_values
        self._broker: Mapping[str, str] = {}
        self._sizes = LogSizes(retained, settings.deletion_rows_max)
        self._topics: dict[int, TopicRow] = {}
        self._changed = 0
        self._at = BEGINNING
        self._left = False
        """Some shard of this walk has more to do."""
        self._steps = 0

    @property
    def at(self) -> ShardKey:
        """The shard it came to; BEGINNING where a walk is complete."""
        return self._at

    def begin_anew(self, at: ShardKey) -> None:
        """Something went wrong, or somebody else did the job meanwhile: what was counted is void. Go on behind this shard;
        what was left at those before it isn't known."""
        self._sizes.clear()
        self._at, self._left = at, at != BEGINNING

    async def walk(self, turn: Turn, *, judge: bool) -> bool:
        """Go on over the shards; with `judge` by retention too, else only what lies below log starts. True where work is left.

        Raises DatabaseError.
        """
        self._steps = self._settings.deletion_steps_max
        await self._learn_topics()
        self._broker = self._broker_values()
        if judge:
            await self._pins.look()
        while True:
            now_ms, heads = await self._retained.heads(self._at, self._settings.deletion_shards_max)
            for head in heads:
                self._left = not await self._shard(head, now_ms, turn.lease, judge=judge) or self._left
                self._at = (head.topic, head.shard)
                await turn.breathe()
                if self._steps <= 0 or turn.over:
                    return True
            if len(heads) < self._settings.deletion_shards_max:
                self._at, left, self._left = BEGINNING, self._left, False
                return left

    async def _learn_topics(self) -> None:
        for row in await self._topic_store.changed_since(self._changed):
            self._topics[row.topic] = row
            self._changed = max(self._changed, row.changed)

    async def _shard(self, head: ShardHead, now_ms: int, lease: Lease, *, judge: bool) -> bool:
        """One shard; False where it has more to do."""
        key = (head.topic, head.shard)
        topic = self._topics.get(head.topic)
        if topic is None:
            return True  # created since the topics were read
        if topic.deleted_ms is not None:
            self._sizes.forget(key)
            return await self._trim(key, lease) and await self._drop(key, lease)
        trimmed = True
        if head.oldest_next is not None and head.oldest_next <= head.log_start:
            trimmed = await self._trim(key, lease)
        if not trimmed or not judge or head.log_start >= head.high_watermark:
            return trimmed
        policy = policy_of(topic.config, self._broker)
        if policy is None:
            self._sizes.forget(key)
            return True
        return await self._judge(head, topic, policy, now_ms, lease)

    async def _judge(self, head: ShardHead, topic: TopicRow, policy: Policy, now_ms: int, lease: Lease) -> bool:
        """Raise one log start as far as retention and the export allow, and remove what is below."""
        key = (head.topic, head.shard)
        log_bytes: int | None = 0
        if policy.retention_bytes >= 0:
            log_bytes = await self._sizes.of(key, head.log_start)
            self._steps -= 1
            if log_bytes is None:
                policy = policy._replace(retention_bytes=-1)  # by age alone until it is known
        else:
            self._sizes.forget(key)
        complete = log_bytes is not None
        too_many = log_bytes is not None and 0 <= policy.retention_bytes < log_bytes
        is_head = head.oldest_next is not None and head.oldest_next > head.log_start  # and wasn't removed just now
        if is_head and not too_many and not is_due(head.oldest_ms, now_ms, policy):
            return complete
        limit = self._settings.deletion_rows_max
        extents = await self._retained.oldest(key, head.log_start, limit)
        self._steps -= 1
        count = expired(extents, policy=policy, now_ms=now_ms, log_bytes=log_bytes or 0)
        count = await self._let_go(key, topic, extents[:count], now_ms) if count else 0
        if not count:
            return complete
        start = extents[count - 1].offset_next
        await self._starts.advance({key: start}, lease)
        self._steps -= 1
        log.info("retention raised a log start", topic=topic.name, partition=head.shard, log_start=start)
        return await self._trim(key, lease) and complete and count < limit

    async def _let_go(self, key: ShardKey, topic: TopicRow, extents: Sequence[OldExtent], now_ms: int) -> int:
        """How many of these the export of the topic doesn't hold back."""
        exported = self._pins.exported(topic, key[1])
        if exported is None or extents[-1].offset_next <= exported:
            return len(extents)
        size = await self._retained.size(key, exported, 2**31 - 1)
        self._steps -= 1
        pin = Pin(exported, self._settings.export_pin_ms, self._settings.export_pin_bytes, size.bytes)
        count = unpinned(extents, pin=pin, now_ms=now_ms)
        if count < len(extents):
            log.info(
                "retention waits for the export", topic=topic.name, partition=key[1], exported=exported,
                log_end=extents[-1].offset_next,
            )  # fmt: skip
        elif extents[-1].offset_next > exported:
            log.error(
                "records are deleted before they were exported: export_pin_ms or export_pin_bytes is reached",
                topic=topic.name, partition=key[1], exported=exported, log_start=extents[-1].offset_next,
            )  # fmt: skip
        return count

    async def _trim(self, key: ShardKey, lease: Lease) -> bool:
        """Remove what lies below the log start; False where more is left."""
        more = True
        while more and self._steps > 0:
            done = await self._retained.trim(key, self._settings.deletion_rows_max, lease)
            self._steps -= 1
            self._sizes.removed(key, done.bytes, done.through)
            self._counts.extents_removed += done.extents
            self._counts.log_bytes_removed += done.bytes
            more = done.more
        return not more

    async def _drop(self, key: ShardKey, lease: Lease) -> bool:
        self._steps -= 1
        return await self._retained.drop_shard(key, lease)
