"""A log without brokers: topics, segments and commits written as an agent does, and exporters over them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from broker.clock import SystemClock
from broker.objects.open import open_store
from broker.objects.port import ObjectStore
from catalog.cluster import ClusterStore
from catalog.commits import CommitStore, Committed
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.exports import ExportStore
from catalog.extents import ExtentStore
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import Warehouse, warehouse_of
from catalog.leases import LeaseStore
from catalog.open import open_database
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.topics import TopicRow, TopicStore
from lakehouse.export_world import ExportWorld
from lakehouse.exporter import Exporter
from lakehouse.log_slice import LogReader, SliceLimits
from schemas.kafka.batch import read_header
from schemas.kafka.records import Headers, NewRecord, build_batch
from schemas.segment import Run, build_segment
from schemas.settings import Settings
from tests.lake_fixtures import CLUSTER_ID

Kept = tuple[int, int, bytes | None, bytes | None]
"""partition, offset, key, value."""


@dataclass
class Rig:
    """Everything an exporter needs, and a model of what was appended."""

    settings: Settings
    database: Database
    store: ObjectStore
    catalog: Catalog
    warehouse: Warehouse
    rng: random.Random
    log: dict[str, list[Kept]] = field(default_factory=dict)
    _sequence: int = 0
    _topic_ids: int = 0

    async def create(self, name: str, shards: int = 1, **config: str) -> TopicRow:
        """A topic; config names with `__` for dots."""
        self._topic_ids += 1
        values = {key.replace("__", "."): value for key, value in config.items()}
        self.log[name] = []
        return await TopicStore(self.database).create(name, UUID(int=self.rng.getrandbits(128)), shards, values)

    async def append(
        self,
        topic: TopicRow,
        batches: Mapping[int, Sequence[Sequence[tuple[bytes | None, bytes | None]]]],
        *,
        timestamp: int = 1_700_000_000_000,
        codec: int = 0,
        spoil: bool = False,
        headers: Headers = (),
    ) -> None:
        """One object with these batches of (key, value) per partition, every record with `headers`. `spoil` breaks the
        records of the last batch."""
        runs, facts, kept = [], [], []
        for shard in sorted(batches):
            buffers = []
            for batch in batches[shard]:
                records = [NewRecord(timestamp + at, key, value, headers) for at, (key, value) in enumerate(batch)]
                buffers.append(build_batch(records, codec=codec))
            if spoil and shard == max(batches):
                buffers[-1] = spoiled(buffers[-1])
            counts = [read_header(one).last_offset_delta + 1 for one in buffers]
            latest = max(read_header(one).max_timestamp for one in buffers)
            runs.append(Run(topic.topic, topic.topic_id, shard, buffers, len(buffers), sum(counts), timestamp, latest))
            facts.append((shard, buffers, counts))
            kept.append((shard, [record for batch in batches[shard] for record in batch]))
        epoch = await EpochStore(self.database).issue("rig", 60_000)
        built = build_segment(CLUSTER_ID, epoch.epoch, 0, runs)
        name = f"{CLUSTER_ID}/segments/{epoch.epoch}/0-{self.rng.getrandbits(64):016x}"
        await self.store.put(name, built.parts)
        entries = []
        for (shard, buffers, counts), (first, _) in zip(facts, built.run_bytes, strict=True):
            at = first
            for one, count in zip(buffers, counts, strict=True):
                latest = read_header(one).max_timestamp
                entries.append(BatchFacts(topic.topic, shard, at, len(one), count, latest, False))
                at += len(one)
        group = [ObjectFacts(epoch.epoch << 32, name, built.bytes, tuple(entries))]
        [outcome] = await CommitStore(self.database, epoch_age_max_ms=60_000).commit(group)
        assert isinstance(outcome, Committed)
        position = 0
        for (shard, rows), (_, buffers, _) in zip(kept, facts, strict=True):
            offset = outcome.outcomes[position].offset
            self.log[topic.name] += [(shard, offset + at, key, value) for at, (key, value) in enumerate(rows)]
            position += len(buffers)

    def exporter(self, checkpoint: Callable[[str], None] = lambda place: None, **changes: Any) -> Exporter:
        """An exporter of its own, as a process would have it."""
        settings = self.settings.model_copy(update=changes)
        extents = ExtentStore(self.database)

        async def blocking(function: Callable[[], Any]) -> Any:
            return await asyncio.to_thread(function)

        world = ExportWorld(
            settings=settings,
            clock=SystemClock(),
            rng=self.rng,
            extents=extents,
            exports=ExportStore(self.database),
            log=LogReader(extents, self.store, SliceLimits(settings.export_chunk_bytes)),
            catalog=self.catalog,
            warehouse=self.warehouse.location,
            blocking=blocking,
            checkpoint=checkpoint,
        )
        holder = f"exporter-{self.rng.getrandbits(32)}"
        return Exporter(world, TopicStore(self.database), LeaseStore(self.database), holder)

    async def drop_leases(self) -> None:
        """Let the leases of exporters that were killed run out."""
        await self.database.transact(lambda tx: tx.execute("UPDATE leases SET lease_until_ms = 0"))

    async def statuses(self, topic: TopicRow) -> dict[str, tuple[str, str]]:
        """kind -> (status, message)."""
        found = await ExportStore(self.database).statuses(topic.topic)
        return {one.kind: (one.status, one.message) for one in found}

    def table(self, name: str) -> Table:
        """A table of the namespace `topics`."""
        return self.catalog.load_table(("topics", name))

    def rows(self, name: str) -> list[Kept]:
        """What a reader sees of a raw table, sorted."""
        rows = self.table(name).scan().to_arrow().to_pylist()
        return sorted(
            (row["_kafka_partition"], row["_kafka_offset"], row["_kafka_key"], row.get("_kafka_value")) for row in rows
        )

    def latest(self, topic: str) -> list[Kept]:
        """The last value per (partition, key) of what was appended."""
        found: dict[tuple[int, bytes | None], Kept] = {}
        for row in sorted(self.log[topic], key=lambda row: row[1]):
            found.pop((row[0], row[2]), None)
            if row[3] is not None:
                found[(row[0], row[2])] = row
        return sorted(found.values())


async def drain(exporter: Exporter, seconds: float = 30.0) -> None:
    """Work until nothing is left to do, twice in a row; then end as on SIGTERM."""
    await settle(exporter, seconds)
    await exporter.close()


async def settle(exporter: Exporter, seconds: float = 30.0) -> None:
    """Work until every table is at its topic's end, or can't go on."""
    async with asyncio.timeout(seconds):
        quiet = 0
        while quiet < 4:
            quiet = 0 if await exporter.work() else quiet + 1
            await asyncio.sleep(0.01)


def spoiled(batch: bytes) -> bytes:
    """A batch whose checksum is right and whose records are not."""
    from crc32c import crc32c

    broken = bytearray(batch)
    broken[61:64] = b"\xff\xff\x7f"
    broken[17:21] = crc32c(bytes(broken[21:])).to_bytes(4, "big")
    return bytes(broken)


@asynccontextmanager
async def rig_of(settings: Settings, seed: int = 1) -> AsyncIterator[Rig]:
    """A rig over the places that the settings name."""
    rng = random.Random(seed)
    database = await open_database(settings)
    store = open_store(settings, SystemClock(), rng)
    warehouse = warehouse_of(settings, CLUSTER_ID)
    catalog = catalog_of(warehouse, fsync=False)
    try:
        await ClusterStore(database).get_or_create(CLUSTER_ID)
        yield Rig(settings, database, store, catalog, warehouse, rng)
    finally:
        catalog.close()
        await store.close()
        await database.close()
