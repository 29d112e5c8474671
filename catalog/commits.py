"""The commit transaction: a group of uploaded objects becomes visible, in order, wholly or not at all.

Lock order, the same everywhere: epoch -> object -> shards sorted -> producers. The number of statements is constant,
whatever the number of objects and batches. Invariants owned here:

- an object is committed at most once; committing it again answers the stored outcome (a retry after a lost reply);
- nothing is committed under an epoch that is lost or over age, and nothing that is condemned;
- every commit holds its epochs' row locks to its end, so whoever takes such a lock knows that no earlier commit under
  that epoch is still in flight: `resolve`, `DeletionStore.condemn` and `EpochStore.retire` rely on it;
- an object's row counts the extents that lie in it (`catalog/retained.py` counts them off again).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from catalog.commit_memory import CommitMemory, CommitRows, EpochRow
from catalog.database import Columns, Database, Transaction
from catalog.outcomes import pack_outcome, pack_producer_batches, unpack_outcome, unpack_producer_batches
from catalog.sequence import (
    BatchOutcome,
    Extent,
    ObjectFacts,
    ProducerKey,
    ProducerState,
    Sequenced,
    ShardKey,
    ShardState,
    extents_of,
    sequence,
)

BATCHES_SMALL = 32
"""Up to here a commit takes less time than the way to a thread and back."""
Reason = Literal["epoch-lost", "too-old", "condemned", "predecessor"]

_EPOCH: Columns = (("epoch", "bigint"),)
_OBJECT: Columns = (("object_id", "bigint"),)
_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_PRODUCER: Columns = (*_SHARD, ("producer_id", "bigint"))
_SHARD_STATE: Columns = (*_SHARD, ("high_watermark", "bigint"), ("append_ms", "bigint"))
_PRODUCER_STATE: Columns = (*_PRODUCER, ("producer_epoch", "integer"), ("batches", "blob"))
_OBJECT_ROW: Columns = (
    *_OBJECT,
    ("name", "text"),
    ("bytes", "bigint"),
    ("outcome", "blob"),
    ("extents_live", "integer"),
)
_EXTENT: Columns = (
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


@dataclass(frozen=True, slots=True)
class Committed:
    """An object that is committed: what each of its batches is told, and where its accepted bytes lie."""

    outcomes: tuple[BatchOutcome, ...]
    extents: tuple[Extent, ...]
    replayed: bool = False
    """True where the object had been committed before, and this is its stored outcome."""

    def high_watermarks(self) -> dict[ShardKey, int]:
        """The high watermark of each shard that this object moved, right after it."""
        return {(extent.topic, extent.shard): extent.offset_next for extent in self.extents}


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that was not committed, and won't be under this id.

    `epoch-lost`: take a new epoch and upload again. `too-old`: its epoch was issued too long ago, or its outcome is
    forgotten. `condemned`: the sweeper is deleting it. `predecessor`: an object before it in the group was refused;
    to keep upload order nothing after that is committed, and this one may be committed again in a later group.
    """

    reason: Reason


ObjectOutcome = Committed | Refused


def epoch_of(object_id: int) -> int:
    """The agent epoch of an object id."""
    return object_id >> 32


class CommitStore:
    """Commits groups and answers what became of them."""

    def __init__(self, db: Database, *, epoch_age_max_ms: int) -> None:
        self._db = db
        self._epoch_age_max_ms = epoch_age_max_ms
        self._memory = CommitMemory()

    async def commit(self, group: Sequence[ObjectFacts]) -> list[ObjectOutcome]:
        """Commit a group in its order, in one transaction; one outcome per object.

        Raises Unreachable (nothing happened) and CommitUnknown (`resolve`, or `commit` the same group again).
        """
        assert len({facts.object_id for facts in group}) == len(group), "an object stands twice in one group"

        async def body(tx: Transaction) -> tuple[list[ObjectOutcome], CommitRows, Hashable | None, CommitRows]:
            before, after = self._memory.rows(await tx.version()), CommitRows()
            epochs = after.epochs = await self._lock_epochs(tx, group, before)
            now_ms, stored, condemned = await self._read_objects(tx, group)
            answers: list[ObjectOutcome] = []
            fresh: list[ObjectFacts] = []
            broken = False
            for facts in group:
                known = _stored_answer(facts, stored)
                if known is not None:
                    answers.append(known)
                    continue
                reason = _refusal(facts.object_id, epochs, condemned, now_ms, self._epoch_age_max_ms)
                if reason is None and broken:
                    reason = "predecessor"
                if reason is not None:
                    answers.append(Refused(reason))
                    broken = True
                else:
                    answers.append(_PENDING)
                    fresh.append(facts)
            if fresh:
                committed = iter(await _commit_fresh(tx, fresh, now_ms, before, after))
                answers = [next(committed) if answer is _PENDING else answer for answer in answers]
            return answers, before, await tx.version(), after

        small = sum(len(facts.batches) for facts in group) <= BATCHES_SMALL
        answers, before, version, after = await self._db.transact(body, small=small)
        self._memory.learn(before, version, after)
        return answers

    async def resolve(self, objects: Sequence[ObjectFacts]) -> dict[int, ObjectOutcome | None]:
        """What became of objects whose commit is unknown: the outcome, or None where they are certainly not committed.

        Takes the epochs' locks, so that a commit still in flight has ended before it is looked for.
        """

        async def body(tx: Transaction) -> dict[int, ObjectOutcome | None]:
            await self._lock_epochs(tx, objects, CommitRows())
            _, stored, _ = await self._read_objects(tx, objects)
            return {facts.object_id: _stored_answer(facts, stored) for facts in objects}

        return await self._db.transact(body)

    async def prune_outcomes(self, older_than_ms: int) -> int:
        """Forget outcomes committed longer ago than that (at least twice the commit deadline); the rows stay."""
        return await self._db.transact(
            lambda tx: tx.execute(
                "UPDATE objects SET outcome = NULL WHERE outcome IS NOT NULL AND committed_ms < {now_ms} - $1",
                older_than_ms,
            )
        )

    async def prune_producers(self, idle_ms: int) -> int:
        """Forget producers that have been idle for that long (Kafka's producer.id.expiration.ms)."""
        return await self._db.transact(
            lambda tx: tx.execute("DELETE FROM producers WHERE updated_ms < {now_ms} - $1", idle_ms)
        )

    async def _lock_epochs(
        self, tx: Transaction, group: Sequence[ObjectFacts], known: CommitRows
    ) -> dict[int, EpochRow]:
        """The epochs' rows, locked until the transaction ends; not read where they are known, and so nobody else writes."""
        wanted = sorted({epoch_of(facts.object_id) for facts in group})
        found = {epoch: known.epochs[epoch] for epoch in wanted if epoch in known.epochs}
        rows = await tx.fetch_rows(_LOCK_EPOCHS, _EPOCH, [(epoch,) for epoch in wanted if epoch not in found])
        found.update({epoch: (issued, until, retired) for epoch, issued, until, retired in rows})
        return found

    async def _read_objects(
        self, tx: Transaction, group: Sequence[ObjectFacts]
    ) -> tuple[int, dict[int, bytes | None], set[int]]:
        """The database's clock (read behind the locks), stored outcomes by object id, and which ids are condemned."""
        rows = await tx.fetch_rows(_READ_OBJECTS, _OBJECT, [(facts.object_id,) for facts in group])
        now_ms = rows[0][0] if rows else await tx.now_ms()
        stored = {row[1]: row[3] for row in rows if row[2] is not None}
        return now_ms, stored, {row[1] for row in rows if row[4] is not None}


_PENDING = Committed((), ())
_LOCK_EPOCHS = (
    "SELECT e.epoch, e.issued_ms, e.lease_until_ms, e.retired FROM {rows} AS r "
    "JOIN epochs AS e ON e.epoch = r.epoch ORDER BY e.epoch {for_update:e}"
)
_READ_OBJECTS = (
    "SELECT {now_ms}, r.object_id, o.object_id, o.outcome, c.object_id FROM {rows} AS r "
    "LEFT JOIN objects AS o ON o.object_id = r.object_id LEFT JOIN condemned AS c ON c.object_id = r.object_id"
)
_LOCK_SHARDS = (
    "SELECT s.topic, s.shard, s.high_watermark, s.log_start, s.append_ms FROM {rows} AS r "
    "JOIN shards AS s ON s.topic = r.topic AND s.shard = r.shard "
    "JOIN topics AS t ON t.topic = s.topic WHERE t.deleted_ms IS NULL ORDER BY s.topic, s.shard {for_update:s}"
)
_READ_PRODUCERS = (
    "SELECT p.topic, p.shard, p.producer_id, p.producer_epoch, p.batches FROM {rows} AS r "
    "JOIN producers AS p ON p.topic = r.topic AND p.shard = r.shard AND p.producer_id = r.producer_id"
)
_INSERT_OBJECTS = (
    "INSERT INTO objects (object_id, name, bytes, committed_ms, outcome, extents_live) "
    "SELECT r.object_id, r.name, r.bytes, $1, r.outcome, r.extents_live FROM {rows} AS r"
)
_INSERT_EXTENTS = (
    "INSERT INTO extents (topic, shard, offset_first, offset_next, object_id, byte_first, byte_length, batches, "
    "timestamp_max, append_ms) SELECT r.topic, r.shard, r.offset_first, r.offset_next, r.object_id, r.byte_first, "
    "r.byte_length, r.batches, r.timestamp_max, r.append_ms FROM {rows} AS r"
)
_UPDATE_SHARDS = (
    "UPDATE shards SET high_watermark = r.high_watermark, append_ms = r.append_ms FROM {rows} AS r "
    "WHERE shards.topic = r.topic AND shards.shard = r.shard"
)
_UPSERT_PRODUCERS = (
    "INSERT INTO producers (topic, shard, producer_id, producer_epoch, batches, updated_ms) "
    "SELECT r.topic, r.shard, r.producer_id, r.producer_epoch, r.batches, $1 FROM {rows} AS r WHERE true "
    "ON CONFLICT (topic, shard, producer_id) DO UPDATE SET "
    "producer_epoch = excluded.producer_epoch, batches = excluded.batches, updated_ms = excluded.updated_ms"
)


def _stored_answer(facts: ObjectFacts, stored: Mapping[int, bytes | None]) -> ObjectOutcome | None:
    """The answer of an object that is committed already; None for a new one."""
    if facts.object_id not in stored:
        return None
    packed = stored[facts.object_id]
    if packed is None:
        return Refused("too-old")
    outcomes = unpack_outcome(packed)
    return Committed(outcomes, extents_of(facts, outcomes), replayed=True)


def _refusal(
    object_id: int,
    epochs: Mapping[int, tuple[int, int, int]],
    condemned: set[int],
    now_ms: int,
    epoch_age_max_ms: int,
) -> Reason | None:
    """Why a new object may not be committed, or None."""
    epoch = epochs.get(epoch_of(object_id))
    if epoch is None:
        return "epoch-lost"
    issued_ms, lease_until_ms, retired = epoch
    if retired or lease_until_ms <= now_ms:
        return "epoch-lost"
    if now_ms - issued_ms > epoch_age_max_ms:
        return "too-old"
    if object_id in condemned:
        return "condemned"
    return None


async def _commit_fresh(
    tx: Transaction, fresh: Sequence[ObjectFacts], now_ms: int, known: CommitRows, after: CommitRows
) -> list[Committed]:
    """Sequence new objects and write what came out; the rows as they are afterwards go into `after`."""
    shards = await _lock_shards(tx, fresh, known.shards)
    producers = await _read_producers(tx, fresh, known.producers)
    done = sequence(fresh, shards, producers, now_ms)
    after.shards = shards | done.shards
    after.producers = producers | done.producers
    extents = _extents_by_object(done)
    await tx.execute_rows(
        _INSERT_OBJECTS,
        _OBJECT_ROW,
        [
            (o.object_id, o.name, o.bytes, pack_outcome(out), len(extents.get(o.object_id, ())))
            for o, out in zip(fresh, done.outcomes, strict=True)
        ],
        now_ms,
    )
    await tx.execute_rows(_INSERT_EXTENTS, _EXTENT, done.extents)
    await tx.execute_rows(
        _UPDATE_SHARDS, _SHARD_STATE, [(*key, s.high_watermark, s.append_ms) for key, s in done.shards.items()]
    )
    await tx.execute_rows(
        _UPSERT_PRODUCERS,
        _PRODUCER_STATE,
        [(*key, state.epoch, pack_producer_batches(state.batches)) for key, state in done.producers.items()],
        now_ms,
    )
    return [
        Committed(outcomes, tuple(extents.get(facts.object_id, ())))
        for facts, outcomes in zip(fresh, done.outcomes, strict=True)
    ]


async def _lock_shards(
    tx: Transaction, fresh: Sequence[ObjectFacts], known: Mapping[ShardKey, ShardState]
) -> dict[ShardKey, ShardState]:
    """The live shards of these objects, locked in sorted order; not read where they are known."""
    wanted = sorted({batch[:2] for facts in fresh for batch in facts.batches})
    found = {key: known[key] for key in wanted if key in known}
    rows = await tx.fetch_rows(_LOCK_SHARDS, _SHARD, [key for key in wanted if key not in found])
    for topic, shard, watermark, start, append in rows:
        found[topic, shard] = ShardState(watermark, start, append)
    return found


async def _read_producers(
    tx: Transaction, fresh: Sequence[ObjectFacts], known: Mapping[ProducerKey, ProducerState]
) -> dict[ProducerKey, ProducerState]:
    """What the database has of the idempotent producers of these objects. The shards' locks cover their producers."""
    wanted = sorted({(b.topic, b.shard, b.producer_id) for facts in fresh for b in facts.batches if b.producer_id >= 0})
    found = {key: known[key] for key in wanted if key in known}
    rows = await tx.fetch_rows(_READ_PRODUCERS, _PRODUCER, [key for key in wanted if key not in found])
    for topic, shard, producer, epoch, batches in rows:
        found[topic, shard, producer] = ProducerState(epoch, unpack_producer_batches(batches))
    return found


def _extents_by_object(done: Sequenced) -> dict[int, list[Extent]]:
    extents: dict[int, list[Extent]] = {}
    for extent in done.extents:
        extents.setdefault(extent.object_id, []).append(extent)
    return extents
