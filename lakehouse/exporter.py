"""The exporter: every mirrored topic, each under a lease of its own, one chunk at a time.

Topics whose first waiting record is oldest go first. A topic that fails is said to be Degraded and opened anew after a
growing pause; the others go on. Invariant owned here: a topic is worked on only while its lease is held, and a lease that
was lost stops its topic before the next write; whatever goes wrong with one topic, also what nobody foresaw, is
said in that topic's status and never stops the others.
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
from lakehouse.commit import CatalogDown, CommitterFenced, TableRefused
from lakehouse.decode import CorruptRun
from lakehouse.export_chunk import InvalidRecord
from lakehouse.export_plan import PlanError, TableKind, TopicPlan, is_excluded, plan_topic
from lakehouse.export_topic import Reopen, TopicExporter
from lakehouse.export_world import CONFIG_ISSUE, DEGRADED, PAUSED, ExportWorld, TableFacts
from lakehouse.log_slice import LogGap
from schemas.topic_config import value_of

RETRY_FIRST_MS = 500
REOPENED_AT_ONCE_MAX = 2
"""Times in a row that a topic is opened anew without a pause: somebody else's commit needs one."""

log = structlog.get_logger()


@dataclass(slots=True)
class Mirrored:
    """One topic as the exporter knows it."""

    row: TopicRow
    plan: TopicPlan
    lease: Lease | None = None
    exporter: TopicExporter | None = None
    """Open while the lease is held, and nothing was found to be otherwise than believed."""
    lost: bool = False
    retry_at_ms: int = 0
    failures: int = 0
    """Failures and reopenings since the last commit."""
    facts: dict[TableKind, TableFacts] = field(default_factory=dict)


@dataclass(slots=True)
class Exporter:
    """Exports until told to stop.

    `holder` names this process in leases. With `resume` it is the name of all processes of one supervisor, which runs one
    at a time: leases of the one before, which was killed, are taken over at once.
    """

    world: ExportWorld
    topics: TopicStore
    leases: LeaseStore
    holder: str
    resume: bool = False
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    mirrored: dict[int, Mirrored] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    """Topic -> number of its last change that was looked at."""
    _changed: int = 0
    """Number of the last change up to which all topics were looked at."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then give the leases back. A chunk that is under way is finished."""
        self.stop = stop
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
            if self.stop.is_set():
                break
            if self.world.clock.now_ms() >= one.retry_at_ms:
                more = await self._step(one, highs.get(one.row.topic, {}), now_db_ms) or more
        return more

    async def close(self) -> None:
        """Give every lease back."""
        for one in list(self.mirrored.values()):
            await self._let_go(one, release=True)
        self.mirrored.clear()

    async def _refresh(self) -> None:
        """Look at what changed: topics that shall be mirrored are taken up; gone or changed ones are let go of first."""
        settled = True
        for row in await self.topics.changed_since(self._changed):
            if self._seen.get(row.topic) != row.changed:
                settled = await self._take_up(row) and settled
            if settled:
                self._changed = row.changed
                self._seen.pop(row.topic, None)

    async def _take_up(self, row: TopicRow) -> bool:
        """One new or changed topic; False where it has to be looked at again."""
        if row.topic in self.mirrored:
            await self._let_go(self.mirrored.pop(row.topic), release=True)
        if row.deleted_ms is None and not is_excluded(self.world.settings.iceberg_exclude, row.name):
            plan = await self._plan(row)
            if plan is not None:
                self.mirrored[row.topic] = Mirrored(row, plan)
            elif value_of("iceberg.mode", row.config) == "disabled" and not await self._forget(row):
                return False
        self._seen[row.topic] = row.changed
        return True

    async def _plan(self, row: TopicRow) -> TopicPlan | None:
        tables = await self.topics.tables(row.topic)
        try:
            return plan_topic(
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

    async def _say_bad(self, row: TopicRow, tables: Mapping[str, str], message: str) -> None:
        """Settings that can't be carried out, said once per change."""
        statuses = [one for one in await self.world.exports.statuses(row.topic) if one.kind == "main"]
        said = statuses[0] if statuses else ExportStatus(row.topic, "main", tables["main"], None, "", "", {}, None)
        await self.world.exports.put_status(replace(said, status=CONFIG_ISSUE, message=message))

    async def _forget(self, row: TopicRow) -> bool:
        """`iceberg.mode=disabled`: what is known of the tables is dropped, so that enabling it again begins from them.

        False where another exporter still holds the topic.
        """
        statuses = await self.world.exports.statuses(row.topic)
        if not statuses:
            return True
        lease = await self._acquire(row.topic)
        if lease is None:
            return False
        for one in statuses:
            await self.world.exports.forget(row.topic, one.kind, lease.name, lease.epoch)
        await self.leases.release(lease)
        return True

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
                raise LeaseLost("the lease ran out")
            if not await self._begin(one):
                return False
            assert one.exporter is not None
            more = await one.exporter.step(highs, now_db_ms)
            if one.exporter.commits:
                one.failures = 0
            return more
        except Reopen as error:
            return self._reopen(one, str(error))
        except (CommitterFenced, LeaseLost) as error:
            log.info("another exporter took over", topic=one.row.name, reason=str(error))
            await self._let_go(one, release=False)
            one.facts.clear()
            one.retry_at_ms = self.world.clock.now_ms() + self.world.settings.export_lease_ms // 3
        except (TableRefused, PlanError) as error:
            await self._failed(one, CONFIG_ISSUE, str(error))
        except InvalidRecord as error:
            await self._failed(one, PAUSED, f"{error}; fix it at its producer, or set iceberg.invalid to dlq or drop")
        except (CatalogDown, CorruptRun, LogGap, ObjectStoreError, DatabaseError, OSError, pa.ArrowException) as error:
            await self._failed(one, DEGRADED, f"{error}; trying again")
        except ExceptionGroup as group:
            await self._failed(one, DEGRADED, f"{group.exceptions[0]}; trying again")
        except Exception as error:
            # A fault of ours, or something nobody foresaw: this topic stands, the others must not.
            log.exception("the export of a topic failed unexpectedly", topic=one.row.name)
            words = f"unexpected {type(error).__name__}: {error}; the exporter's log has more; trying again"
            await self._failed(one, DEGRADED, words)
        return False

    async def _begin(self, one: Mirrored) -> bool:
        """Take the topic's lease and open its tables where that isn't done; False while another exporter has it."""
        if one.lease is None:
            lease = await self._acquire(one.row.topic)
            if lease is None:
                one.retry_at_ms = self.world.clock.now_ms() + self.world.settings.export_lease_ms // 3
                return False
            one.lease, one.lost = lease, False
        if one.exporter is None or one.exporter.looks_again(self.world.clock.now_ms()):
            one.exporter = TopicExporter(self.world, one.plan, one.lease, facts=one.facts)
            await one.exporter.open()
        return True

    def _reopen(self, one: Mirrored, reason: str) -> bool:
        """Under the same lease; at once at first, and with growing pauses while no commit comes of it."""
        log.info("reading the tables again", topic=one.row.name, reason=reason)
        one.exporter = None
        one.failures += 1
        if one.failures <= REOPENED_AT_ONCE_MAX:
            return True
        one.retry_at_ms = self.world.clock.now_ms() + self._pause_ms(one.failures - REOPENED_AT_ONCE_MAX - 1)
        return False

    def _pause_ms(self, failures: int) -> int:
        return min(self.world.settings.export_retry_max_ms, int(RETRY_FIRST_MS * 2 ** min(failures, 16)))

    async def _acquire(self, topic: int) -> Lease | None:
        lease_ms = self.world.settings.export_lease_ms
        return await self.leases.acquire(f"export/{topic}", self.holder, lease_ms, resume=self.resume)

    async def _failed(self, one: Mirrored, status: str, message: str) -> None:
        """Say what is wrong, and try again later from the tables' own watermarks."""
        log.warning("export failed", topic=one.row.name, status=status, message=message)
        one.retry_at_ms = self.world.clock.now_ms() + self._pause_ms(one.failures)
        one.failures += 1
        try:
            if one.exporter is not None:
                await one.exporter.say_all(status, message)
        except DatabaseError as error:
            log.warning("the status can't be written", topic=one.row.name, error=str(error))
        await self._let_go(one, release=True)

    async def _let_go(self, one: Mirrored, *, release: bool) -> None:
        lease, one.lease, one.exporter, one.lost = one.lease, None, None, False
        if lease is None or not release:
            return
        try:
            await self.leases.release(lease)
        except DatabaseError as error:
            log.warning("a lease can't be given back, it runs out by itself", topic=one.row.name, error=str(error))

    async def _renew(self) -> None:
        """Prolong every lease held at a third of its time, all in one transaction."""
        while True:
            await asyncio.sleep(self.world.settings.export_lease_ms / 3000)
            try:
                await self.renew()
            except DatabaseError as error:
                log.warning("leases can't be renewed now", error=str(error))

    async def renew(self) -> None:
        """Prolong every lease held, and mark the topics whose lease is gone. Raises DatabaseError."""
        asked = [(one, one.lease) for one in self.mirrored.values() if one.lease is not None and not one.lost]
        renewed = await self.leases.renew_all([lease for _, lease in asked], self.world.settings.export_lease_ms)
        for one, lease in asked:
            # The topic may have been let go of meanwhile, or taken under a newer lease.
            if one.lease is lease:
                one.lease = renewed.get(lease.name, lease)
                one.lost = lease.name not in renewed


def _urgency(one: Mirrored) -> tuple[int, int]:
    """The oldest waiting record first."""
    first_ms = one.exporter.backlog.first_ms if one.exporter is not None else None
    return (2**62 if first_ms is None else first_ms, one.row.topic)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        pass
