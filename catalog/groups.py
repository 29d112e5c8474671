"""Groups and their committed offsets, written by the coordinators that hold their slots.

Invariants: a write takes effect only while its slot is held under its epoch, checked in the same transaction; a write's
parts (state, offsets) take effect together; offsets belong to a topic's number, so those of a deleted topic are gone
from every answer at once, and a topic of the same name begins without any. Writes are upserts, so one whose outcome is
unknown may be sent again as long as nothing newer was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from catalog.database import Columns, Database, Row, Transaction
from catalog.group_slots import held_slots

_OFFSET: Columns = (
    ("topic", "bigint"),
    ("shard", "integer"),
    ("committed_offset", "bigint"),
    ("leader_epoch", "integer"),
    ("metadata", "blob"),
    ("expire_ms", "bigint"),
)
_SHARD: Columns = (("topic", "bigint"), ("shard", "integer"))
_SELECT = (
    "SELECT o.topic, t.name, t.topic_id, o.shard, o.committed_offset, o.leader_epoch, o.metadata, o.committed_ms, "
    "o.expire_ms FROM group_offsets AS o JOIN topics AS t ON t.topic = o.topic "
    "WHERE o.group_id = $1 AND t.deleted_ms IS NULL ORDER BY t.name, o.shard"
)


@dataclass(frozen=True, slots=True)
class NewOffset:
    """One offset to commit. `expire_ms`: Unix ms, -1 for the retention that is set."""

    topic: int
    shard: int
    offset: int
    leader_epoch: int
    metadata: str
    expire_ms: int = -1


@dataclass(frozen=True, slots=True)
class StoredOffset:
    """One committed offset of a live topic."""

    topic: int
    topic_name: str
    topic_id: UUID
    shard: int
    offset: int
    leader_epoch: int
    metadata: str
    committed_ms: int
    expire_ms: int


@dataclass(frozen=True, slots=True)
class GroupWrite:
    """One write of a coordinator. `state` None leaves the state; `delete` removes the group with all its offsets."""

    slot: int
    epoch: int
    group_id: str
    state: str | None = None
    offsets: tuple[NewOffset, ...] = ()
    offsets_gone: tuple[tuple[int, int], ...] = ()
    delete: bool = False


class GroupStore:
    """The tables `consumer_groups` and `group_offsets`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def apply(self, writes: Sequence[GroupWrite]) -> list[bool]:
        """Do the writes, in order, in one transaction; False for those whose slot isn't held under their epoch any more."""

        async def body(tx: Transaction) -> list[bool]:
            held = await held_slots(tx, {write.slot: write.epoch for write in writes})
            epochs = {write.slot: write.epoch for write in writes}
            done = []
            for write in writes:
                # Of two writes under different epochs for one slot only the later epoch was looked at.
                allowed = write.slot in held and epochs[write.slot] == write.epoch
                if allowed:
                    await _apply(tx, write)
                done.append(allowed)
            return done

        return await self._db.transact(body)

    async def load(self, slot: int) -> list[tuple[str, str]]:
        """(group id, state) of a slot's groups, by id."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch("SELECT group_id, state FROM consumer_groups WHERE slot = $1", slot)
        )
        return sorted((row[0], row[1]) for row in rows)

    async def offsets(self, group_id: str) -> list[StoredOffset]:
        """A group's committed offsets in live topics, by topic name and shard, as of now."""
        return (await self.offsets_now(group_id))[1]

    async def offsets_now(self, group_id: str) -> tuple[int, list[StoredOffset]]:
        """The database's clock (Unix ms) and a group's committed offsets in live topics, by topic name and shard."""

        async def body(tx: Transaction) -> tuple[int, list[Row]]:
            return await tx.now_ms(), await tx.fetch(_SELECT, group_id)

        now_ms, rows = await self._db.snapshot(body)
        return now_ms, [
            StoredOffset(row[0], row[1], UUID(row[2]), row[3], row[4], row[5], bytes(row[6]).decode(), row[7], row[8])
            for row in rows
        ]

    async def prune_deleted_topics(self) -> int:
        """Remove the rows of offsets whose topics were deleted; how many there were."""
        return await self._db.transact(
            lambda tx: tx.execute(
                "DELETE FROM group_offsets WHERE topic IN (SELECT topic FROM topics WHERE deleted_ms IS NOT NULL)"
            )
        )


async def _apply(tx: Transaction, write: GroupWrite) -> None:
    if write.delete:
        await tx.execute("DELETE FROM consumer_groups WHERE slot = $1 AND group_id = $2", write.slot, write.group_id)
        await tx.execute("DELETE FROM group_offsets WHERE group_id = $1", write.group_id)
        return
    if write.state is not None:
        await tx.execute(
            "INSERT INTO consumer_groups (slot, group_id, state) VALUES ($1, $2, $3) "
            "ON CONFLICT (slot, group_id) DO UPDATE SET state = excluded.state",
            write.slot,
            write.group_id,
            write.state,
        )
    if write.offsets:
        last = {(offset.topic, offset.shard): offset for offset in write.offsets}
        await tx.execute_rows(
            "INSERT INTO group_offsets (group_id, topic, shard, committed_offset, leader_epoch, metadata, committed_ms, "
            "expire_ms) SELECT $1, r.topic, r.shard, r.committed_offset, r.leader_epoch, r.metadata, $2, r.expire_ms "
            "FROM {rows} AS r WHERE true ON CONFLICT (group_id, topic, shard) DO UPDATE SET "
            "committed_offset = excluded.committed_offset, leader_epoch = excluded.leader_epoch, "
            "metadata = excluded.metadata, committed_ms = excluded.committed_ms, expire_ms = excluded.expire_ms",
            _OFFSET,
            [
                (o.topic, o.shard, o.offset, o.leader_epoch, o.metadata.encode(), o.expire_ms)
                for _, o in sorted(last.items())
            ],
            write.group_id,
            await tx.now_ms(),
        )
    if write.offsets_gone:
        await tx.execute_rows(
            "DELETE FROM group_offsets WHERE group_id = $1 AND EXISTS "
            "(SELECT 1 FROM {rows} AS r WHERE r.topic = group_offsets.topic AND r.shard = group_offsets.shard)",
            _SHARD,
            sorted(write.offsets_gone),
            write.group_id,
        )
