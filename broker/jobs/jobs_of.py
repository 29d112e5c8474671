"""Every job of a process with the role compact. Whoever has a new one adds it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.deletion.job import DeletionJob
from broker.jobs.port import Job
from broker.journal.snapshot_job import SnapshotJob
from broker.objects.port import ObjectStore
from broker.pruner import PruneJob
from broker.services import Clock
from catalog.commits import CommitStore
from catalog.database import Database
from schemas.settings import Settings


def jobs_of(
    database: Database,
    store: ObjectStore,
    clock: Clock,
    settings: Settings,
    *,
    cluster_id: str,
    broker_values: Callable[[], Mapping[str, str]],
) -> list[Job]:
    """The jobs. `broker_values` gives what is set for brokers, by Kafka's names, and so the defaults of topics."""
    commits = CommitStore(database, epoch_age_max_ms=settings.epoch_age_max_ms)
    return [
        DeletionJob(database, store, clock, settings, cluster_id=cluster_id, broker_values=broker_values),
        PruneJob(commits, settings),
        SnapshotJob(database, store, settings, cluster_id=cluster_id),
    ]
