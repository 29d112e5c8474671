"""The exporter: every mirrored topic, each under a lease of its own, one chunk at a time.

Topics whose first waiting record is oldest go first. A topic that fails is said to be Degraded and opened anew after a
growing pause; the others go on. Invariant owned here: a topic is worked on only while its lease is held, and a lease that
was lost stops its topic before the next write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import structlog

from broker.objects.port import ObjectStoreError
from catalog.database import DatabaseError
from catalog.exports import ExportStatus
from catalog.extents import Watermarks
from catalog.leases import Lease, LeaseLost, LeaseStore
from catalog.topics import TopicRow, TopicStore
from lakehouse.commit import CatalogDown, CommitterFenced
from lakehouse.decode import CorruptRun
from lakehouse.export_chunk import InvalidRecord
from lakehouse.export_plan import PlanError, TableKind, TopicPlan, is_excluded, plan_topic
from lakehouse.export_topic import (
    CONFIG_ISSUE,
    DEGRADED,
    PAUSED,
    ExportWorld,
    Reopen,
    TableFacts,
    TopicExporter,
)
from lakehouse.log_slice import LogGap

RETRY_FIRST_MS = 500

log = structlog.get_logger()


@dataclass(slots=True)
class Mirrored:
    """One topic as the exporter knows it."""

    row: TopicRow
    plan: TopicPlan
    exporter: TopicExporter | None = None
    lost: bool = False
    retry_at_ms: int = 0
    failures: int = 0
    facts: dict[TableKind, TableFacts] = field(default_factory=dict)


@dataclass(slots=True)
class Exporter:
    """Exports until told to stop. `holder` names this process in leases."""

    world: ExportWorld
    topics: TopicStore
    leases: LeaseStore
    holder: str
    mirrored: dict[int, Mirrored] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    """Topic -> number of its last change that was looked at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then give the leases back. A chunk that is under way is finished."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not stop.is_set():
                more = await self.work()
                if not more:
                    await _wait(stop, self.world.settings.export_interval_ms / 1000)
        finally:
            renewing.cancel()
            await self.close()

    async def work(self) -> bool:
        """One pass over all topics: at most one chunk each. True where a topic has more to do at once."""
        try:
            await self._refresh()
            now_db_ms, highs = await self._watermarks()
        except DatabaseError as error:
            log.warning("the metadata database can't be read", error=str(error))
            return False
        more = False
        for one in sorted(self.mirrored.values(), key=_urgency):
            if self.world.clock.now_ms() >= one.retry_at_ms:
                more = await self._step(one, highs.get(one.row.topic, {}), now_db_ms) or more
        return more

    async def close(self) -> None:
        """Give every lease back."""
        for one in list(self.mirrored.values()):
            await self._let_go(one, release=True)
        self.mirrored.clear()

    async def _refresh(self) -> None:
        """Live topics that shall be mirrored; gone or changed ones are let go of."""
        rows = {row.topic: row for row in await self.topics.all()}
        for topic in [topic for topic in self.mirrored if topic not in rows]:
            await self._let_go(self.mirrored.pop(topic), release=True)
        for topic, row in rows.items():
            if self._seen.get(topic) == row.changed:
                continue
            plan = await self._plan(row)
            if topic in self.mirrored:
                await self._let_go(self.mirrored.pop(topic), release=True)
            if plan is not None:
                self.mirrored[topic] = Mirrored(row, plan)
            self._seen[topic] = row.changed
        self._seen = {topic: changed for topic, changed in self._seen.items() if topic in rows}

    async def _plan(self, row: TopicRow) -> TopicPlan | None:
        if is_excluded(self.world.settings.iceberg_exclude, row.name):
            return None
        tables = await self.topics.tables(row.topic)
        try:
            plan = plan_topic(
                topic=row.topic,
                topic_id=row.topic_id,
                name=row.name,
                shards=row.shards,
                created_ms=row.created_ms,
                config=row.config,
                tables=tables,
            )
        except PlanError as error:
            await self._say_bad(row, tables, str(error))
            return None
        if plan is None:
            await self._forget(row)
        return plan

    async def _say_bad(self, row: TopicRow, tables: Mapping[str, str], message: str) -> None:
        """Settings that can't be carried out, said once per change."""
        statuses = [one for one in await self.world.exports.statuses(row.topic) if one.kind == "main"]
        said = statuses[0] if statuses else ExportStatus(row.topic, "main", tables["main"], None, "", "", {}, None)
        await self.world.exports.put_status(replace(said, status=CONFIG_ISSUE, message=message))

    async def _forget(self, row: TopicRow) -> None:
        """`iceberg.mode=disabled`: what is known of the tables is dropped, so that enabling it again begins from them."""
        statuses = await self.world.exports.statuses(row.topic)
        if not statuses:
            return
        lease = await self._acquire(row.topic)
        if lease is None:
            return
        for one in statuses:
            await self.world.exports.forget(row.topic, one.kind, lease.name, lease.epoch)
        await self.leases.release(lease)

    async def _watermarks(self) -> tuple[int, dict[int, dict[int, int]]]:
        """(database time before, topic -> partition -> high watermark), in one query for all topics."""
        now_db_ms = await self.world.exports.now_ms()
        keys = [(one.row.topic, shard) for one in self.mirrored.values() for shard in range(one.row.shards)]
        found: Mapping[tuple[int, int], Watermarks] = await self.world.extents.watermarks(keys) if keys else {}
        highs: dict[int, dict[int, int]] = {}
        for (topic, shard), mark in found.items():
            highs.setdefault(topic, {})[shard] = mark.high_watermark
        return now_db_ms, highs

    async def _step(self, one: Mirrored, highs: Mapping[int, int], now_db_ms: int) -> bool:
        try:
            if one.lost:
                await self._let_go(one, release=False)
            if one.exporter is None and not await self._begin(one):
                return False
            assert one.exporter is not None
            more = await one.exporter.step(highs, now_db_ms)
            one.failures = 0
            return more
        except Reopen as error:
            log.info("reading the tables again", topic=one.row.name, reason=str(error))
            if one.exporter is not None:
                lease, one.exporter = one.exporter.lease, None
                await self._open(one, lease)
            return True
        except (CommitterFenced, LeaseLost) as error:
            log.info("another exporter took over", topic=one.row.name, reason=str(error))
            await self._let_go(one, release=False)
            one.retry_at_ms = self.world.clock.now_ms() + self.world.settings.export_lease_ms // 3
        except InvalidRecord as error:
            await self._failed(one, PAUSED, f"{error}; fix it at its producer, or set iceberg.invalid to dlq or drop")
        except (CatalogDown, CorruptRun, LogGap, ObjectStoreError, DatabaseError, OSError, pa.ArrowException) as error:
            await self._failed(one, DEGRADED, f"{error}; trying again")
        except ExceptionGroup as group:
            await self._failed(one, DEGRADED, f"{group.exceptions[0]}; trying again")
        return False

    async def _begin(self, one: Mirrored) -> bool:
        """Take the topic's lease and open its tables; False while another exporter has it."""
        lease = await self._acquire(one.row.topic)
        if lease is None:
            one.retry_at_ms = self.world.clock.now_ms() + self.world.settings.export_lease_ms // 3
            return False
        one.lost = False
        await self._open(one, lease)
        return True

    async def _open(self, one: Mirrored, lease: Lease) -> None:
        exporter = TopicExporter(self.world, one.plan, lease, facts=one.facts)
        one.exporter = exporter
        await exporter.open()

    async def _acquire(self, topic: int) -> Lease | None:
        return await self.leases.acquire(f"export/{topic}", self.holder, self.world.settings.export_lease_ms)

    async def _failed(self, one: Mirrored, status: str, message: str) -> None:
        """Say what is wrong, and try again later from the tables' own watermarks."""
        log.warning("export failed", topic=one.row.name, status=status, message=message)
        settings = self.world.settings
        pause_ms = min(settings.export_retry_max_ms, RETRY_FIRST_MS * 2 ** min(one.failures, 16))
        one.failures += 1
        one.retry_at_ms = self.world.clock.now_ms() + pause_ms
        try:
            if one.exporter is not None:
                await one.exporter.say_all(status, message)
        except DatabaseError as error:
            log.warning("the status can't be written", topic=one.row.name, error=str(error))
        await self._let_go(one, release=True)

    async def _let_go(self, one: Mirrored, *, release: bool) -> None:
        exporter, one.exporter, one.lost = one.exporter, None, False
        if exporter is None or not release:
            return
        try:
            await self.leases.release(exporter.lease)
        except DatabaseError as error:
            log.warning("a lease can't be given back, it runs out by itself", topic=one.row.name, error=str(error))

    async def _renew(self) -> None:
        """Prolong every lease held at a third of its time."""
        lease_ms = self.world.settings.export_lease_ms
        while True:
            await asyncio.sleep(lease_ms / 3000)
            for one in list(self.mirrored.values()):
                if one.exporter is None or one.lost:
                    continue
                try:
                    one.exporter.lease = await self.leases.renew(one.exporter.lease, lease_ms)
                except LeaseLost:
                    one.lost = True
                except DatabaseError as error:
                    log.warning("a lease can't be renewed now", topic=one.row.name, error=str(error))


def _urgency(one: Mirrored) -> tuple[int, int]:
    """The oldest waiting record first."""
    first_ms = one.exporter.backlog.first_ms if one.exporter is not None else None
    return (2**62 if first_ms is None else first_ms, one.row.topic)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass
