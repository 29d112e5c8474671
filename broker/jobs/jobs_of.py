"""Every job of a process with the role compact. Whoever has a new one adds it here."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from broker.compaction.counts import CompactionCounts
from broker.compaction.job import CompactionJob
from broker.compaction.keyed_open import key_compaction_job
from broker.compaction.walk import Share
from broker.deletion.job import DeletionJob
from broker.jobs.port import Job
from broker.journal.snapshot_job import SnapshotJob
from broker.objects.port import ObjectStore
from broker.pruner import PruneJob
from broker.services import Clock, Workers
from catalog.commits import CommitStore
from catalog.database import Database
from schemas.settings import Settings


def jobs_of(
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
) -> list[Job]:
    """The jobs. `broker_values` gives what is set for brokers, by Kafka's names, and so the defaults of topics; `instance` names
    this process where agent epochs are issued to it."""
    commits = CommitStore(database, epoch_age_max_ms=settings.epoch_age_max_ms)
    jobs: list[Job] = [
        DeletionJob(database, store, clock, settings, cluster_id=cluster_id, broker_values=broker_values),
        PruneJob(commits, settings),
        SnapshotJob(database, store, settings, cluster_id=cluster_id),
    ]
    if settings.compaction_enable:
        counts = CompactionCounts()
        jobs += [
            CompactionJob(
                database,
                store,
                clock,
                rng,
                settings,
                workers,
                cluster_id=cluster_id,
                instance=instance,
                broker_values=broker_values,
                share=Share(number, settings.compaction_parallel),
                counts=counts,
            )
            for number in range(settings.compaction_parallel)
        ]
    if settings.key_compaction_enable:
        jobs.append(
            key_compaction_job(
                database,
                store,
                clock,
                rng,
                settings,
                workers,
                cluster_id=cluster_id,
                instance=instance,
                broker_values=broker_values,
            )
        )
    return jobs
