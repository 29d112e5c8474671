"""`neve fsck` on segments: reads metadata and store, runs the checks, repairs what is safe to repair.

Safe beside running agents: rows are read in one snapshot; what the store lacks is confirmed by asking for that one object
and then for its row again; what no row names counts as an orphan only below an epoch that is dead for `orphan_delay_ms`.
Owns: nothing is deleted here. Orphans are condemned, by the rule of the deletion job, and that deletes them later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from broker.deletion.orphans import ORPHANS_FEW
from broker.fsck.findings import Report
from broker.fsck.logs import LogCheck, ShardFacts, TopicFacts, check_shards
from broker.fsck.objects import (
    EpochState,
    Listed,
    ObjectFacts,
    check_bytes,
    check_epoch,
    check_rows,
    epoch_in,
)
from broker.objects.port import Corrupt, NotFound, ObjectStore
from catalog.database import Database, Row, Transaction
from catalog.deletions import DeletionStore, StoredObject
from catalog.fsck import ID_MAX, FsckStore, counters, extents_after, extents_in, objects_after
from catalog.sequence import Extent, ShardKey
from schemas.settings import Settings

ROWS_PAGE = 20_000
OBJECTS_PAGE = 50_000
"""Objects whose extents are looked at together: each page reads all extents once."""
DEEP_PAGE = 5_000
READS_AT_ONCE = 4

Progress = Callable[[str, int], None]


def _silent(_what: str, _count: int) -> None:
    """Nobody watches."""


class SegmentFsck:
    """One run over one cluster's segments."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        settings: Settings,
        cluster_id: str,
        *,
        progress: Progress = _silent,
        rows_page: int = ROWS_PAGE,
        objects_page: int = OBJECTS_PAGE,
    ) -> None:
        self._database = database
        self._rows = FsckStore(database)
        self._store = store
        self._settings = settings
        self._prefix = f"{cluster_id}/segments/"
        self._progress = progress
        self._rows_page = rows_page
        self._objects_page = objects_page

    async def run(self, *, deep: bool = False, repair: bool = False) -> Report:
        """Check everything. Raises DatabaseError and the store's errors where it can't be looked at."""
        report, wrong, ownerless = await self._database.snapshot(self._metadata)
        await self._counts(wrong, report, repair)
        await self._ownerless(ownerless, report, repair)
        await self._counters(report, repair)
        await self._listing(report, repair)
        if deep:
            await self._bytes(report)
        return report

    async def _metadata(self, tx: Transaction) -> tuple[Report, dict[int, tuple[str, int, int]], list[ShardKey]]:
        """Everything that rows alone show: the report; objects with a wrong count -> (name, counted, found); shards with
        extents and without a row."""
        report = Report()
        topics = {
            row[0]: TopicFacts(row[1], row[2], row[3] is not None)
            for row in await tx.fetch("SELECT topic, name, shards, deleted_ms FROM topics")
        }
        shards = {
            (row[0], row[1]): ShardFacts(row[2], row[3])
            for row in await tx.fetch("SELECT topic, shard, high_watermark, log_start FROM shards")
        }
        check_shards(topics, shards, report)
        check = LogCheck(topics, shards, report)
        after = (-1, -1, -1)
        while page := await extents_after(tx, after, self._rows_page):
            check.take(page)
            after = (page[-1].topic, page[-1].shard, page[-1].offset_next)
            report.checked["extents"] += len(page)
        check.end()
        report.checked.update(topics=len(topics), partitions=len(shards))
        ownerless = []
        for key, count in check.rows_without_shard.items():
            topic = topics.get(key[0])
            if topic is not None and topic.deleted:
                ownerless.append(key)
            elif topic is None:
                report.add("unknown-topic-rows", check.where(key), f"{count} extents")
        wrong = await self._objects(tx, report)
        return report, wrong, ownerless

    async def _objects(self, tx: Transaction, report: Report) -> dict[int, tuple[str, int, int]]:
        wrong: dict[int, tuple[str, int, int]] = {}
        after = -1
        while True:
            rows = [_facts(row) for row in await objects_after(tx, after, self._objects_page)]
            last = len(rows) < self._objects_page
            through = ID_MAX if last else rows[-1].object_id
            extents = await extents_in(tx, after, through)
            by_id = {row.object_id: row for row in rows}
            for object_id, found in check_rows(rows, extents, report).items():
                wrong[object_id] = (by_id[object_id].name, by_id[object_id].extents_live, found)
            report.checked["objects"] += len(rows)
            if last:
                return wrong
            after = through

    async def _counts(self, wrong: dict[int, tuple[str, int, int]], report: Report, repair: bool) -> None:
        if repair and wrong:
            await self._rows.recount(list(wrong))
        for _, (name, counted, found) in sorted(wrong.items()):
            report.add("count-wrong", name, f"{found} extents, its row counts {counted}", repaired=repair)

    async def _ownerless(self, keys: Sequence[ShardKey], report: Report, repair: bool) -> None:
        for key in keys:
            dropped = await self._rows.drop_rows_of_deleted(key) if repair else None
            if dropped is not None:
                await self._rows.recount(dropped)
            words = "extents without the partition's row"
            report.add("deleted-topic-rows", f"topic {key[0]}/{key[1]}", words, repaired=dropped is not None)

    async def _counters(self, report: Report, repair: bool) -> None:
        for counter in await self._database.snapshot(counters):
            if counter.next > counter.used:
                continue
            if repair:
                await self._rows.raise_counter(counter.name, counter.used)
            words = f"it would issue {counter.next}, {counter.used} is in use"
            report.add("counter-behind", counter.name, words, repaired=repair)

    async def _listing(self, report: Report, repair: bool) -> None:
        """Walk the store's listing, epoch by epoch: keys are sorted, so an epoch's stand together."""
        seen: dict[int, None] = {}
        epoch: int | None = None
        group: list[Listed] = []
        async for page in self._store.list(self._prefix):
            report.checked["listed"] += len(page)
            self._progress("objects listed", report.checked["listed"])
            for info in page:
                found = epoch_in(info.key, self._prefix)
                if found is None:
                    report.add("foreign-object", info.key, f"{info.bytes} bytes")
                    continue
                if found != epoch:
                    if epoch is not None:
                        await self._epoch(epoch, group, report, repair)
                    epoch, group = found, []
                    seen[found] = None
                group.append(Listed(info.key, info.bytes))
        if epoch is not None:
            await self._epoch(epoch, group, report, repair)
        for epoch in await self._rows.epochs_with_extents():
            if epoch not in seen:
                await self._epoch(epoch, [], report, repair)

    async def _epoch(self, epoch: int, listed: Sequence[Listed], report: Report, repair: bool) -> None:
        state = await self._state(epoch)
        rows, waiting = await self._rows.objects_of(epoch)
        facts = {row[0]: _facts(row) for row in rows}
        compared = check_epoch(epoch, state, facts, waiting, listed, report)
        report.checked["in_flight"] += compared.in_flight
        for row in compared.missing:
            if await self._gone(row.name) and await self._rows.still_referenced(row.object_id):
                report.add("object-missing", row.name, f"{row.extents_live} extents refer to it")
        if not compared.orphans:
            return
        many = len(compared.orphans)
        settings = self._settings
        if many > settings.orphans_max or (many > ORPHANS_FEW and many > settings.orphan_share_max * len(listed)):
            report.add("orphans-too-many", f"{self._prefix}{epoch}/", f"{many} of {len(listed)} objects")
            return
        condemned: dict[int, None] = {}
        if repair:
            found = [StoredObject(number, one.name, one.bytes) for number, one in compared.orphans]
            condemned = {one.object_id: None for one in await DeletionStore(self._database).condemn(found)}
        for number, one in compared.orphans:
            report.add("orphan", one.name, f"{one.bytes} bytes", repaired=number in condemned)

    async def _state(self, epoch: int) -> EpochState:
        following, live, retired_ms = await self._rows.epoch(epoch)
        if epoch >= following:
            return "future"
        if live:
            return "live"
        return "young" if retired_ms is not None and retired_ms < self._settings.orphan_delay_ms else "dead"

    async def _gone(self, name: str) -> bool:
        try:
            await self._store.head(name)
        except NotFound:
            return True
        return False

    async def _bytes(self, report: Report) -> None:
        """Read every object with extents and hold its bytes against them."""
        after = -1
        reads = asyncio.Semaphore(READS_AT_ONCE)
        while True:
            rows, extents = await self._deep_page(after)
            await asyncio.gather(*[self._read(row, extents.get(row.object_id, []), reads, report) for row in rows])
            if len(rows) < DEEP_PAGE:
                return
            after = rows[-1].object_id

    async def _deep_page(self, after: int) -> tuple[list[ObjectFacts], dict[int, list[Extent]]]:
        async def body(tx: Transaction) -> tuple[list[ObjectFacts], dict[int, list[Extent]]]:
            rows = [_facts(row) for row in await objects_after(tx, after, DEEP_PAGE)]
            extents: dict[int, list[Extent]] = {}
            for extent in await extents_in(tx, after, rows[-1].object_id) if rows else []:
                extents.setdefault(extent.object_id, []).append(extent)
            return rows, extents

        return await self._database.snapshot(body)

    async def _read(
        self, row: ObjectFacts, extents: Sequence[Extent], reads: asyncio.Semaphore, report: Report
    ) -> None:
        if not extents:
            return
        async with reads:
            try:
                data = await self._store.get(row.name)
            except NotFound:
                return  # said by the listing, or gone since
            except Corrupt as error:
                report.add("header-damage", row.name, str(error))
                return
            report.checked["bytes_read"] += len(data)
            report.checked["objects_read"] += 1
            self._progress("objects read", report.checked["objects_read"])
            check_bytes(row, extents, data, report)


def _facts(row: Row) -> ObjectFacts:
    return ObjectFacts(row[0], row[1], row[2], row[3], row[4] is not None)
