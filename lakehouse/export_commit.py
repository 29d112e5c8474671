"""Commits what waits in the ledger to its table, and takes note of what came of it.

Invariants owned here: one table commit takes everything that waits, and is followed by the ledger's own note of it;
whatever did not land for certain ends in an error after which the topic is opened anew; nothing is sent twice from here.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from catalog.exports import LedgerFile
from catalog.leases import Lease
from lakehouse.commit import CatalogDown, Change, CommitterFenced, Outcome, Result
from lakehouse.data_files import OtherSpec, data_file, files_of
from lakehouse.export_tables import OpenTable
from lakehouse.export_world import ExportWorld
from lakehouse.ledger_recovery import chunk_of, data_of


class Reopen(Exception):
    """What was believed of a table or of the ledger doesn't hold any more: open the topic again."""


class CommitRefused(Exception):
    """The table is not ours to write to any more; the message says what a person can do."""


def is_waiting(opened: OpenTable, *, force: bool) -> bool:
    """True where there is something to commit. Ranges without rows wait for rows, or for `force`."""
    return bool(opened.waiting) and (force or bool(opened.removed) or bool(data_of(opened.waiting)))


async def commit_waiting(world: ExportWorld, lease: Lease, opened: OpenTable, valid_through_ms: int) -> int:
    """Commit; answers the records that came with it. Raises Reopen, CommitRefused, CommitterFenced, CatalogDown, LeaseLost."""
    files = files_of(data_of(opened.waiting))
    before, after = covered(opened.waiting)
    batch_id = chunk_of(opened.waiting[-1])
    ids = [one.id for one in opened.waiting]
    state = opened.state

    def send() -> Outcome:
        added = [data_file(state.table, opened.footers.get(one.path, one)) for one in files]
        change = Change(batch_id, before, after, valid_through_ms, added, opened.removed)
        return opened.committer.commit(state, change)

    try:
        outcome: Outcome = await world.blocking(send)
    except (FileNotFoundError, OtherSpec, pa.ArrowInvalid) as error:
        await world.exports.mark_abandoned(ids, batch_id, lease.name, lease.epoch)
        raise Reopen(f"a data file that waited for its commit can't be used: {error}") from error
    world.checkpoint(f"committed {opened.kind}")
    _must_have_landed(opened, outcome)
    assert outcome.state is not None
    await world.exports.mark_committed(ids, outcome.state.watermark.batch_id, lease.name, lease.epoch)
    records = sum(one.row_count for one in opened.waiting)
    opened.state, opened.waiting, opened.removed = outcome.state, [], []
    opened.footers.clear()
    opened.committed_ms = world.clock.now_ms()
    world.checkpoint(f"marked {opened.kind}")
    return records


def _must_have_landed(opened: OpenTable, outcome: Outcome) -> None:
    if outcome.result is Result.REFUSED:
        raise CommitRefused(outcome.message)
    if outcome.result is Result.FENCED:
        raise CommitterFenced(outcome.message)
    if outcome.result is Result.UNKNOWN:
        raise CatalogDown(f"{opened.name}: {outcome.message}")
    if not outcome.result.landed or outcome.state is None:
        raise Reopen(f"{opened.name}: {outcome.message}")


def covered(waiting: Sequence[LedgerFile]) -> tuple[dict[int, int], dict[int, int]]:
    """Partition -> first and next offset of what waits."""
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for one in waiting:
        before[one.shard] = min(before.get(one.shard, one.offset_first), one.offset_first)
        after[one.shard] = max(after.get(one.shard, 0), one.offset_next)
    return before, after
