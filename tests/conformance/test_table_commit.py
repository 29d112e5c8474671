"""The table-commit contract, on SQLite and PostgreSQL catalogs: what pyiceberg's own commit gets wrong must come out right.

The five cases: stale writer, conflict that had landed, unknown outcome that landed, unknown outcome that did not, foreign
commit in between. In each the rows end up once, the live files stay, and the watermark says what the rows say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import Warehouse, warehouse_of
from lakehouse.commit import (
    CatalogDown,
    Change,
    CommitterFenced,
    Refusal,
    Result,
    TableCommitter,
    TableRefused,
    TableState,
)
from lakehouse.open_table import open_table
from lakehouse.watermark import BATCH_ID, OFFSETS, parse_offsets, read_watermark
from tests.lake_fixtures import CLUSTER_ID, SCHEMA, TOPIC_ID, local_settings, make_table, offsets_in, spec, write_rows

Requirements = tuple[TableRequirement, ...]
Updates = tuple[TableUpdate, ...]


class Lake:
    """A catalog with one table, and a seam where commits can go wrong."""

    def __init__(self, catalog: Catalog, warehouse: Warehouse) -> None:
        self.catalog = catalog
        self.warehouse = warehouse
        self.made = make_table(catalog, warehouse)
        self.around: Callable[[Callable[[], CommitTableResponse]], CommitTableResponse] | None = None
        self.reads_fail = False

    def load_table(self, identifier: tuple[str, str]) -> Table:
        if self.reads_fail:
            raise TimeoutError("the catalog doesn't answer")
        return self.catalog.load_table(identifier)

    def commit_table(self, table: Table, requirements: Requirements, updates: Updates) -> CommitTableResponse:
        def send() -> CommitTableResponse:
            return self.catalog.commit_table(table, requirements, updates)

        around, self.around = self.around, None
        return send() if around is None else around(send)

    def committer(self, epoch: int = 1, **changes: Any) -> TableCommitter:
        uuid = self.made.metadata.table_uuid
        return TableCommitter(self, ("topics", "events"), topic_id=TOPIC_ID, table_uuid=uuid, epoch=epoch, **changes)

    @property
    def now(self) -> Table:
        return self.catalog.load_table(("topics", "events"))


@pytest.fixture(params=["sqlite", "postgres"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    metadata = request.getfixturevalue("postgres_uri") if request.param == "postgres" else None
    warehouse = warehouse_of(local_settings(tmp_path, metadata=metadata), CLUSTER_ID)
    with catalog_of(warehouse, fsync=False) as catalog:
        yield Lake(catalog, warehouse)


def change(state: TableState, first: int, next_: int, batch_id: str = "") -> Change:
    """Rows [first, next_) of partition 0."""
    file = write_rows(state.table, 0, range(first, next_))
    return Change(batch_id or f"b-{first}-{next_}", {0: first}, {0: next_}, next_ * 10, [file])


def land(committer: TableCommitter, first: int, next_: int) -> None:
    """Commit rows [first, next_) of partition 0 on the table as it is now."""
    state = committer.read()
    assert committer.commit(state, change(state, first, next_)).result is Result.COMMITTED


def test_commit_sets_rows_property_and_summary(lake: Lake) -> None:
    committer = lake.committer(epoch=7)
    outcome = committer.commit(state := committer.read(), change(state, 0, 3))
    assert outcome.result is Result.COMMITTED
    table = lake.now
    assert offsets_in(table) == {0: [0, 1, 2]}
    mark = read_watermark(table.properties)
    assert (mark.offsets, mark.epoch, mark.batch_id, mark.valid_through_ms) == ({0: 3}, 7, "b-0-3", 30)
    summary = table.current_snapshot()
    assert summary is not None
    assert summary.summary is not None
    assert parse_offsets(summary.summary.additional_properties[OFFSETS]) == {0: 3}
    assert summary.summary.additional_properties[BATCH_ID] == "b-0-3"
    assert outcome.state is not None
    assert outcome.state.watermark == mark


def test_stale_writer_lands_nothing(lake: Lake) -> None:
    """Two committers read the same state; pyiceberg would rebase the second one and double the rows."""
    first, second = lake.committer(epoch=1), lake.committer(epoch=1)
    state_first, state_second = first.read(), second.read()
    assert first.commit(state_first, change(state_first, 0, 3, "first")).result is Result.COMMITTED
    outcome = second.commit(state_second, change(state_second, 0, 3, "second"))
    assert outcome.result is Result.CONFLICT
    assert offsets_in(lake.now) == {0: [0, 1, 2]}
    # what it read again says where to go on, and the old rows are refused once more
    assert outcome.state is not None
    assert outcome.state.watermark.offsets == {0: 3}
    again = second.commit(outcome.state, change(outcome.state, 0, 3, "second"))
    assert again.result is Result.CONFLICT
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_conflict_that_had_landed_keeps_the_table_whole(lake: Lake) -> None:
    """The catalog applies the commit and answers 409; pyiceberg would delete the live snapshot's manifests."""

    def landed_then_409(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        send()
        raise CommitFailedException("branch main has changed")

    committer = lake.committer()
    lake.around = landed_then_409
    outcome = committer.commit(state := committer.read(), change(state, 0, 3))
    assert outcome.result is Result.ALREADY_THERE
    assert offsets_in(lake.now) == {0: [0, 1, 2]}
    assert outcome.state is not None
    assert committer.commit(outcome.state, change(outcome.state, 3, 5)).result is Result.COMMITTED
    assert offsets_in(lake.now) == {0: [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("error", [TimeoutError("no answer"), ConnectionResetError("reset"), RuntimeError("500")])
def test_unknown_outcome_that_landed(lake: Lake, error: Exception) -> None:
    def landed_then_lost(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        send()
        raise error

    committer = lake.committer()
    lake.around = landed_then_lost
    outcome = committer.commit(state := committer.read(), change(state, 0, 3))
    assert outcome.result is Result.ALREADY_THERE
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_unknown_outcome_that_landed_and_catalog_down(lake: Lake) -> None:
    """Nobody can be asked: unknown, until a later read finds the batch id; the change is then not applied again."""

    def landed_then_down(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        send()
        lake.reads_fail = True
        raise TimeoutError("no answer")

    committer = lake.committer()
    state = committer.read()
    first = change(state, 0, 3)
    lake.around = landed_then_down
    assert committer.commit(state, first).result is Result.UNKNOWN
    with pytest.raises(CatalogDown):
        committer.read()
    lake.reads_fail = False
    assert committer.commit(committer.read(), first).result is Result.ALREADY_THERE
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_unknown_outcome_that_did_not_land(lake: Lake) -> None:
    def lost(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        raise TimeoutError("no answer")

    committer = lake.committer()
    state = committer.read()
    first = change(state, 0, 3)
    lake.around = lost
    outcome = committer.commit(state, first)
    assert outcome.result is Result.CONFLICT
    assert offsets_in(lake.now) == {}
    # the data file is still there, so the same change goes through after a new read
    assert committer.commit(committer.read(), first).result is Result.COMMITTED
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_commit_that_lands_late_can_not_follow_a_newer_one(lake: Lake) -> None:
    """The lost request reaches the catalog after another commit: its compare-and-swap fails."""
    late: list[Callable[[], CommitTableResponse]] = []

    def lost(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        late.append(send)
        raise TimeoutError("no answer")

    committer = lake.committer()
    state = committer.read()
    first = change(state, 0, 3)
    lake.around = lost
    assert committer.commit(state, first).result is Result.CONFLICT
    assert committer.commit(committer.read(), first).result is Result.COMMITTED
    with pytest.raises(CommitFailedException):
        late[0]()
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_foreign_commit_in_between(lake: Lake) -> None:
    """A user deletes rows and sets a property meanwhile: their change stays, ours follows after a new read."""
    committer = lake.committer()
    land(committer, 0, 3)
    state = committer.read()
    lake.now.delete("_kafka_offset = 1")
    with lake.now.transaction() as transaction:
        transaction.set_properties({"owner": "somebody"})
    next_ = change(state, 3, 5)
    outcome = committer.commit(state, next_)
    assert outcome.result is Result.CONFLICT
    assert outcome.state is not None
    assert outcome.state.watermark.offsets == {0: 3}
    assert committer.commit(outcome.state, next_).result is Result.COMMITTED
    assert offsets_in(lake.now) == {0: [0, 2, 3, 4]}
    assert lake.now.properties["owner"] == "somebody"


def test_no_file_is_deleted_on_any_failure(lake: Lake, tmp_path: Path) -> None:
    committer = lake.committer()
    land(committer, 0, 3)
    stale = committer.read()
    assert committer.commit(stale, change(stale, 3, 5)).result is Result.COMMITTED
    before = {path for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    next_ = change(stale, 5, 6)
    # told that the watermark fits, so that the refusal comes from the catalog
    forced = TableState(stale.table, read_watermark(lake.now.properties), frozenset())
    assert committer.commit(forced, next_).result is Result.CONFLICT
    assert before <= {path for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    assert offsets_in(lake.now) == {0: [0, 1, 2, 3, 4]}


def test_older_epoch_is_fenced(lake: Lake) -> None:
    old, new = lake.committer(epoch=1), lake.committer(epoch=2)
    state_old, state_new = old.read(), new.read()
    assert new.commit(state_new, change(state_new, 0, 3, "new")).result is Result.COMMITTED
    assert old.commit(state_old, change(state_old, 0, 3, "old")).result is Result.FENCED
    with pytest.raises(CommitterFenced):
        old.read()
    assert offsets_in(lake.now) == {0: [0, 1, 2]}


def test_dropped_table_is_refused(lake: Lake) -> None:
    committer = lake.committer()
    state = committer.read()
    next_ = change(state, 0, 3)
    lake.catalog.drop_table(("topics", "events"))
    outcome = committer.commit(state, next_)
    assert (outcome.result, outcome.refusal) == (Result.REFUSED, Refusal.DROPPED)
    assert not lake.catalog.table_exists(("topics", "events"))
    with pytest.raises(TableRefused, match="dropped or renamed"):
        open_table(lake.catalog, spec(), state.uuid, lake.warehouse.location)


def test_recreated_table_is_refused(lake: Lake) -> None:
    committer = lake.committer()
    state = committer.read()
    next_ = change(state, 0, 3)
    lake.catalog.drop_table(("topics", "events"))
    lake.catalog.create_table(("topics", "events"), SCHEMA)
    outcome = committer.commit(state, next_)
    assert (outcome.result, outcome.refusal) == (Result.REFUSED, Refusal.RECREATED)
    assert offsets_in(lake.now) == {}
    with pytest.raises(TableRefused, match="created anew by someone else"):
        open_table(lake.catalog, spec(), state.uuid, lake.warehouse.location)
    with pytest.raises(TableRefused, match="was made by someone else"):
        open_table(lake.catalog, spec(), None, lake.warehouse.location)


def test_rollback_by_others_is_refused(lake: Lake) -> None:
    """The rows go back and the property doesn't: writing on would leave a hole."""
    committer = lake.committer()
    land(committer, 0, 3)
    rolled = committer.read()
    assert rolled.snapshot_id is not None
    assert committer.commit(rolled, change(rolled, 3, 5)).result is Result.COMMITTED
    lake.now.manage_snapshots().rollback_to_snapshot(rolled.snapshot_id).commit()
    with pytest.raises(TableRefused) as refused:
        committer.read()
    assert refused.value.reason is Refusal.ROLLED_BACK


def test_restored_catalog_is_refused(lake: Lake) -> None:
    """Rows and property go back together: only what was known to be committed shows it."""
    committer = lake.committer(floor={0: 10})
    with pytest.raises(TableRefused, match="behind what was committed"):
        committer.read()


def test_watermark_survives_expiry_by_others(lake: Lake) -> None:
    committer = lake.committer()
    for first in range(3):
        land(committer, first, first + 1)
    table = lake.now
    table.maintenance.expire_snapshots().by_ids(
        [one.snapshot_id for one in table.snapshots() if one.snapshot_id != table.metadata.current_snapshot_id]
    ).commit()
    state = committer.read()
    assert state.watermark.offsets == {0: 3}
    assert committer.commit(state, change(state, 3, 4)).result is Result.COMMITTED
    assert offsets_in(lake.now) == {0: [0, 1, 2, 3]}


def test_commits_stay_flat(lake: Lake, tmp_path: Path) -> None:
    """Snapshots, manifests and metadata files stay few however many commits there are."""
    committer = lake.committer(snapshots_kept=5)
    state = committer.read()
    tagged: int | None = None
    for first in range(45):
        outcome = committer.commit(state, change(state, first, first + 1))
        assert outcome.result is Result.COMMITTED
        assert outcome.state is not None
        state = outcome.state
        if first == 2:
            tagged = state.snapshot_id
            assert tagged is not None
            lake.now.manage_snapshots().create_tag(tagged, "kept").commit()
            state = committer.read()
    table = lake.now
    assert offsets_in(table) == {0: list(range(45))}
    assert len(table.snapshots()) <= 5 + 3
    assert tagged in {one.snapshot_id for one in table.snapshots()}
    current = table.current_snapshot()
    assert current is not None
    assert len(current.manifests(table.io)) < 25
    assert len(list((tmp_path / "objects").rglob("*.metadata.json"))) <= 13


def test_overwrite_replaces_files_under_the_same_rules(lake: Lake) -> None:
    committer = lake.committer()
    land(committer, 0, 3)
    state = committer.read()
    files = [task.file for task in state.table.scan().plan_files()]
    added = write_rows(state.table, 0, range(1, 5))
    outcome = committer.commit(state, Change("swap", {0: 3}, {0: 5}, 0, [added], files))
    assert outcome.result is Result.COMMITTED
    assert offsets_in(lake.now) == {0: [1, 2, 3, 4]}


def test_watermark_alone_moves_with_a_snapshot(lake: Lake) -> None:
    """A range without rows: the move is a snapshot too, so that a stale writer conflicts with it."""
    stale, committer = lake.committer(), lake.committer()
    state_stale = stale.read()
    assert committer.commit(committer.read(), Change("empty", {0: 0}, {0: 9}, 5)).result is Result.COMMITTED
    assert lake.now.metadata.current_snapshot_id is not None
    assert stale.commit(state_stale, change(state_stale, 0, 3)).result is Result.CONFLICT
    assert read_watermark(lake.now.properties).offsets == {0: 9}
