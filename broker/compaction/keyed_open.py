"""Key compaction's job, put together over a database and a store."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from broker.compaction.keyed_job import KeyCompactionJob
from broker.compaction.keyed_round import KeyedWorld
from broker.compaction.reads import InputReader
from broker.deletion.pins import ExportPins
from broker.epoch_keeper import EpochKeeper
from broker.objects.port import ObjectStore
from broker.services import Clock, Workers
from catalog.agents import AgentStore
from catalog.compaction import CompactionStore
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.exports import ExportStore
from catalog.key_cleaning import KeyCleaningStore
from catalog.leases import LeaseStore
from catalog.topics import TopicStore
from schemas.settings import Settings


def key_compaction_job(
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
) -> KeyCompactionJob:
    """The job, with agent epochs of its own: leased for as long as they are used, as nobody renews them between turns."""
    epochs = EpochKeeper(EpochStore(database), clock, settings, instance=instance, lease_ms=settings.epoch_rotate_ms)
    world = KeyedWorld(
        KeyCleaningStore(database),
        CompactionStore(database, epoch_age_max_ms=settings.epoch_age_max_ms),
        store,
        InputReader(store, workers, reads_max=settings.cold_reads_max),
        workers,
        epochs,
        rng,
        settings,
        cluster_id,
        broker_values,
    )
    pins = ExportPins(ExportStore(database), AgentStore(database), LeaseStore(database), settings)
    return KeyCompactionJob(world, TopicStore(database), pins, clock, beside=epochs.run)
