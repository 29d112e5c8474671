"""The export of one topic under one lease: look, write a chunk, enter it into the ledger, commit its tables.

One step does at most one chunk. Invariants owned here: dead letters are committed before the rows that moved past them, so
a main table's watermark never passes a dead letter that isn't in its table; whatever goes wrong ends in `Reopen` or an
error, after which the topic is opened anew from the tables' own watermarks; nothing is retried in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from catalog.exports import ExportGap, LedgerFile
from catalog.leases import Lease
from lakehouse.commit import TableRefused
from lakehouse.decode import DecodeLimits
from lakehouse.export_chunk import Chunk, ChunkRules, ChunkWriter, TableChunk, Target
from lakehouse.export_commit import CommitRefused, Reopen, commit_waiting, is_waiting
from lakehouse.export_gaps import gaps_in, in_words
from lakehouse.export_plan import Backlog, PlanError, TableKind, TablePlan, TopicPlan
from lakehouse.export_start import start_offsets
from lakehouse.export_status import StatusBoard
from lakehouse.export_tables import OpenTable, TableMaker
from lakehouse.export_world import CONFIG_ISSUE, DEGRADED, PENDING, RUNNING, ExportWorld, TableFacts
from lakehouse.latest import LatestLimits, TooManyKeys
from lakehouse.ledger_recovery import ledger_files
from lakehouse.log_slice import LogSlice, RecordsDeleted
from lakehouse.rows import RowBuilder
from lakehouse.watermark import OFFSETS_START, parse_offsets

__all__ = ["Reopen", "TopicExporter"]

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TopicExporter:
    """One topic. `open` first, then `step` again and again."""

    world: ExportWorld
    plan: TopicPlan
    lease: Lease
    facts: dict[TableKind, TableFacts] = field(default_factory=dict)
    tables: dict[TableKind, OpenTable] = field(default_factory=dict)
    refused: dict[TableKind, str] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)
    commits: int = 0
    """Table commits since this was opened."""
    _look_again_ms: int | None = None
    """When to see whether what made a table be refused is mended."""
    _took_ms: int = 0
    """How long the last chunk took, from reading its log to its commits."""
    _exported_ms: int | None = None
    _gaps: list[ExportGap] = field(default_factory=list)
    """What was deleted from the log before it was in the tables."""
    _board: StatusBoard = field(init=False)

    def __post_init__(self) -> None:
        self._board = StatusBoard(self.world.exports, self.plan.topic)

    @property
    def maker(self) -> TableMaker:
        """Opens this topic's tables."""
        return TableMaker(self.world.catalog, self.world.warehouse, self.world.exports, self.plan, self.lease)

    async def open(self) -> None:
        """Open every table and settle the ledger. Raises CommitterFenced, CatalogDown, LeaseLost, ObjectStoreError."""
        await self._board.read()
        self._gaps = await self.world.exports.gaps(self.plan.topic)
        main = self._board.said.get("main")
        start = {} if main is not None and main.table_uuid else await start_offsets(self.world, self.plan)
        for table in self.plan.tables:
            await self._open(table, start)
            if "main" in self.tables:
                # Tables beside it begin where it began, also when they are made later.
                start = parse_offsets(self.tables["main"].state.table.properties.get(OFFSETS_START, "{}"))
        if not self.tables:
            return
        said = self._board.said.get("dlq")
        has_dlq = said is not None and said.table_uuid is not None
        if has_dlq or await self._blocking(lambda: self.maker.exists(self.plan.dlq_name)):
            await self._open(TablePlan("dlq", self.plan.dlq_name, "append", ""), {})
            if "dlq" in self.tables and "main" in self.tables:
                self.tables["dlq"].skipped = dict(self.tables["main"].state.watermark.offsets)

    def looks_again(self, now_ms: int) -> bool:
        """True where a table was refused a while ago: whoever mended it shall see the export go on."""
        return self._look_again_ms is not None and now_ms >= self._look_again_ms

    async def _open(self, table: TablePlan, start: Mapping[int, int]) -> None:
        maker, known = self.maker, self._board.said.get(table.kind)
        try:
            opened: OpenTable = await self._blocking(
                lambda: maker.open_now(table.kind, table.name, table.rows, table.partition_by, start, known)
            )
        except (TableRefused, PlanError) as error:
            await self._refuse(table.kind, table.name, str(error))
            return
        await maker.settle(opened)
        self.tables[table.kind] = opened
        facts = self.facts.setdefault(table.kind, TableFacts())
        facts.valid_through_ms = opened.state.watermark.valid_through_ms
        await self._say(opened, RUNNING if opened.state.snapshot_id is not None else PENDING)

    async def _say(self, opened: OpenTable, status: str) -> None:
        """The table's status; one that lacks records stays Degraded, and says which."""
        mine = [gap for gap in self._gaps if gap.kind == opened.kind]
        self.facts.setdefault(opened.kind, TableFacts()).gap_records = sum(
            gap.offset_next - gap.offset_first for gap in mine
        )
        await self._board.say(opened, DEGRADED if mine else status, in_words(mine))

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
        try:
            placed = await self.world.log.find(self.plan.topic, behind)
        except RecordsDeleted as error:
            await self._skip(error.starts, taking)
            return True
        settings = self.world.settings
        # Begun early enough that the commit, not its beginning, falls within the lag.
        lead_ms = min(self.plan.lag_ms // 2, 2 * settings.export_interval_ms + self._took_ms)
        if not self.backlog.is_due(
            now_ms,
            bytes_behind=sum(one.extent.byte_length for one in placed),
            chunk_bytes=settings.export_chunk_bytes,
            lag_ms=self.plan.lag_ms - lead_ms,
            idle_ms=settings.export_idle_commit_ms,
        ):
            return False
        await self._export(await self.world.log.read(placed), taking, highs, now_db_ms)
        self._exported_ms = self.world.clock.now_ms()
        self._took_ms = self._exported_ms - now_ms
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
            # Looked at again when the settings change: whoever reads on finds the same keys.
            self.refused["main"] = str(error)
            await self._board.refuse("main", self.tables["main"].name, str(error))
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

    async def _skip(self, starts: Mapping[int, int], taking: Sequence[OpenTable]) -> None:
        """Records are gone that the tables haven't: note it, enter their ranges without rows, and go on behind them."""
        chunk_id = f"{self.plan.topic_id.hex[:8]}-{self.lease.epoch}-{self.world.rng.getrandbits(64):016x}"
        tables = [*taking, *(one for kind, one in self.tables.items() if kind == "dlq")]
        rows: list[LedgerFile] = []
        gaps: list[ExportGap] = []
        for one in tables:
            empty = ledger_files(
                topic=self.plan.topic,
                kind=one.kind,
                chunk_id=chunk_id,
                positions=one.ends,
                ends={shard: max(start, one.ends.get(shard, 0)) for shard, start in starts.items()},
                checksums={},
                files=[],
                replaced=[],
            )
            rows += empty
            gaps += gaps_in(empty, one.positions)
        entered = await self.world.exports.add_all(rows, self.lease.name, self.lease.epoch, gaps)
        self.world.checkpoint("skipped")
        self._gaps = await self.world.exports.gaps(self.plan.topic)
        log.error("records were deleted before they were exported", topic=self.plan.topic_name, log_starts=starts)
        for one in tables:
            mine = [file for file in entered if file.kind == one.kind]
            one.waiting += mine
            one.ends.update({file.shard: file.offset_next for file in mine})
        for kind in ("dlq", "history", "main"):
            if kind in self.tables and kind not in self.refused:
                await self._commit(kind, 0, force=True)

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
            opened.footers.update({file.path: file for file in part.files})
            opened.removed += part.removed

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
        """Commit what waits for a table. Raises Reopen, CommitterFenced, CatalogDown, LeaseLost."""
        opened = self.tables[kind]
        if not is_waiting(opened, force=force):
            return
        try:
            records = await commit_waiting(self.world, self.lease, opened, valid_through_ms)
        except CommitRefused as error:
            await self._refuse(kind, opened.name, str(error))
            return
        self.commits += 1
        facts = self.facts.setdefault(kind, TableFacts())
        facts.rows += records
        facts.last_success_ms = opened.committed_ms
        facts.valid_through_ms = max(facts.valid_through_ms, opened.state.watermark.valid_through_ms)
        await self._say(opened, RUNNING)

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
        opened = self.maker.open_now("dlq", self.plan.dlq_name, "append", "", start, self._board.said.get("dlq"))
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
            LatestLimits(settings.latest_keys_max, settings.latest_bytes_max),
        )

    def _measure(self, highs: Mapping[int, int]) -> None:
        main = self.tables.get("main")
        if main is not None:
            offsets = main.state.watermark.offsets
            self.facts["main"].offset_lag = sum(max(0, high - offsets.get(shard, 0)) for shard, high in highs.items())

    async def _refuse(self, kind: TableKind, name: str, message: str) -> None:
        self.refused[kind] = message
        self._look_again_ms = self.world.clock.now_ms() + self.world.settings.export_retry_max_ms
        await self._board.refuse(kind, name, message)

    async def say_all(self, status: str, message: str) -> None:
        """Say a status for every table of the topic."""
        await self._board.say_all([(one.kind, one.name) for one in self.plan.tables], status, message)

    async def _blocking(self, function: Callable[[], T]) -> T:
        result: T = await self.world.blocking(function)
        return result


def _target(opened: OpenTable) -> Target:
    return Target(opened.kind, opened.rows, opened.state.table, opened.positions)


def _behind(positions: Sequence[Mapping[int, int]], highs: Mapping[int, int]) -> dict[int, int]:
    """Partition -> where to read on, for partitions of which some table has not everything."""
    least = {shard: min(one.get(shard, 0) for one in positions) for shard in highs}
    return {shard: position for shard, position in sorted(least.items()) if position < highs[shard]}
