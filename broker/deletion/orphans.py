"""Orphans: objects below a dead agent epoch that were uploaded and never committed. Found by listing, then condemned.

Owns: only epochs that are retired are listed, so no commit can make an orphan a member any more; a listing that failed
or broke off condemns nothing; an epoch whose orphans are too many is left alone and reported: the metadata is more
likely wrong (an old backup, another cluster's database) than the store.
"""

from __future__ import annotations

import structlog

from broker.deletion.counts import DeletionCounts
from broker.objects.port import ObjectStore
from catalog.dead_epochs import DeadEpoch, DeadEpochStore
from catalog.deletions import DeletionStore, StoredObject
from catalog.epochs import EpochStore
from catalog.leases import Lease
from schemas.settings import Settings

log = structlog.get_logger(__name__)

EPOCHS_PER_ROUND = 4
ORPHANS_FEW = 100
"""Up to here the share doesn't count: an agent that died young left nothing but an orphan."""


class OrphanSweeper:
    """See the module."""

    def __init__(
        self,
        epochs: EpochStore,
        dead: DeadEpochStore,
        deletions: DeletionStore,
        store: ObjectStore,
        settings: Settings,
        counts: DeletionCounts,
        *,
        cluster_id: str,
    ) -> None:
        self._epochs = epochs
        self._dead = dead
        self._deletions = deletions
        self._store = store
        self._settings = settings
        self._counts = counts
        self._cluster_id = cluster_id

    async def round(self, lease: Lease) -> bool:
        """Retire epochs whose lease has run out, look at a few dead ones; True where more are due. Raises DatabaseError, ObjectStoreError."""
        await self._epochs.retire_lapsed()
        settings = self._settings
        due = await self._dead.due(settings.orphan_delay_ms, settings.orphan_watch_ms, EPOCHS_PER_ROUND)
        for epoch in due:
            await self._sweep(epoch, lease)
        return len(due) == EPOCHS_PER_ROUND

    async def _sweep(self, epoch: DeadEpoch, lease: Lease) -> None:
        listed = await self._listed(epoch.epoch)
        limit = self._settings.deletion_rows_max
        orphans: list[StoredObject] = []
        for at in range(0, len(listed), limit):
            orphans += await self._deletions.orphans_in(listed[at : at + limit])
        if self._too_many(len(orphans), len(listed)):
            self._counts.epochs_refused += 1
            log.error(
                "too many orphans, nothing is deleted: is this the right metadata database for this bucket?",
                epoch=epoch.epoch, orphans=len(orphans), objects=len(listed),
            )  # fmt: skip
            await self._dead.swept(DeadEpoch(epoch.epoch, epoch.retired_ms, last=False), lease)
            return
        for at in range(0, len(orphans), limit):
            self._counts.orphans_condemned += len(await self._deletions.condemn(orphans[at : at + limit], lease))
        if orphans:
            log.info("orphans condemned", epoch=epoch.epoch, orphans=len(orphans), objects=len(listed))
        await self._dead.swept(epoch, lease)

    def _too_many(self, orphans: int, objects: int) -> bool:
        if orphans > self._settings.orphans_max:
            return True
        return orphans > ORPHANS_FEW and orphans > self._settings.orphan_share_max * objects

    async def _listed(self, epoch: int) -> list[StoredObject]:
        """Every object below an epoch's prefix, from one whole listing. Names that aren't ours are left alone."""
        found: list[StoredObject] = []
        async for page in self._store.list(f"{self._cluster_id}/segments/{epoch}/"):
            for info in page:
                sequence, _, _ = info.key.rpartition("/")[2].partition("-")
                if sequence.isdigit() and int(sequence) < 2**32:
                    found.append(StoredObject(epoch << 32 | int(sequence), info.key, info.bytes))
                else:
                    log.warning("not a segment's name, left alone", key=info.key)
        return found
