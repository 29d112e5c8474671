"""A database that is lost and built again from the bucket, on every implementation of the database port."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker.agent_core import AgentCore
from broker.clock import SystemClock
from broker.cluster_identity import ClusterMismatch
from broker.fsck.segments import SegmentFsck
from broker.journal.restore import RestoreImpossible, restore_cluster
from broker.journal.snapshot_job import SnapshotJob
from broker.objects.memory import MemoryStore
from broker.services import FetchPart, TopicView
from catalog.bucket import BucketStore
from catalog.deletions import DeletionStore, StoredObject
from catalog.dump import LEFT_OUT, dump, shapes
from catalog.inline import InlineDatabase
from catalog.leases import Lease, LeaseStore
from catalog.log_starts import LogStartStore
from catalog.migrate import migrate
from catalog.quotas import QuotaChange, QuotaStore
from catalog.restore import NotEmpty
from schemas.settings import Settings
from schemas.snapshot import SnapshotError, read_snapshot
from tests.conformance.database_kinds import OpenDatabase
from tests.data_path import Produced, batch_of, running_core, values_in

QUIET: dict[str, Any] = {"journal_interval_ms": 3_600_000, "roles": "broker", "object_delete_delay_ms": 30_000}


class Turn:
    """A turn of the snapshot job."""

    progress = ""
    over = False

    def __init__(self, lease: Lease) -> None:
        self.lease = lease

    async def breathe(self) -> None:
        """Nobody waits."""

    async def save(self, progress: str) -> None:
        """Nothing to save."""


class Lost:
    """A cluster in memory whose database will be lost."""

    def __init__(self) -> None:
        self.store = MemoryStore(SystemClock().now_ms)
        self.database = InlineDatabase(SystemClock().now_ms)
        self.values = Settings(**QUIET)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[AgentCore]:
        await migrate(self.database)
        async with running_core(store=self.store, database=self.database.handle(), **QUIET) as core:
            self.cluster_id = core.cluster.cluster_id
            yield core
            core.journal._waiting.clear()  # it is killed: what isn't in the bucket by now never will be

    async def snapshot(self) -> None:
        lease = await LeaseStore(self.database).acquire("snapshot", "me", 100_000)
        assert lease is not None
        job = SnapshotJob(self.database, self.store, self.values, cluster_id=self.cluster_id)
        assert not await job.run_once(Turn(lease))
        await LeaseStore(self.database).release(lease)

    def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in self.database._connection.execute(sql).fetchall()]


async def put(core: AgentCore, topic: TopicView, *values: bytes, shard: int = 0, sequence: int = -1) -> int:
    """One batch; its first offset."""
    more = {"producer_id": 5, "producer_epoch": 0, "base_sequence": sequence} if sequence >= 0 else {}
    outcome = await Produced(core).send(topic, shard, batch_of(*values, **more))
    assert not outcome.error, outcome
    return outcome.offset


async def log(core: AgentCore, topic: TopicView, shard: int = 0, first: int = 0) -> list[tuple[int, bytes | None]]:
    """Every record from an offset on."""
    found: list[tuple[int, bytes | None]] = []
    [end] = await core.reader.list_offsets([(topic.topic, shard, -1)])
    at = first
    while at < end.offset:
        [part] = await core.reader.fetch(
            [FetchPart(topic.topic, shard, at, 1 << 20)], max_wait_ms=0, min_bytes=1, max_bytes=1 << 20
        )
        assert not part.error
        assert part.records
        found += [one for one in values_in(part) if one[0] >= at]
        sizes = [(row[0], row[1]) for row in await extents(core, topic.topic, shard) if row[1] > at]
        at = max(sizes[0][1], found[-1][0] + 1 if found else 0)
    return found


async def extents(core: AgentCore, topic: int, shard: int) -> list[Any]:
    """(first, next) of a shard's extents."""
    return await core.database.snapshot(
        lambda tx: tx.fetch(
            "SELECT offset_first, offset_next FROM extents WHERE topic = $1 AND shard = $2 ORDER BY offset_next",
            topic,
            shard,
        )
    )


async def test_what_was_journalled_comes_back_and_nothing_is_given_again(migrated: OpenDatabase) -> None:
    lost = Lost()
    async with lost.agent() as core:
        topic = await core.topics.create("t", 2, {"retention.ms": "-1"})
        gone = await core.topics.create("gone", 1, {})
        for n in range(4):
            await put(core, topic, b"old%d" % n, b"x", sequence=2 * n)
        await put(core, gone, b"y")
        await core.log_starts.delete_records({(topic.topic, 0): 3})
        await QuotaStore(lost.database).alter([QuotaChange((("client-id", "c"),), "producer_byte_rate", 1024.5)])
        await lost.snapshot()
        await put(core, topic, b"after", b"x", sequence=8)
        late = await core.topics.create("late", 1, {"cleanup.policy": "compact"})
        await put(core, late, b"of a topic the snapshot doesn't know")
        await put(core, topic, b"other", shard=1)
        await core.topics.delete(gone)
        await core.topics.create("gone", 1, {})
        await core.journal.round()
        assert await put(core, topic, b"lost", b"lost", b"lost") == 10
        ids = lost.rows("SELECT next FROM counters WHERE name = 'producer_id'")[0][0]
        epoch = lost.rows("SELECT next FROM counters WHERE name = 'agent_epoch'")[0][0]

    db, clock = migrated.db, SystemClock()
    with pytest.raises(ClusterMismatch, match="neve restore"):
        async with running_core(store=lost.store, database=db, **QUIET):
            pass
    before = dict(lost.store._objects)
    restored = await restore_cluster(lost.store, db, clock, random.Random(1))
    assert before.items() <= lost.store._objects.items(), "nothing in the bucket is touched"
    assert restored.gaps == [("t", 0, 10, 13)]
    assert restored.snapshot is not None
    assert restored.counts["objects_unexplained"] == 1
    with pytest.raises(NotEmpty):
        await restore_cluster(lost.store, db, clock, random.Random(2))

    report = await SegmentFsck(db, lost.store, lost.values, lost.cluster_id).run(deep=True)
    assert report.clean, report.as_dict()
    assert [name for name, _ in await BucketStore(db).holds()] == ["restored"]
    async with running_core(store=lost.store, database=db, seed=7, **QUIET) as core:
        names = {view.name: view for view in await core.topics.all()}
        assert sorted(names) == ["gone", "late", "t"]
        assert {name: view.topic_id for name, view in names.items()} == {
            "t": topic.topic_id, "late": late.topic_id, "gone": names["gone"].topic_id,
        }  # fmt: skip
        assert names["gone"].topic_id != gone.topic_id
        assert await log(core, names["t"], first=3) == [
            (3, b"x"), (4, b"old2"), (5, b"x"), (6, b"old3"), (7, b"x"), (8, b"after"), (9, b"x"),
        ]  # fmt: skip
        assert await log(core, names["t"], shard=1) == [(0, b"other")]
        assert (await log(core, names["late"]))[0][1] == b"of a topic the snapshot doesn't know"
        [start] = await core.reader.list_offsets([(topic.topic, 0, -2)])
        assert start.offset == 3
        assert await put(core, names["t"], b"new", b"x", sequence=8) == 8, "a retry of before is still known"
        assert await put(core, names["t"], b"new", b"x", sequence=10) == 13
        assert await core.services.producer_ids.issue() > ids + 1000
        assert (core.epochs.epoch or 0) > epoch
        await core.topics.create("one-more", 1, {})
    assert (await QuotaStore(db).read()).quotas == {(("client-id", "c"),): {"producer_byte_rate": 1024.5}}


async def test_a_bucket_without_snapshots_is_restored_from_journals_alone(migrated: OpenDatabase) -> None:
    lost = Lost()
    async with lost.agent() as core:
        topic = await core.topics.create("t", 1, {})
        for n in range(70):
            await put(core, topic, b"%d" % n)
        await core.journal.round()
    restored = await restore_cluster(lost.store, migrated.db, SystemClock(), random.Random(1))
    assert (restored.snapshot, restored.gaps) == (None, [])
    async with running_core(store=lost.store, database=migrated.db, seed=3, **QUIET) as core:
        assert await log(core, topic) == [(n, b"%d" % n) for n in range(70)]


async def test_nothing_is_deleted_while_on_hold_or_ahead_of_the_newest_snapshot(migrated: OpenDatabase) -> None:
    db, lease = migrated.db, await LeaseStore(migrated.db).acquire("deletion", "me", 100_000)
    assert lease is not None
    deletions = DeletionStore(db)
    one = StoredObject(5 << 32, "c/segments/5/0-00", 10)
    assert await deletions.condemn([one], lease) == [one]
    await db.transact(lambda tx: tx.execute("UPDATE condemned SET condemned_ms = 1000"))
    assert await deletions.due(0, 10) == [one]
    for covers_ms, due in ((1000, []), (1001, [one])):
        await db.transact(
            lambda tx, covers_ms=covers_ms: tx.execute(
                "INSERT INTO bucket_snapshots (name, taken_ms, covers_ms, bytes, digest) VALUES ($1, 1, $2, 1, 'x')",
                f"s{covers_ms}",
                covers_ms,
            )
        )
        assert await deletions.due(0, 10) == due
    await db.transact(lambda tx: tx.execute("INSERT INTO deletion_holds (name, reason, since_ms) VALUES ('a', 'b', 1)"))
    assert await deletions.due(0, 10) == []
    assert await deletions.condemn([StoredObject(6 << 32, "c/segments/6/0-00", 1)], lease) == []
    await BucketStore(db).lift()
    assert await deletions.due(0, 10) == [one]


async def test_every_table_is_in_a_snapshot_or_left_out_for_a_reason(migrated: OpenDatabase) -> None:
    db = migrated.db
    await LogStartStore(db).newest_change()
    head, writer = await dump(db, "c")
    found_head, tables = read_snapshot(b"".join(writer.finish()))
    assert found_head == head
    names = {table.name for table in tables}
    every = {shape.name for shape in await db.snapshot(lambda tx: shapes(tx, db.dialect))}
    assert names | set(LEFT_OUT) == every
    assert not names & set(LEFT_OUT)
    assert (await dump(db, "c"))[1].digest == writer.digest


async def test_snapshots_are_kept_renewed_and_tidied(migrated: OpenDatabase) -> None:
    lost = Lost()
    async with lost.agent() as core:
        for n in range(5):
            await lost.snapshot()
            await lost.snapshot()  # nothing has changed: no new object
            newest = await BucketStore(lost.database).newest()
            assert newest is not None
            assert newest.covers_ms >= newest.taken_ms
            await core.topics.create(f"t{n}", 1, {})
            await core.journal.round()
        kept = [key for key in lost.store._objects if "/snapshots/" in key]
        assert len(kept) == lost.values.snapshots_kept
        assert len(lost.rows("SELECT name FROM bucket_snapshots")) == lost.values.snapshots_kept
        journals = [key for key in lost.store._objects if "/journal/" in key]
        assert len(journals) == 5
        body, _ = lost.store._objects[journals[0]]
        lost.store._objects[journals[0]] = (body, 0)
        await lost.snapshot()
        assert journals[0] not in lost.store._objects, "every kept snapshot covers it"
        assert journals[1] in lost.store._objects
        newest_key = max(key for key in lost.store._objects if "/snapshots/" in key)
        body, at_ms = lost.store._objects[newest_key]
        for damaged in (body[:-1], body[:50] + bytes([body[50] ^ 1]) + body[51:], b"", b"NEVESNP1"):
            with pytest.raises(SnapshotError):
                read_snapshot(damaged)
        lost.store._objects[newest_key] = (body[:-1], at_ms)
    restored = await restore_cluster(lost.store, migrated.db, SystemClock(), random.Random(1))
    assert restored.snapshot is not None
    assert restored.snapshot < newest_key
    assert any("not used" in note for note in restored.notes)


async def test_a_prefix_without_a_cluster_is_refused(migrated: OpenDatabase) -> None:
    with pytest.raises(RestoreImpossible, match=r"cluster\.json"):
        await restore_cluster(MemoryStore(lambda: 0), migrated.db, SystemClock(), random.Random(1))
