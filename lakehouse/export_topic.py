"""The export of one topic under one lease: look, write a chunk, enter it into the ledger, commit its tables.

One step does at most one chunk. Invariants owned here: dead letters are committed before the rows that moved past them, so
a main table's watermark never passes a dead letter that isn't in its table; whatever goes wrong ends in `Reopen` or an
error, after which the topic is opened anew from the tables' own watermarks; nothing is retried in place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from pyiceberg.catalog import Catalog

from broker.services import Clock
from catalog.exports import ExportStatus, ExportStore, LedgerFile
from catalog.extents import ExtentStore
from catalog.leases import Lease
from lakehouse.commit import CatalogDown, Change, CommitterFenced, Outcome, Result, TableRefused, TableState
from lakehouse.data_files import WrittenFile, data_file, files_of
from lakehouse.decode import DecodeLimits, decode_runs
from lakehouse.export_chunk import Chunk, ChunkRules, ChunkWriter, TableChunk, Target
from lakehouse.export_plan import Backlog, PlanError, TableKind, TopicPlan
from lakehouse.export_tables import OpenTable, TableMaker
from lakehouse.latest import TooManyKeys
from lakehouse.ledger_recovery import chunk_of, data_of, ledger_files
from lakehouse.log_slice import LogReader, LogSlice
from lakehouse.rows import RowBuilder
from schemas.settings import Settings

T = TypeVar("T")
PENDING, RUNNING, DEGRADED, PAUSED, CONFIG_ISSUE = "Pending", "Running", "Degraded", "Paused", "Config Issue"


class Reopen(Exception):
    """What was believed of a table or of the ledger doesn't hold any more: open the topic again."""


@dataclass(frozen=True, slots=True)
class ExportWorld:
    """Everything the exporter works with."""

    settings: Settings
    clock: Clock
    rng: Random
    extents: ExtentStore
    exports: ExportStore
    log: LogReader
    catalog: Catalog
    warehouse: str
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs a function in the worker thread."""
    checkpoint: Callable[[str], None] = lambda place: None
    """Called between the steps that a crash may fall between; tests kill the process here."""


@dataclass(slots=True)
class TableFacts:
    """What metrics say of one table."""

    rows: int = 0
    last_success_ms: int | None = None
    valid_through_ms: int = 0
    offset_lag: int = 0


@dataclass(slots=True)
class TopicExporter:
    """One topic. `open` first, then `step` again and again."""

    world: ExportWorld
    plan: TopicPlan
    lease: Lease
    tables: dict[TableKind, OpenTable] = field(default_factory=dict)
    refused: dict[TableKind, str] = field(default_factory=dict)
    facts: dict[TableKind, TableFacts] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)
    said: dict[TableKind, ExportStatus] = field(default_factory=dict)
    _footers: dict[str, WrittenFile] = field(default_factory=dict)
    _removed: dict[TableKind, list[Any]] = field(default_factory=dict)
    _exported_ms: int | None = None

    @property
    def maker(self) -> TableMaker:
        """Opens this topic's tables."""
        return TableMaker(self.world.catalog, self.world.warehouse, self.world.exports, self.plan, self.lease)

    async def open(self) -> None:
        """Open every table and settle the ledger. Raises CommitterFenced, CatalogDown, LeaseLost, ObjectStoreError."""
        maker = self.maker
        known = {one.kind: one for one in await self.world.exports.statuses(self.plan.topic)}
        self.said = {one.kind: one for one in known.values()}
        start = {} if known.get("main") is not None and known["main"].table_uuid else await self._start()
        for table in self.plan.tables:
            await self._open(table.kind, table.name, table.rows, table.partition_by, start, known.get(table.kind))
        main = self.tables.get("main")
        if main is None and "history" not in self.tables:
            return
        has_dlq = "dlq" in known and known["dlq"].table_uuid is not None
        if has_dlq or await self._blocking(lambda: maker.exists(self.plan.dlq_name)):
            await self._open("dlq", self.plan.dlq_name, "append", "", {}, known.get("dlq"))
            if "dlq" in self.tables and main is not None:
                self.tables["dlq"].skipped = dict(main.state.watermark.offsets)

    async def _open(
        self,
        kind: TableKind,
        name: str,
        rows: Any,
        partition_by: str,
        start: Mapping[int, int],
        known: ExportStatus | None,
    ) -> None:
        maker = self.maker
        try:
            opened: OpenTable = await self._blocking(
                lambda: maker.open_now(kind, name, rows, partition_by, start, known)
            )
        except (TableRefused, PlanError) as error:
            await self._refuse(kind, name, str(error))
            return
        await maker.settle(opened)
        self.tables[kind] = opened
        self.refused.pop(kind, None)
        facts = self.facts.setdefault(kind, TableFacts())
        facts.valid_through_ms = opened.state.watermark.valid_through_ms
        await self._say(opened, RUNNING if opened.state.snapshot_id is not None else PENDING, "")

    async def step(self, highs: Mapping[int, int], now_db_ms: int) -> bool:
        """Look, and export at most one chunk. `highs`: partition -> high watermark read after `now_db_ms`.

        True where there is more to do at once. Raises Reopen and what the world raises.
        """
        taking = [one for kind, one in self.tables.items() if kind != "dlq" and kind not in self.refused]
        if "dlq" in self.refused and self.plan.invalid == "dlq":
            await self.say_all(CONFIG_ISSUE, self.refused["dlq"])
            return False
        if not taking:
            return False
        now_ms = self.world.clock.now_ms()
        behind = _behind([one.positions for one in taking], highs)
        self.backlog.see(now_ms, sum(highs.values()), bool(behind))
        self._measure(highs)
        if not behind:
            await self._rest(now_ms, now_db_ms)
            return False
        placed = await self.world.log.find(self.plan.topic, behind)
        settings = self.world.settings
        if not self.backlog.is_due(
            now_ms,
            bytes_behind=sum(one.extent.byte_length for one in placed),
            chunk_bytes=settings.export_chunk_bytes,
            lag_ms=self.plan.lag_ms,
            idle_ms=settings.export_idle_commit_ms,
        ):
            return False
        await self._export(await self.world.log.read(placed), taking, highs, now_db_ms)
        self._exported_ms = self.world.clock.now_ms()
        left = _behind([one.positions for one in taking], highs)
        self.backlog = Backlog()
        self.backlog.see(self._exported_ms, sum(highs.values()), bool(left))
        return bool(left)

    async def _export(
        self, log: LogSlice, taking: Sequence[OpenTable], highs: Mapping[int, int], now_db_ms: int
    ) -> None:
        """Write a chunk, enter it, commit it."""
        chunk_id = f"{self.plan.topic_id.hex[:8]}-{self.lease.epoch}-{self.world.rng.getrandbits(64):016x}"
        targets = [_target(one) for one in taking]
        if "dlq" in self.tables:
            targets.append(_target(self.tables["dlq"]))
        writer = ChunkWriter(chunk_id, self._rules(), targets, self._make_dlq)
        try:
            chunk: Chunk = await self._blocking(lambda: writer.write(log))
        except TooManyKeys as error:
            await self._refuse("main", self.tables["main"].name, str(error))
            return
        self.world.checkpoint("written")
        await self._enter(chunk)
        self.world.checkpoint("entered")
        ends = {shard: highs.get(shard, 0) for shard in highs}
        caught_up = not _behind([one.positions for one in taking], ends)
        valid_through_ms = now_db_ms if caught_up else 0
        for kind in ("dlq", "history", "main"):
            if kind in self.tables and kind not in self.refused:
                await self._commit(kind, valid_through_ms, force=False)

    async def _enter(self, chunk: Chunk) -> None:
        """Enter the chunk into the ledger, all its tables in one transaction."""
        rows: list[LedgerFile] = []
        for part in chunk.tables:
            if part.target.kind != "dlq" or part.rows:
                rows += self._ledger_rows(chunk, part)
        entered = await self.world.exports.add_all(rows, self.lease.name, self.lease.epoch)
        for part in chunk.tables:
            opened = self.tables[part.target.kind]
            mine = [one for one in entered if one.kind == opened.kind]
            opened.waiting += mine
            opened.ends.update({one.shard: one.offset_next for one in mine})
            if opened.kind == "dlq":
                opened.skipped.update(chunk.ends)
            self._footers.update({file.path: file for file in part.files})
            self._removed.setdefault(opened.kind, []).extend(part.removed)

    def _ledger_rows(self, chunk: Chunk, part: TableChunk) -> list[LedgerFile]:
        return ledger_files(
            topic=self.plan.topic,
            kind=part.target.kind,
            chunk_id=chunk.chunk_id,
            positions=self.tables[part.target.kind].ends,
            ends=chunk.ends,
            checksums=part.checksums,
            files=[file.facts() for file in part.files],
            replaced=[file.file_path for file in part.removed],
        )

    async def _commit(self, kind: TableKind, valid_through_ms: int, *, force: bool) -> None:
        """Commit what waits for a table. Ranges without rows wait for rows, or for `force`."""
        opened = self.tables[kind]
        files = files_of(data_of(opened.waiting))
        removed = self._removed.get(kind, [])
        if not opened.waiting or not (files or removed or force):
            return
        before, after = _range(opened.waiting)
        change_id = chunk_of(opened.waiting[-1])
        state = opened.state

        def send() -> Outcome:
            added = [data_file(state.table, self._footers.get(one.path, one)) for one in files]
            change = Change(change_id, before, after, valid_through_ms, added, removed)
            return opened.committer.commit(state, change)

        try:
            outcome: Outcome = await self._blocking(send)
        except FileNotFoundError as error:
            ids = [one.id for one in opened.waiting]
            await self.world.exports.mark_abandoned(ids, change_id, self.lease.name, self.lease.epoch)
            raise Reopen(f"a data file that waited for its commit is gone: {error}") from error
        self.world.checkpoint(f"committed {kind}")
        await self._settle(opened, outcome)

    async def _settle(self, opened: OpenTable, outcome: Outcome) -> None:
        """Take note of a commit's outcome. Raises Reopen, CommitterFenced."""
        if outcome.result is Result.REFUSED:
            await self._refuse(opened.kind, opened.name, outcome.message)
            return
        if outcome.result is Result.FENCED:
            raise CommitterFenced(outcome.message)
        if outcome.result is Result.UNKNOWN:
            raise CatalogDown(f"{opened.name}: {outcome.message}")
        if not outcome.result.landed or outcome.state is None:
            raise Reopen(f"{opened.name}: {outcome.message}")
        state: TableState = outcome.state
        ids = [one.id for one in opened.waiting]
        rows = sum(one.row_count for one in opened.waiting)
        await self.world.exports.mark_committed(ids, state.watermark.batch_id, self.lease.name, self.lease.epoch)
        for one in data_of(opened.waiting):
            self._footers.pop(one["path"], None)
        self._removed.pop(opened.kind, None)
        opened.state, opened.waiting = state, []
        opened.committed_ms = self.world.clock.now_ms()
        facts = self.facts.setdefault(opened.kind, TableFacts())
        facts.rows += rows
        facts.last_success_ms = opened.committed_ms
        facts.valid_through_ms = max(facts.valid_through_ms, state.watermark.valid_through_ms)
        self.world.checkpoint(f"marked {opened.kind}")
        await self._say(opened, RUNNING, "")

    async def _rest(self, now_ms: int, now_db_ms: int) -> None:
        """Nothing new: after a while, ranges without rows get their commit too, so that the watermarks say what is known."""
        for kind, facts in self.facts.items():
            if kind in self.tables and not self.tables[kind].waiting:
                facts.valid_through_ms, facts.offset_lag = max(facts.valid_through_ms, now_db_ms), 0
        idle_ms = self.world.settings.export_idle_commit_ms
        if self._exported_ms is not None and now_ms - self._exported_ms < idle_ms:
            return
        dlq = self.tables.get("dlq")
        if dlq is not None and "dlq" not in self.refused and self._exported_ms is not None:
            await self._enter_empty(dlq)
        for kind in ("dlq", "history", "main"):
            if kind in self.tables and kind not in self.refused:
                await self._commit(kind, now_db_ms, force=True)
        self._exported_ms = None

    async def _enter_empty(self, dlq: OpenTable) -> None:
        """Ledger rows for ranges that turned out to hold no dead letters."""
        rows = ledger_files(
            topic=self.plan.topic,
            kind="dlq",
            chunk_id=f"{self.plan.topic_id.hex[:8]}-{self.lease.epoch}-{self.world.rng.getrandbits(64):016x}",
            positions=dlq.ends,
            ends=dlq.positions,
            checksums={},
            files=[],
            replaced=[],
        )
        entered = await self.world.exports.add_all(rows, self.lease.name, self.lease.epoch)
        dlq.waiting += entered
        dlq.ends.update({one.shard: one.offset_next for one in entered})

    def _make_dlq(self) -> Target:
        """Called in the worker thread at the first dead letter of the topic."""
        main = self.tables.get("main") or self.tables["history"]
        start = dict(main.state.watermark.offsets)
        opened = self.maker.open_now("dlq", self.plan.dlq_name, "append", "", start, self.said.get("dlq"))
        self.tables["dlq"] = opened
        self.facts.setdefault("dlq", TableFacts())
        return _target(opened)

    def _rules(self) -> ChunkRules:
        settings = self.world.settings
        return ChunkRules(
            RowBuilder(self.plan.columns or ()),
            self.plan.invalid,
            DecodeLimits(
                bytes_max=settings.export_decoded_bytes,
                decompressed_bytes_max=settings.max_decompressed_message_bytes,
            ),
            settings.partitions_max_per_commit,
            settings.latest_keys_max,
        )

    async def _start(self) -> dict[int, int]:
        """Where tables that are made now begin, by `iceberg.start`."""
        if self.plan.start == "earliest":
            return {}
        keys = [(self.plan.topic, shard) for shard in range(self.plan.shards)]
        highs = {key[1]: mark.high_watermark for key, mark in (await self.world.extents.watermarks(keys)).items()}
        if isinstance(self.plan.start, str):
            return highs
        return {shard: await self._first_from(shard, self.plan.start, high) for shard, high in sorted(highs.items())}

    async def _first_from(self, shard: int, timestamp_ms: int, high: int) -> int:
        """The first record of a partition whose timestamp is at least this; its high watermark where there is none."""
        placed = await self.world.extents.first_from_time(self.plan.topic, shard, timestamp_ms)
        if placed is None:
            return high
        log = await self.world.log.read([placed])
        for decoded in decode_runs(log.runs[shard]):
            found = decoded.offsets[decoded.timestamps_ms >= timestamp_ms]
            if len(found):
                return int(found[0])
        return placed.extent.offset_next

    def _measure(self, highs: Mapping[int, int]) -> None:
        main = self.tables.get("main")
        if main is not None:
            offsets = main.state.watermark.offsets
            self.facts["main"].offset_lag = sum(max(0, high - offsets.get(shard, 0)) for shard, high in highs.items())

    async def _refuse(self, kind: TableKind, name: str, message: str) -> None:
        self.refused[kind] = message
        last = self.said.get(kind)
        said = last or ExportStatus(self.plan.topic, kind, name, None, CONFIG_ISSUE, message, {}, None)
        await self._put(replace(said, status=CONFIG_ISSUE, message=message))

    async def say_all(self, status: str, message: str) -> None:
        """Say a status for every table of the topic."""
        for plan in self.plan.tables:
            last = self.said.get(plan.kind)
            said = last or ExportStatus(self.plan.topic, plan.kind, plan.name, None, status, message, {}, None)
            await self._put(replace(said, status=status, message=message))

    async def _say(self, opened: OpenTable, status: str, message: str) -> None:
        uuid = str(opened.state.uuid)
        offsets = opened.state.watermark.offsets
        await self._put(
            ExportStatus(self.plan.topic, opened.kind, opened.name, uuid, status, message, offsets, opened.committed_ms)
        )

    async def _put(self, status: ExportStatus) -> None:
        if self.said.get(status.kind) != status:
            await self.world.exports.put_status(status)
            self.said[status.kind] = status

    async def _blocking(self, function: Callable[[], T]) -> T:
        result: T = await self.world.blocking(function)
        return result


def _target(opened: OpenTable) -> Target:
    return Target(opened.kind, opened.rows, opened.state.table, opened.positions)


def _behind(positions: Sequence[Mapping[int, int]], highs: Mapping[int, int]) -> dict[int, int]:
    """Partition -> where to read on, for partitions of which some table has not everything."""
    least = {shard: min(one.get(shard, 0) for one in positions) for shard in highs}
    return {shard: position for shard, position in sorted(least.items()) if position < highs[shard]}


def _range(waiting: Sequence[LedgerFile]) -> tuple[dict[int, int], dict[int, int]]:
    """Partition -> first and next offset of what waits."""
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for one in waiting:
        before.setdefault(one.shard, one.offset_first)
        before[one.shard] = min(before[one.shard], one.offset_first)
        after[one.shard] = max(after.get(one.shard, 0), one.offset_next)
    return before, after
