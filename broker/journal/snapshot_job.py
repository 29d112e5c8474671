"""The job that writes the metadata into the bucket, and takes away what newer snapshots made needless.

Owns: a snapshot is put if absent, and its row written when it is stored; the newest `snapshots_kept` stay. A journal object
goes only when it is older, by the store's clock, than the oldest snapshot that is kept by more than a commit and a snapshot
can take: whatever it says is in every kept snapshot. Where nothing has changed no new object is written.
"""

from __future__ import annotations

from broker.jobs.port import Turn
from broker.objects.port import ObjectInfo, ObjectStore
from catalog.bucket import BucketStore, StoredSnapshot
from catalog.database import Database
from catalog.dump import dump
from catalog.jobs import JobKey
from schemas.settings import Settings

SNAPSHOT = JobKey("snapshot")
JOURNAL_MARGIN_MS = 900_000
DELETED_AT_ONCE = 1_000


class SnapshotJob:
    """See broker.jobs.port.Job."""

    key = SNAPSHOT

    def __init__(self, database: Database, store: ObjectStore, settings: Settings, *, cluster_id: str) -> None:
        self._database = database
        self._bucket = BucketStore(database)
        self._store = store
        self._settings = settings
        self._cluster_id = cluster_id

    @property
    def interval_ms(self) -> int:
        """How often."""
        return self._settings.snapshot_interval_ms or 3_600_000

    async def run_once(self, turn: Turn) -> bool:
        """One snapshot. Raises DatabaseError, ObjectStoreError."""
        if not self._settings.snapshot_interval_ms:
            await self._bucket.forget_all()
            return False
        head, writer = await dump(self._database, self._cluster_id)
        await turn.breathe()
        newest = await self._bucket.newest()
        if newest is not None and newest.digest == writer.digest:
            covered = StoredSnapshot(newest.name, newest.taken_ms, head.taken_ms, newest.bytes, newest.digest)
            await self._bucket.stored(covered, turn.lease)
            return False
        parts = writer.finish()
        name = snapshot_name(self._cluster_id, head.taken_ms, turn.lease.epoch)
        await self._store.put(name, parts)
        size = sum(map(len, parts))
        await self._bucket.stored(StoredSnapshot(name, head.taken_ms, head.taken_ms, size, writer.digest), turn.lease)
        await turn.breathe()
        await self._tidy(turn)
        return False

    async def _tidy(self, turn: Turn) -> None:
        """Delete snapshots beyond those kept, and journal objects that all kept ones cover."""
        listed = [info async for page in self._store.list(f"{self._cluster_id}/snapshots") for info in page]
        kept, gone = kept_of(listed, self._settings.snapshots_kept)
        if gone:
            confirmed = await self._store.delete([info.key for info in gone])
            await self._bucket.forget(confirmed, turn.lease)
        if not kept:
            return
        before_ms = min(info.modified_ms for info in kept) - JOURNAL_MARGIN_MS
        old: list[str] = []
        async for page in self._store.list(f"{self._cluster_id}/journal"):
            old += [info.key for info in page if info.modified_ms < before_ms]
            if len(old) >= DELETED_AT_ONCE:
                break
        for at in range(0, len(old), DELETED_AT_ONCE):
            await turn.breathe()
            await self._store.delete(old[at : at + DELETED_AT_ONCE])


def snapshot_name(cluster_id: str, taken_ms: int, epoch: int) -> str:
    """Sorted by time, by the database's clock; `epoch` is the job's, so that two holders never meet in one name."""
    return f"{cluster_id}/snapshots/{taken_ms:015d}-{epoch:010d}"


def kept_of(listed: list[ObjectInfo], count: int) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """(the newest `count` by name, the others)."""
    ordered = sorted(listed, key=lambda info: info.key)
    return ordered[-count:], ordered[:-count]
