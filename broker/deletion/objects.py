"""Deletion of objects that nothing refers to: condemned, left alone for a while, deleted, confirmed, forgotten.

Every step may be done again after a crash at any point: condemning twice is once, deleting what is gone is confirmed, and
rows go only for what the store confirmed. A paused holder that wakes up late can only delete what was condemned long ago.
"""

from __future__ import annotations

import structlog

from broker.deletion.counts import DeletionCounts
from broker.objects.port import ObjectStore
from catalog.deletions import DeletionStore
from catalog.leases import Lease
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class ObjectSweeper:
    """See the module."""

    def __init__(
        self, deletions: DeletionStore, store: ObjectStore, settings: Settings, counts: DeletionCounts
    ) -> None:
        self._deletions = deletions
        self._store = store
        self._settings = settings
        self._counts = counts

    async def round(self, lease: Lease) -> bool:
        """One bounded step of each kind; True where there is more. Raises DatabaseError, ObjectStoreError."""
        rows_max = self._settings.deletion_rows_max
        unused = await self._deletions.condemn_unused(rows_max, lease)
        self._counts.objects_condemned += len(unused)
        more = await self._delete(lease)
        forgotten = await self._deletions.forget(rows_max, lease)
        self._counts.waiting_objects, self._counts.waiting_bytes = await self._deletions.waiting()
        return more or rows_max in (len(unused), forgotten)

    async def _delete(self, lease: Lease) -> bool:
        """Delete what was condemned long enough ago; True where there is more that can be deleted now."""
        limit = self._settings.object_delete_max
        due = await self._deletions.due(self._settings.object_delete_delay_ms, limit)
        if not due:
            return False
        gone = dict.fromkeys(await self._store.delete([one.name for one in due]))
        confirmed = [one for one in due if one.name in gone]
        if len(confirmed) < len(due):
            log.warning("objects could not be deleted, trying again", left=len(due) - len(confirmed))
        if confirmed:
            await self._deletions.confirm([one.object_id for one in confirmed], lease)
            self._counts.objects_deleted += len(confirmed)
            self._counts.bytes_deleted += sum(one.bytes for one in confirmed)
            log.info("objects deleted", objects=len(confirmed), bytes=sum(one.bytes for one in confirmed))
        return len(confirmed) == limit
