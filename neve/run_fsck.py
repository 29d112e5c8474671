"""`neve fsck`, wired: opens what the settings name, checks segments and tables, and lifts a hold on deletion once all is clean."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from broker.clock import SystemClock
from broker.fsck.findings import Report
from broker.fsck.segments import SegmentFsck
from broker.objects.cluster_file import read as read_cluster_file
from broker.objects.open import open_store
from broker.objects.port import ObjectStore
from catalog.bucket import BucketStore
from catalog.cluster import ClusterStore
from catalog.database import Database
from catalog.open import metadata_url, open_database
from schemas.settings import Settings


class FsckImpossible(Exception):
    """There is nothing that could be checked; the message says what to do."""


async def run_fsck(
    settings: Settings,
    *,
    deep: bool = False,
    repair: bool = False,
    tables: bool = True,
    progress: Callable[[str, int], None] = lambda what, count: None,
) -> Report:
    """Check the cluster that the settings name. Raises FsckImpossible, DatabaseError, ObjectStoreError."""
    _must_exist(settings)
    clock, rng = SystemClock(), random.Random(int.from_bytes(os.urandom(16), "big"))
    store = open_store(settings, clock, rng)
    try:
        database = await open_database(settings)
        try:
            cluster_id = await _cluster(store, database)
            report = await SegmentFsck(database, store, settings, cluster_id, progress=progress).run(
                deep=deep, repair=repair
            )
            if tables and importlib.util.find_spec("pyiceberg") is not None:
                report.join(await _tables(settings, database, store, cluster_id))
            elif tables:
                report.notes.append("tables not checked: that needs the lake packages, pip install 'neve[lake]'")
            await _holds(database, report, repair)
            return report
        finally:
            await database.close()
    finally:
        await store.close()


def _must_exist(settings: Settings) -> None:
    """Opening an embedded database would make an empty one."""
    url = metadata_url(settings)
    if url.startswith("sqlite:"):
        path = Path(unquote(urlsplit(url).path))
        if not path.exists():
            raise FsckImpossible(
                f"there is no metadata database {path}: name the right folder, or rebuild it with `neve restore`"
            )


async def _cluster(store: ObjectStore, database: Database) -> str:
    found = await read_cluster_file(store)
    in_bucket = found.cluster_id if found is not None else None
    in_database = await ClusterStore(database).get()
    if in_database is None:
        words = f"the bucket prefix holds cluster {in_bucket}" if in_bucket else "the bucket prefix holds none"
        raise FsckImpossible(
            f"the metadata database holds no cluster, {words}: name the database that belongs to it, or rebuild one "
            "with `neve restore`"
        )
    if in_bucket != in_database:
        raise FsckImpossible(
            f"the metadata database holds cluster {in_database}, the bucket prefix {in_bucket or 'none'}: "
            "name two that belong together"
        )
    return in_database


async def _holds(database: Database, report: Report, repair: bool) -> None:
    """Deletion that is on hold goes on once everything is clean."""
    bucket = BucketStore(database)
    for name, reason in await bucket.holds():
        if repair and report.clean:
            report.notes.append(f"deletion goes on: the hold {name!r} is lifted")
        else:
            report.notes.append(
                f"deletion is on hold ({name}): {reason}; `neve fsck --repair` lifts it when all is clean"
            )
    if repair and report.clean:
        await bucket.lift()


async def _tables(settings: Settings, database: Database, store: ObjectStore, cluster_id: str) -> Report:
    from lakehouse.fsck_run import check_tables

    return await check_tables(settings, database, store, cluster_id)
