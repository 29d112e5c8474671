"""Compaction's part of the metadata: what could be rewritten, and the swap of old extents for new ones.

A swap puts one new object in place of many old extents in one transaction. Invariants owned here:

- an extent is replaced only while it is exactly what was read (object, bytes, offsets), and records are never brought
  back: nothing that ended at or below the log start, nor a deleted topic's, is taken into a new object;
- offsets stay: an output covers exactly the offsets of its inputs, which are adjacent;
- every object's row counts the extents that lie in it, so what was replaced becomes deletable like anything unused;
- the new object is held to what every commit is: a live epoch, not over age, not condemned, an id never used before.

Lock order: (lease) -> epoch -> object -> extents sorted -> objects that lose extents, sorted. `RetainedStore.trim` locks
the same extents before it removes them. No shard is locked: a swap never holds up a commit of records, but for those of
its own epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from catalog.database import Columns, Database, Transaction
from catalog.leases import Lease, check
from catalog.sequence import Extent, ShardKey

_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_AT: Columns = (*_SHARD, ("offset_next", "bigint"))
_FROM: Columns = (*_SHARD, ("above", "bigint"))
_ID: Columns = (("object_id", "bigint"),)
_RELEASED: Columns = (*_ID, ("extents", "integer"))
_OUTPUT: Columns = (
    *_SHARD,
    ("offset_first", "bigint"),
    ("offset_next", "bigint"),
    ("object_id", "bigint"),
    ("byte_first", "bigint"),
    ("byte_length", "integer"),
    ("batches", "integer"),
    ("timestamp_max", "bigint"),
    ("append_ms", "bigint"),
)
_EXTENT = (
    "e.topic, e.shard, e.offset_first, e.offset_next, e.object_id, e.byte_first, e.byte_length, e.batches, "
    "e.timestamp_max, e.append_ms"
)
_LIVE_SHARDS = (
    "SELECT s.topic, s.shard, s.log_start FROM {rows} AS r JOIN shards AS s ON s.topic = r.topic AND s.shard = r.shard "
    "JOIN topics AS t ON t.topic = s.topic WHERE t.deleted_ms IS NULL"
)
# The inner query finds the last of the $1 rows by the primary key, so that the outer one reads those and no more.
_SETTLED = (
    f"SELECT {_EXTENT}, o.name, o.committed_ms FROM {{rows}} AS r "
    "JOIN extents AS e ON e.topic = r.topic AND e.shard = r.shard AND e.offset_next > r.above "
    "AND e.offset_next <= COALESCE((SELECT x.offset_next FROM extents AS x WHERE x.topic = r.topic "
    "AND x.shard = r.shard AND x.offset_next > r.above ORDER BY x.offset_next LIMIT 1 OFFSET $1), 9223372036854775807) "
    "JOIN objects AS o ON o.object_id = e.object_id ORDER BY e.topic, e.shard, e.offset_next"
)
_LOCK_INPUTS = (
    f"SELECT {_EXTENT} FROM {{rows}} AS r JOIN extents AS e ON e.topic = r.topic AND e.shard = r.shard "
    "AND e.offset_next = r.offset_next ORDER BY e.topic, e.shard, e.offset_next {for_update:e}"
)
_LOCK_OBJECTS = (
    "SELECT o.object_id, o.committed_ms FROM {rows} AS r JOIN objects AS o ON o.object_id = r.object_id "
    "ORDER BY o.object_id {for_update:o}"
)
# The last input's row becomes the output: at no moment, whoever looks, is an offset without an extent.
_WRITE_OUTPUTS = (
    "UPDATE extents SET offset_first = r.offset_first, object_id = r.object_id, byte_first = r.byte_first, "
    "byte_length = r.byte_length, batches = r.batches, timestamp_max = r.timestamp_max, append_ms = r.append_ms "
    "FROM {rows} AS r WHERE extents.topic = r.topic AND extents.shard = r.shard AND extents.offset_next = r.offset_next"
)
_DELETE_INPUTS = (
    "DELETE FROM extents WHERE (topic, shard, offset_next) IN (SELECT r.topic, r.shard, r.offset_next FROM {rows} AS r)"
)

Reason = Literal["epoch-lost", "too-old", "condemned", "changed"]


class SettledExtent(NamedTuple):
    """An extent that may be rewritten. `committed_ms` is Unix ms by the database's clock, of its (newest) records' commit."""

    extent: Extent
    object_name: str
    committed_ms: int


@dataclass(frozen=True, slots=True)
class SettledShard:
    """A shard's extents from a position on, contiguous. `more` where there may be others behind them."""

    topic: int
    shard: int
    log_start: int
    extents: tuple[SettledExtent, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Replacement:
    """Adjacent extents of one shard, as they were read, and the one that takes their place.

    `output` covers exactly the inputs' offsets: `[inputs[0].offset_first, inputs[-1].offset_next)`. Raises ValueError.
    """

    inputs: tuple[Extent, ...]
    output: Extent

    def __post_init__(self) -> None:
        inputs, output = self.inputs, self.output
        keys = {(extent.topic, extent.shard) for extent in (*inputs, output)}
        if (
            not inputs
            or len(keys) != 1
            or any(one.offset_next != other.offset_first for one, other in pairwise(inputs))
            or (output.offset_first, output.offset_next) != (inputs[0].offset_first, inputs[-1].offset_next)
        ):
            raise ValueError(f"{output} doesn't cover exactly the offsets of {inputs}")


@dataclass(frozen=True, slots=True)
class SwapFacts:
    """One uploaded object and what it replaces; every output lies in it. `object_id` is epoch << 32 | sequence."""

    object_id: int
    name: str
    bytes: int
    replacements: tuple[Replacement, ...]


@dataclass(frozen=True, slots=True)
class Swapped:
    """The object is in place. `applied` are those of its replacements that took effect; the others' inputs had changed, and
    what the object holds for them is dead. With `replayed` (swapped before): those whose output still stands."""

    applied: tuple[Replacement, ...]
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nothing was changed and the object is an orphan. `changed`: of no replacement the inputs are as they were.

    `epoch-lost`, `too-old`, `condemned`: as in `catalog.commits.Refused`.
    """

    reason: Reason


SwapOutcome = Swapped | Dropped
Also = Callable[[Transaction, tuple[Replacement, ...]], Awaitable[None]]
"""Further writes of the swap's transaction; given the replacements that take effect."""


class CompactionStore:
    """Reads of what may be rewritten, and swaps."""

    def __init__(self, db: Database, *, epoch_age_max_ms: int) -> None:
        self._db = db
        self._epoch_age_max_ms = epoch_age_max_ms

    async def settled(
        self, positions: Sequence[tuple[int, int, int]], settle_ms: int, rows_max: int
    ) -> tuple[int, list[SettledShard]]:
        """The database's clock (Unix ms), and of each live shard (topic, shard, offset) its next extents that end above the
        offset and the log start, in order, up to the first that was committed less than `settle_ms` ago; at most `rows_max`.

        One snapshot. Each shard may stand once.
        """

        async def body(tx: Transaction) -> tuple[int, list[SettledShard]]:
            now_ms = await tx.now_ms()
            starts = await _log_starts(tx, [position[:2] for position in positions])
            above = [
                (topic, shard, max(offset, starts[topic, shard]))
                for topic, shard, offset in positions
                if (topic, shard) in starts
            ]
            found: dict[ShardKey, list[SettledExtent]] = {}
            for row in await tx.fetch_rows(_SETTLED, _FROM, above, rows_max - 1):
                found.setdefault((row[0], row[1]), []).append(SettledExtent(Extent._make(row[:10]), row[10], row[11]))
            return now_ms, [
                _shard(key, starts[key], found.get(key, []), now_ms - settle_ms, rows_max)
                for key in (row[:2] for row in above)
            ]

        return await self._db.snapshot(body)

    async def swap(self, facts: SwapFacts, lease: Lease | None = None, also: Also | None = None) -> SwapOutcome:
        """Put the object in place of the inputs of those replacements whose inputs are as they were read.

        With `lease` it is held to the end of the transaction. `also` runs in the same transaction where anything takes
        effect (may run again from the start; no effects of its own). The same swap again answers `replayed` and changes
        nothing, so it may be sent again after CommitUnknown. Raises LeaseLost, Unreachable, CommitUnknown.
        """
        assert all(one.output.object_id == facts.object_id for one in facts.replacements), "outputs lie in the object"

        async def body(tx: Transaction) -> SwapOutcome:
            if lease is not None:
                await check(tx, lease.name, lease.epoch)
            stored, reason = await self._judge(tx, facts.object_id)
            if stored:
                return Swapped(await _standing(tx, facts), replayed=True)
            if reason is not None:
                return Dropped(reason)
            applied = await _unchanged(tx, facts.replacements)
            if not applied:
                return Dropped("changed")
            await _replace(tx, facts, applied)
            if also is not None:
                await also(tx, applied)
            return Swapped(applied)

        return await self._db.transact(body)

    async def resolve(self, facts: SwapFacts) -> Swapped | None:
        """What became of a swap whose outcome is unknown; None where it certainly didn't happen.

        Takes the epoch's lock, so that a swap still in flight has ended before it is looked for.
        """

        async def body(tx: Transaction) -> Swapped | None:
            stored, _ = await self._judge(tx, facts.object_id)
            return Swapped(await _standing(tx, facts), replayed=True) if stored else None

        return await self._db.transact(body)

    async def _judge(self, tx: Transaction, object_id: int) -> tuple[bool, Reason | None]:
        """(is the object in place, why it may not come in). Holds the epoch's row to the end of the transaction."""
        epochs = await tx.fetch(
            "SELECT issued_ms, lease_until_ms, retired FROM epochs WHERE epoch = $1 {for_update}", object_id >> 32
        )
        now_ms = await tx.now_ms()
        if await tx.fetch("SELECT 1 FROM objects WHERE object_id = $1", object_id):
            return True, None
        if not epochs or epochs[0][2] or epochs[0][1] <= now_ms:
            return False, "epoch-lost"
        if now_ms - epochs[0][0] > self._epoch_age_max_ms:
            return False, "too-old"
        if await tx.fetch("SELECT 1 FROM condemned WHERE object_id = $1", object_id):
            return False, "condemned"
        return False, None


def _shard(
    key: ShardKey, log_start: int, extents: Sequence[SettledExtent], before_ms: int, rows_max: int
) -> SettledShard:
    """Cut at the first extent that isn't settled, and at a gap, which is no business of compaction."""
    taken: list[SettledExtent] = []
    for one in extents:
        if one.committed_ms > before_ms or (taken and taken[-1].extent.offset_next != one.extent.offset_first):
            break
        taken.append(one)
    return SettledShard(*key, log_start, tuple(taken), len(taken) == len(extents) == rows_max)


async def _log_starts(tx: Transaction, keys: Sequence[ShardKey]) -> dict[ShardKey, int]:
    rows = await tx.fetch_rows(_LIVE_SHARDS, _SHARD, keys)
    return {(topic, shard): log_start for topic, shard, log_start in rows}


async def _unchanged(tx: Transaction, replacements: Sequence[Replacement]) -> tuple[Replacement, ...]:
    """Those whose every input is still there, the same, above the log start of a live topic; their rows are locked."""
    wanted = sorted({(e.topic, e.shard, e.offset_next) for one in replacements for e in one.inputs})
    there = {Extent._make(row): None for row in await tx.fetch_rows(_LOCK_INPUTS, _AT, wanted)}
    starts = await _log_starts(tx, sorted({row[:2] for row in wanted}))
    return tuple(one for one in replacements if _is_unchanged(one, there, starts))


def _is_unchanged(one: Replacement, there: dict[Extent, None], starts: dict[ShardKey, int]) -> bool:
    first = one.inputs[0]
    start = starts.get((first.topic, first.shard))
    return start is not None and first.offset_next > start and all(extent in there for extent in one.inputs)


async def _replace(tx: Transaction, facts: SwapFacts, applied: Sequence[Replacement]) -> None:
    released = Counter(extent.object_id for one in applied for extent in one.inputs)
    locked = await tx.fetch_rows(_LOCK_OBJECTS, _ID, [(object_id,) for object_id in sorted(released)])
    # As old as its newest input: retention and the export's pin judge records by when they were committed.
    committed_ms = max(committed for _, committed in locked)
    await tx.execute(
        "INSERT INTO objects (object_id, name, bytes, committed_ms, outcome, extents_live) "
        "VALUES ($1, $2, $3, $4, NULL, $5)",
        facts.object_id,
        facts.name,
        facts.bytes,
        committed_ms,
        len(applied),
    )
    written = await tx.execute_rows(_WRITE_OUTPUTS, _OUTPUT, [one.output for one in applied])
    assert written == len(applied), "the inputs' rows are locked"
    await tx.execute_rows(
        _DELETE_INPUTS, _AT, [(e.topic, e.shard, e.offset_next) for one in applied for e in one.inputs[:-1]]
    )
    await tx.execute_rows(
        "UPDATE objects SET extents_live = extents_live - r.extents FROM {rows} AS r "
        "WHERE objects.object_id = r.object_id",
        _RELEASED,
        sorted(released.items()),
    )


async def _standing(tx: Transaction, facts: SwapFacts) -> tuple[Replacement, ...]:
    """The replacements whose outputs are there."""
    wanted = sorted((o.topic, o.shard, o.offset_next) for o in (one.output for one in facts.replacements))
    there = {Extent._make(row): None for row in await tx.fetch_rows(_LOCK_INPUTS, _AT, wanted)}
    return tuple(one for one in facts.replacements if one.output in there)
