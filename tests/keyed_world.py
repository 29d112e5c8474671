"""Key compaction's job over a whole agent in memory, with a clock that a test moves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.agent_core import AgentCore
from broker.compaction.keyed_job import KEY, KeyCompactionJob
from broker.compaction.keyed_round import KeyedWorld
from broker.compaction.reads import InputReader
from broker.deletion.pins import ExportPins
from broker.objects.memory import MemoryStore
from broker.services import FetchPart, InlineWorkers, TopicView
from catalog.agents import AgentStore
from catalog.compaction import CompactionStore
from catalog.exports import ExportStore
from catalog.inline import InlineDatabase
from catalog.key_cleaning import Cleaned, KeyCleaningStore
from catalog.leases import Lease, LeaseStore
from catalog.migrate import migrate
from catalog.sequence import BatchOutcome
from catalog.topics import TopicStore
from schemas.kafka.batch import BatchHeader, batch_size, read_header
from schemas.kafka.records import NewRecord, Record, build_batch, decode_batch
from tests.data_path import Produced, running_core

NOW_MS = 1_800_000_000_000
RETENTION_MS = 60_000
QUIET: dict[str, Any] = {
    "fetch_read_ms": 2_000,
    "object_delete_delay_ms": 10_000,
    "epoch_lease_ms": 3_600_000,
    "epoch_age_max_ms": 400_000_000,
    "epoch_rotate_ms": 300_000_000,
    "prune_interval_ms": 3_600_000,
    "key_compaction_tail_ms": 0,
    "roles": "broker",
}
COMPACT = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0",
    "delete.retention.ms": str(RETENTION_MS),
    "iceberg.mode": "disabled",
}


@dataclass
class HeldTurn:
    """A turn that is never over, unless told so."""

    lease: Lease
    progress: str = ""
    steps_left: int = 2**31

    @property
    def over(self) -> bool:
        """True when its steps are used up."""
        return self.steps_left <= 0

    async def breathe(self) -> None:
        """Count a step."""
        self.steps_left -= 1

    async def save(self, progress: str) -> None:
        """Keep it."""
        self.progress = progress


@dataclass
class World:
    """A store and a database, agents over them, and the job."""

    now_ms: int = NOW_MS
    store: MemoryStore = field(init=False)

    def __post_init__(self) -> None:
        self.database = InlineDatabase(lambda: self.now_ms)
        self.store = MemoryStore(lambda: self.now_ms)

    @asynccontextmanager
    async def agent(self, seed: int = 1, **settings: Any) -> AsyncIterator[AgentCore]:
        """A running agent; the first one prepares the database."""
        await migrate(self.database)
        async with running_core(
            store=self.store, database=self.database.handle(), seed=seed, **{**QUIET, **settings}
        ) as core:
            yield core

    def job(self, core: AgentCore, **replaced: Any) -> KeyCompactionJob:
        """The job, with the agent's epochs."""
        settings = core.services.settings
        parts: dict[str, Any] = {
            "states": KeyCleaningStore(self.database),
            "compaction": CompactionStore(self.database, epoch_age_max_ms=settings.epoch_age_max_ms),
            "store": self.store,
            "reader": InputReader(self.store, InlineWorkers(), reads_max=2),
            "workers": InlineWorkers(),
            "tickets": core.epochs,
            "rng": random.Random(5),
            "settings": settings,
            "cluster_id": core.cluster.cluster_id,
            "broker_values": dict,
        }
        pins = ExportPins(ExportStore(self.database), AgentStore(self.database), LeaseStore(self.database), settings)
        return KeyCompactionJob(
            KeyedWorld(**{**parts, **replaced}), TopicStore(self.database), pins, core.services.clock
        )

    async def lease(self) -> Lease:
        """The job's lease, taken anew: whoever held it before is fenced."""
        lease = await LeaseStore(self.database).acquire(KEY.lease, "me", 400_000_000, resume=True)
        assert lease is not None
        return lease

    async def clean(self, core: AgentCore, job: KeyCompactionJob | None = None) -> KeyCompactionJob:
        """Turns until nothing is left to do at once."""
        job = job or self.job(core)
        lease = await self.lease()
        for _ in range(200):
            if not await job.run_once(HeldTurn(lease)):
                return job
        raise AssertionError("it never ends")

    async def batches(self, topic: TopicView, shard: int = 0, offset: int = 0) -> list[tuple[BatchHeader, bytes]]:
        """Every batch from an offset on, as another agent serves it: one that knows of no old extents."""
        async with self.agent(seed=99) as core:
            return await served(core, topic, shard, offset)

    async def records(self, topic: TopicView, shard: int = 0, offset: int = 0) -> list[Record]:
        """Every record from an offset on."""
        return [
            record
            for header, data in await self.batches(topic, shard, offset)
            if not header.is_control
            for record in decode_batch(data)
            if record.offset >= offset
        ]

    async def state(self, topic: TopicView, shard: int = 0) -> Cleaned | None:
        """How far the shard is compacted."""
        return (await KeyCleaningStore(self.database).states([(topic.topic, shard)])).get((topic.topic, shard))


async def served(core: AgentCore, topic: TopicView, shard: int, offset: int) -> list[tuple[BatchHeader, bytes]]:
    """Fetch to the end, a little at a time, as a consumer does."""
    found: list[tuple[BatchHeader, bytes]] = []
    while True:
        [part] = await core.reader.fetch(
            [FetchPart(topic.topic, shard, offset, 200)], max_wait_ms=0, min_bytes=1, max_bytes=400
        )
        assert not part.error, part
        before = offset
        for piece in part.records:
            at = 0
            while at < len(piece):
                size = batch_size(piece, at)
                header = read_header(piece, at)
                found.append((header, bytes(piece[at : at + size])))
                offset = header.base_offset + header.last_offset_delta + 1
                at += size
        if offset >= part.high_watermark:
            return found
        assert offset > before, f"a consumer at {offset} would wait for ever below {part.high_watermark}"


Row = tuple[bytes | None, bytes | None]


async def put(core: AgentCore, topic: TopicView, *batches: Sequence[Row], timestamp: int = 1_000, **more: Any) -> int:
    """Each batch by itself, one object each; returns the offset of the last one."""
    produced = Produced(core)
    outcome: BatchOutcome | None = None
    for batch in batches:
        records = [NewRecord(timestamp + at, key, value) for at, (key, value) in enumerate(batch)]
        outcome = await produced.send(topic, 0, build_batch(records, **more))
        assert not outcome.error, outcome
    assert outcome is not None
    return outcome.offset


def pairs(records: Sequence[Record]) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value)."""
    return [(one.offset, one.key, one.value) for one in records]


def latest(records: Sequence[Record]) -> Mapping[bytes | None, bytes | None]:
    """The last value per key."""
    return {one.key: one.value for one in records}
