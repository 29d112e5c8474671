"""The one way a change reaches an Iceberg table (architecture, Export 2).

A commit is built from a state that was just read (watermark, epoch, topic id, table uuid, snapshot), is sent to
`catalog.commit_table` once with requirements of our own, and is never repeated without reading all of that again.
Invariants owned here: no row twice and none missing at the watermark (I7); a file is never deleted because a commit
failed, since a commit that was reported as failed may have landed; a stale committer is fenced; a table belongs to one
topic id and one uuid; a table that went backwards is not written to.

pyiceberg's own `commit_transaction` would rebase a stale writer's rows onto the new head, and would delete the live
snapshot's manifests after a false conflict: it is unreachable here (`_Staging` refuses it). `_commit()` of a snapshot
producer is private to pyiceberg, so its version is pinned and tests/conformance holds the behaviour.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol
from uuid import UUID

import pyarrow as pa
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.table.update.snapshot import _SnapshotProducer

from lakehouse.watermark import (
    BATCH_ID,
    LAYOUT,
    LAYOUT_VERSION,
    OFFSETS,
    TOPIC_ID,
    Watermark,
    WatermarkUnreadable,
    goes_back,
    merged,
    parse_offsets,
    read_watermark,
)

SNAPSHOTS_KEPT = 30
"""Snapshots of ours that stay in the metadata. The cost of a commit grows with them; time travel gets tags of its own.

Expiry here is metadata only: manifests and replaced data files of expired snapshots stay in the store until
maintenance sweeps what no snapshot references."""


RESET = "set the topic's iceberg.mode to disabled and then back"
"""How a person lets go of what is known of a topic's tables."""


class CatalogPort(Protocol):
    """What is used of a catalog."""

    def load_table(self, identifier: tuple[str, str]) -> Table:
        """Read a table's current metadata."""
        ...

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Apply updates atomically where the requirements hold."""
        ...


class Refusal(enum.Enum):
    """Why a table is not written to any more; each needs a person."""

    DROPPED = "dropped"
    RECREATED = "recreated"
    FOREIGN = "foreign"
    ROLLED_BACK = "rolled back"
    UNREADABLE = "watermark unreadable"


class TableRefused(Exception):
    """The table is not the one this committer may write to, or not in a state to be written to."""

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CommitterFenced(Exception):
    """Another committer with a higher epoch has written: stop and give up the lease."""


class CatalogDown(Exception):
    """The catalog or the store under it can't be read or written now; retry after, from `read` on."""


class Result(enum.Enum):
    """What came of a commit."""

    COMMITTED = "committed"
    ALREADY_THERE = "already there"
    """It had landed: before, or although the catalog reported a failure."""
    CONFLICT = "conflict"
    """It did not land. Read again, then rebuild."""
    FENCED = "fenced"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """The catalog can't be asked. Read again until it can, and look for the batch id."""

    @property
    def landed(self) -> bool:
        """True where the change is in the table, once."""
        return self in (Result.COMMITTED, Result.ALREADY_THERE)


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as it was just read, checked to be ours. Good for one commit."""

    table: Table
    watermark: Watermark
    batch_ids: frozenset[str]
    """Batch ids found in the property and in the summaries of the main branch."""

    @property
    def snapshot_id(self) -> int | None:
        """The current snapshot of the main branch."""
        return self.table.metadata.current_snapshot_id

    @property
    def uuid(self) -> UUID:
        """The table's uuid."""
        return self.table.metadata.table_uuid


@dataclass(frozen=True, slots=True)
class Change:
    """One change to a table: rows of `[offsets_before, offsets)` of each partition named."""

    batch_id: str
    offsets_before: Mapping[int, int]
    offsets: Mapping[int, int]
    valid_through_ms: int
    added: Sequence[DataFile] = ()
    removed: Sequence[DataFile] = ()
    """Files that `added` replaces (latest tables)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a commit. `state` is the table as read afterwards, where it could be read."""

    result: Result
    message: str
    state: TableState | None = None
    refusal: Refusal | None = None


class _Staging(Transaction):
    """A transaction that can stage and nothing else."""

    def commit_transaction(self) -> NoReturn:
        """Refused: see the module's docstring."""
        raise AssertionError("tables are committed through lakehouse.commit alone")


class TableCommitter:
    """Commits to one table on behalf of one lease. `floor` is a watermark known to have been committed before."""

    def __init__(
        self,
        catalog: CatalogPort,
        identifier: tuple[str, str],
        *,
        topic_id: UUID,
        table_uuid: UUID,
        epoch: int,
        floor: Mapping[int, int] | None = None,
        snapshots_kept: int = SNAPSHOTS_KEPT,
    ) -> None:
        assert snapshots_kept > 0
        self._catalog = catalog
        self._identifier = identifier
        self._topic_id = topic_id
        self._table_uuid = table_uuid
        self._epoch = epoch
        self._floor = dict(floor or {})
        self._snapshots_kept = snapshots_kept

    @property
    def name(self) -> str:
        """Dotted table name."""
        return ".".join(self._identifier)

    def read(self) -> TableState:
        """The table now. Raises TableRefused, CommitterFenced, CatalogDown."""
        try:
            table = self._catalog.load_table(self._identifier)
        except NoSuchTableError:
            message = f"{self.name} was dropped or renamed; rename it back, or {RESET} to begin a new table"
            raise TableRefused(Refusal.DROPPED, message) from None
        except Exception as error:
            raise CatalogDown(f"{self.name} can't be read: {error}") from error
        state = self._checked(table)
        self._floor = merged(self._floor, state.watermark.offsets)
        return state

    def commit(self, state: TableState, change: Change) -> Outcome:
        """Try to apply `change` on exactly `state`. Raises nothing of the world; see `Result` for what to do next."""
        if change.batch_id in state.batch_ids:
            return Outcome(Result.ALREADY_THERE, "the batch id is in the table", state)
        before = {p: state.watermark.offsets.get(p, 0) for p in change.offsets}
        wanted = {p: change.offsets_before.get(p, 0) for p in change.offsets}
        if before != wanted:
            return Outcome(Result.CONFLICT, f"the watermark is {before}, the rows begin at {wanted}", state)
        mark = Watermark(
            merged(state.watermark.offsets, change.offsets),
            self._epoch,
            change.batch_id,
            max(change.valid_through_ms, state.watermark.valid_through_ms),
        )
        try:
            updates = self._staged(state, change, mark)
        except (OSError, pa.ArrowException) as error:
            return Outcome(Result.CONFLICT, f"nothing was sent: {error}", state)
        requirements = (
            AssertTableUUID(uuid=self._table_uuid),
            AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=state.snapshot_id),
        )
        try:
            response = self._catalog.commit_table(state.table, requirements, updates)
        except Exception as error:
            # Whatever the catalog said, it may have landed: only reading tells, and nothing is deleted.
            return self._resolved(change, error)
        self._floor = merged(self._floor, mark.offsets)
        _drop_old_metadata(state.table, response.metadata)
        return Outcome(Result.COMMITTED, "", self._after(state, response, mark))

    def _checked(self, table: Table) -> TableState:
        metadata = table.metadata
        if metadata.table_uuid != self._table_uuid:
            message = f"{self.name} was dropped and created anew by someone else; rename it away, and {RESET} to begin a new one"
            raise TableRefused(Refusal.RECREATED, message)
        if metadata.properties.get(TOPIC_ID) != str(self._topic_id):
            message = f"{self.name} belongs to topic id {metadata.properties.get(TOPIC_ID)}, not to {self._topic_id}"
            raise TableRefused(Refusal.FOREIGN, message)
        if metadata.properties.get(LAYOUT) != LAYOUT_VERSION:
            message = f"{self.name} has layout version {metadata.properties.get(LAYOUT)}; this version writes {LAYOUT_VERSION}"
            raise TableRefused(Refusal.FOREIGN, message)
        try:
            mark = read_watermark(metadata.properties)
            own = [one for one in _main_ancestry(metadata) if _summary(one, OFFSETS)]
            newest = parse_offsets(_summary(own[0], OFFSETS)) if own else None
        except WatermarkUnreadable as error:
            raise TableRefused(Refusal.UNREADABLE, f"{self.name}: {error}; restore the property") from error
        if mark.epoch > self._epoch:
            raise CommitterFenced(f"{self.name} was written under epoch {mark.epoch}; this committer has {self._epoch}")
        self._refuse_rollback(mark, newest)
        return TableState(table, mark, frozenset({mark.batch_id, *(_summary(one, BATCH_ID) for one in own)}))

    def _refuse_rollback(self, mark: Watermark, newest: Mapping[int, int] | None) -> None:
        """A rollback by others moves the rows back but not the property, a restored catalog moves both."""
        words = "" if newest is None else goes_back(mark.offsets, newest)
        if words:
            message = f"{self.name} was rolled back by someone else: its rows end where {words}; roll it forward again"
            raise TableRefused(Refusal.ROLLED_BACK, message)
        words = goes_back(self._floor, mark.offsets)
        if words:
            message = f"{self.name} is behind what was committed to it ({words}): was the catalog restored? Then {RESET} to go on from there"
            raise TableRefused(Refusal.ROLLED_BACK, message)

    def _staged(self, state: TableState, change: Change, mark: Watermark) -> tuple[TableUpdate, ...]:
        """The updates of one commit: the snapshot, the properties, and old snapshots leaving the metadata."""
        staging = _Staging(state.table)
        entries = mark.properties() | {TOPIC_ID: str(self._topic_id), LAYOUT: LAYOUT_VERSION}
        snapshots = staging.update_snapshot(snapshot_properties=entries)
        producer: _SnapshotProducer[object]
        # With manifest merging on, an append's manifests stay few; without it its cost would grow with every commit.
        producer = snapshots.overwrite() if change.removed else snapshots.merge_append()  # type: ignore[assignment]
        for file in change.removed:
            producer.delete_data_file(file)
        for file in change.added:
            producer.append_data_file(file)
        updates, _ = producer._commit()
        updates += (SetPropertiesUpdate(updates=mark.properties()),)
        expired = _expired(state.table.metadata, self._snapshots_kept - 1)
        if expired:
            updates += (RemoveSnapshotsUpdate(snapshot_ids=expired),)
        return updates

    def _resolved(self, change: Change, error: Exception) -> Outcome:
        """Find out by reading what became of a commit that the catalog reported as failed."""
        words = f"{type(error).__name__}: {error}"
        try:
            state = self.read()
        except TableRefused as refused:
            return Outcome(Result.REFUSED, str(refused), refusal=refused.reason)
        except CommitterFenced as fenced:
            return Outcome(Result.FENCED, str(fenced))
        except CatalogDown as down:
            return Outcome(Result.UNKNOWN, f"{words}; then {down}")
        if change.batch_id in state.batch_ids:
            return Outcome(Result.ALREADY_THERE, f"landed although reported as {words}", state)
        # A commit still under way can't land after a later one: it swaps the metadata location that it has read.
        return Outcome(Result.CONFLICT, words, state)

    def _after(self, state: TableState, response: CommitTableResponse, mark: Watermark) -> TableState:
        table = Table(
            self._identifier, response.metadata, response.metadata_location, state.table.io, state.table.catalog
        )
        return TableState(table, mark, state.batch_ids | {mark.batch_id})


def _summary(snapshot: Snapshot, name: str) -> str:
    """A summary entry, or an empty string."""
    return "" if snapshot.summary is None else snapshot.summary.additional_properties.get(name, "")


def _main_ancestry(metadata: TableMetadata) -> list[Snapshot]:
    """Snapshots of the main branch, newest first."""
    return list(ancestors_of(metadata.snapshot_by_name(MAIN_BRANCH), metadata))


def _expired(metadata: TableMetadata, kept: int) -> list[int]:
    """Snapshots of main beyond the newest `kept`, except what tags and other branches reach."""
    reached = {
        one.snapshot_id
        for name, ref in metadata.refs.items()
        if name != MAIN_BRANCH
        for one in ancestors_of(metadata.snapshot_by_id(ref.snapshot_id), metadata)
    }
    return [one.snapshot_id for one in _main_ancestry(metadata)[kept:] if one.snapshot_id not in reached]


def _drop_old_metadata(base: Table, committed: TableMetadata) -> None:
    """After a commit that is known to stand: delete metadata files that fell out of the table's metadata log.

    One that can't be deleted now is left to the sweeper of unreferenced files.
    """
    gone = {entry.metadata_file for entry in base.metadata.metadata_log}
    gone -= {entry.metadata_file for entry in committed.metadata_log}
    for location in sorted(gone):
        try:
            base.io.delete(location)
        except OSError:
            continue
