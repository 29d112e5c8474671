"""An agent without sockets: everything behind the Kafka and HTTP listeners, built from injected parts.

The agent process wraps it with listeners; the simulation runs the same core over a virtual clock, an in-memory store and
network. Owns the order of things: identity before anything is written; registered and holding an epoch before serving;
at the end flush, answer, retire, deregister. On a commit: bytes into the cache, then the tail index, then the waiting
consumers, and only then the producers (the commit queue calls them after this).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import structlog

from broker.cluster_identity import agree_on_cluster
from broker.cluster_view import ClusterView
from broker.config_cache import ConfigCache
from broker.deletion.log_starts import LogStarts
from broker.epoch_keeper import EpochKeeper
from broker.fetch.block_cache import BlockCache, StoredObject
from broker.fetch.extent_reads import extent_finder
from broker.fetch.object_names import ObjectNames
from broker.fetch.offsets import OffsetFinder
from broker.fetch.poller import Poller
from broker.fetch.reader import FetchReader
from broker.fetch.record_times import record_finder
from broker.fetch.shard_reads import ShardReads
from broker.fetch.tail_index import TailIndex
from broker.fetch.waiters import Waiters
from broker.groups.coordinator import GroupCoordinator
from broker.hints import CHANNEL, HintSender
from broker.ingest.flight import Flight
from broker.ingest.upload import Uploaded
from broker.ingest.writer import IngestWriter, WriteObserver, flush_limits
from broker.jobs.jobs_of import jobs_of
from broker.jobs.runner import JobRunner
from broker.journal.journal import Journal
from broker.kafka.broker_configs import broker_layers, nearest_values
from broker.objects.port import ObjectStore
from broker.quotas.keeper import QuotaKeeper
from broker.services import Clock, InlineWorkers, Services, Workers
from broker.supervisor import Supervisor
from broker.topic_cache import TopicCache
from catalog.agents import AgentStore
from catalog.commits import CommitStore, Committed
from catalog.configs import ConfigStore
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore
from catalog.holdings import HoldingsStore
from catalog.log_starts import LogStartStore
from catalog.producer_ids import ProducerIdBlocks
from catalog.quotas import QuotaStore
from catalog.topics import TopicStore
from schemas.settings import Settings

log = structlog.get_logger(__name__)

SQLITE_POLL_INTERVAL_S = 0.02
"""Processes that share a SQLite file have no hints; a poll costs a fraction of a millisecond there."""


@dataclass(slots=True)
class AgentCore:
    """The parts of a running agent. `services` is what Kafka handlers use."""

    services: Services
    database: Database
    store: ObjectStore
    writer: IngestWriter
    reader: FetchReader
    epochs: EpochKeeper
    topics: TopicCache
    configs: ConfigCache
    cluster: ClusterView
    poller: Poller
    hints: HintSender
    log_starts: LogStarts
    journal: Journal
    jobs: JobRunner
    """Runs only where `start` is told so: a process of its own does this, beside agents (`broker.jobs.process`)."""
    groups: GroupCoordinator
    quotas: QuotaKeeper
    reads: ShardReads
    index: TailIndex
    hot: BlockCache
    cold: BlockCache
    waiters: Waiters
    supervisor: Supervisor
    instance: str

    async def start(self, host: str, port: int, *, jobs: bool = False) -> None:
        """Register under the address clients are told, take an epoch, learn the topics, run the background tasks; with `jobs`
        those of the role compact too."""
        await self.cluster.register(host, port)
        await self.epochs.start()
        await self.configs.fresh()
        await self.topics.follow()
        await self.log_starts.start()
        await self.quotas.follow()
        await self.database.listen(CHANNEL, self._hinted)
        self.supervisor.start("commit queue", self.writer.run())
        self.supervisor.start("agent epochs", self.epochs.run())
        self.supervisor.start("poller", self.poller.run())
        self.supervisor.start("topics", self.topics.run())
        self.supervisor.start("configs", self.configs.run())
        self.supervisor.start("cluster", self.cluster.run())
        self.supervisor.start("hints", self.hints.run())
        self.supervisor.start("log starts", self.log_starts.run())
        self.supervisor.start("journal", self.journal.run())
        if jobs:
            self.supervisor.start("jobs", self.jobs.run())
        self.supervisor.start("group slots", self.groups.run_keeper())
        self.supervisor.start("group writes", self.groups.run_writes())
        self.supervisor.start("group offsets", self.groups.run_expiry())
        self.supervisor.start("client quotas", self.quotas.run())

    async def drain(self) -> None:
        """Flush and commit what was taken over, answer everybody; long polls return."""
        self.reader.closing = True
        self.waiters.wake_all()
        await self.groups.drain()
        await self.writer.drain()
        await self.journal.close()

    async def stop(self) -> None:
        """End everything; what still waits is failed. Call `drain` first for a clean end. The store and the database stay open."""
        self.reader.closing = True
        self.waiters.wake_all()
        await self.writer.close()
        self.groups.failed()
        await self.supervisor.stop()
        await self.reads.close()
        await self.hot.close()
        await self.cold.close()
        await self.jobs.close()
        await self.epochs.close()
        await self.cluster.leave()

    def committed(self, flight: Flight, uploaded: Uploaded, committed: Committed) -> None:
        """A flight of this agent is committed: readers here see it from now on."""
        object_id = uploaded.ticket.object_id
        # not as "new": once the cache has dropped an own segment it is old, and reading it again must not push out newer ones
        self.reader.names.learn({object_id: StoredObject(uploaded.name, uploaded.built.bytes)})
        self.hot.insert_own(object_id, flight.body, uploaded.built.body_first)
        log_starts = flight.log_starts(committed.outcomes)
        for extent in committed.extents:
            self.index.commit(extent, log_starts[extent.topic, extent.shard])
        for key in log_starts:
            self.waiters.wake(key)
        self.hints.committed()
        self.journal.note(
            object_id, uploaded.name, uploaded.built.bytes, flight.batches, committed.outcomes, committed.extents
        )

    def topic_gone(self, topic: int, shards: int) -> None:
        """A topic was deleted: what is known of its shards goes, and its waiting consumers hear of it."""
        for shard in range(shards):
            self.index.forget((topic, shard))
            self.waiters.wake((topic, shard))

    def failed(self) -> None:
        """A background task died: nobody waits for what can't come."""
        self.writer.fail_all()
        self.groups.failed()
        self.reader.closing = True
        self.waiters.wake_all()

    def _hinted(self, payload: str) -> None:
        if payload != self.instance:
            self.poller.hint()


async def build_core(
    settings: Settings,
    store: ObjectStore,
    database: Database,
    clock: Clock,
    rng: random.Random,
    *,
    workers: Workers | None = None,
    observer: WriteObserver | None = None,
    local_store: bool | None = None,
    version: str = "",
) -> AgentCore:
    """Build an agent's core over a migrated database. Starts nothing, but settles the cluster's identity.

    `local_store` chooses the flush policy's defaults; from settings when None. Raises ClusterMismatch where bucket and
    database don't belong together.
    """
    cluster_id = await agree_on_cluster(store, database, clock, rng)
    instance = f"{rng.getrandbits(64):016x}"
    local = settings.bucket is None or settings.bucket.startswith("file:") if local_store is None else local_store
    work = workers or InlineWorkers()
    core: AgentCore

    def committed(flight: Flight, uploaded: Uploaded, outcome: Committed) -> None:
        core.committed(flight, uploaded, outcome)

    index = TailIndex(settings.tail_extents_max)
    waiters = Waiters()
    extents = ExtentStore(database)
    reads = ShardReads(extent_finder(extents))
    names = ObjectNames(reads, clock, names_max=2 * settings.tail_extents_max, cold_age_s=settings.cold_age_ms / 1000)
    hot, cold = (
        BlockCache(store, work, bytes_max=bytes_max, block_bytes=settings.cache_block_bytes, reads_max=reads_max)
        for bytes_max, reads_max in (
            (settings.cache_bytes, settings.hot_reads_max),
            (settings.cold_cache_bytes, settings.cold_reads_max),
        )
    )
    offsets = OffsetFinder(reads, extents, record_finder(settings.max_decompressed_message_bytes), work)
    reader = FetchReader(index, hot, cold, names, reads, waiters, offsets, clock, settings)
    epochs = EpochKeeper(EpochStore(database), clock, settings, instance=instance)
    commits = CommitStore(database, epoch_age_max_ms=settings.epoch_age_max_ms)
    journal = Journal(store, database, clock, settings, cluster_id=cluster_id, instance=instance)
    writer = IngestWriter(
        store,
        commits,
        epochs,
        clock,
        rng,
        settings,
        cluster_id=cluster_id,
        limits=flush_limits(settings, local=local),
        on_committed=committed,
        observer=observer,
        journal=journal if journal.enabled else None,
    )
    cluster = ClusterView(
        AgentStore(database), clock, settings, cluster_id=cluster_id, instance=instance, version=version
    )
    log_starts = LogStarts(LogStartStore(database), clock, settings, on_raised=index.raise_log_start)
    configs = ConfigCache(ConfigStore(database), settings, on_brokers=lambda: topics.broker_changed())

    def broker_values() -> dict[str, str]:
        return nearest_values(broker_layers(settings, configs, cluster.self_view))

    topics = TopicCache(
        TopicStore(database),
        settings,
        rng,
        on_gone=lambda topic, shards: core.topic_gone(topic, shards),
        broker_values=broker_values,
    )
    groups = GroupCoordinator(database, cluster, clock, settings, instance=instance)
    quotas = QuotaKeeper(QuotaStore(database), settings)
    interval_s = settings.poll_interval_ms / 1000
    if database.dialect == "sqlite":
        interval_s = min(interval_s, SQLITE_POLL_INTERVAL_S)
    core = AgentCore(
        services=Services(
            settings,
            clock,
            rng,
            cluster,
            topics,
            writer,
            reader,
            ProducerIdBlocks(database),
            groups,
            work,
            records=log_starts,
            configs=configs,
            quotas=quotas,
            holdings=HoldingsStore(database),
        ),
        database=database,
        store=store,
        writer=writer,
        reader=reader,
        epochs=epochs,
        topics=topics,
        configs=configs,
        cluster=cluster,
        poller=Poller(index, names, reads, waiters, interval_s=interval_s, version=database.version),
        hints=HintSender(database, instance, gap_s=settings.hint_interval_ms / 1000),
        log_starts=log_starts,
        journal=journal,
        jobs=JobRunner(
            jobs_of(
                database,
                store,
                clock,
                rng,
                settings,
                work,
                cluster_id=cluster_id,
                instance=instance,
                broker_values=broker_values,
            ),
            database,
            clock,
            settings,
            holder=instance,
        ),
        groups=groups,
        quotas=quotas,
        reads=reads,
        index=index,
        hot=hot,
        cold=cold,
        waiters=waiters,
        supervisor=Supervisor(lambda: core.failed()),
        instance=instance,
    )
    return core
