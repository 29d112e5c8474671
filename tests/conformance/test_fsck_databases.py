"""What `neve fsck` reads and repairs, on every implementation of the database port."""

from __future__ import annotations

from uuid import UUID

from broker.fsck.segments import SegmentFsck
from broker.objects.memory import MemoryStore
from catalog.commits import CommitStore, Committed
from catalog.epochs import EpochStore
from catalog.fsck import FsckStore
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.topics import TopicStore
from schemas.kafka.records import NewRecord, build_batch
from schemas.segment import Run, build_segment
from schemas.settings import Settings
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000


async def test_damage_is_found_and_repaired(migrated: OpenDatabase) -> None:
    db, store = migrated.db, MemoryStore(lambda: 0)
    topics = TopicStore(db)
    kept, gone = await topics.create("kept", UUID(int=1), 2, {}), await topics.create("gone", UUID(int=2), 1, {})
    epoch = (await EpochStore(db).issue("one", LONG_MS)).epoch
    records = build_batch([NewRecord(1000, None, b"x")] * 3)
    commits = CommitStore(db, epoch_age_max_ms=LONG_MS)
    for number in range(7):
        runs = [
            Run(topic.topic, topic.topic_id, shard, [records], 1, 3, 1000, 1000)
            for topic, shard in ((kept, number % 2), (gone, 0))
        ]
        built = build_segment("c", epoch, number, runs)
        name = f"c/segments/{epoch}/{number}-00"
        await store.put(name, built.parts)
        batches = tuple(
            BatchFacts(run.topic, run.shard, first, length, 3, 1000, False)
            for run, (first, length) in zip(runs, built.run_bytes, strict=True)
        )
        [outcome] = await commits.commit([ObjectFacts(epoch << 32 | number, name, built.bytes, batches)])
        assert isinstance(outcome, Committed)

    def fsck() -> SegmentFsck:
        return SegmentFsck(db, store, Settings(), "c", rows_page=3, objects_page=2)

    report = await fsck().run(deep=True)
    assert not report.findings
    assert (report.checked["extents"], report.checked["objects_read"], report.checked["listed"]) == (14, 7, 7)
    for statement in (
        "UPDATE objects SET extents_live = 9 WHERE object_id > 0",
        f"UPDATE topics SET deleted_ms = 1 WHERE topic = {gone.topic}",
        f"DELETE FROM shards WHERE topic = {gone.topic}",
        "UPDATE counters SET next = 1 WHERE name = 'agent_epoch'",
    ):
        await db.transact(lambda tx, statement=statement: tx.execute(statement))
    assert not (await fsck().run()).clean
    report = await fsck().run(repair=True)
    assert report.repaired["count-wrong"] == 7
    assert report.clean, report.as_dict()
    report = await fsck().run()
    assert not report.findings, report.as_dict()
    assert report.checked["extents"] == 7
    assert await FsckStore(db).drop_rows_of_deleted((kept.topic, 0)) is None, "a live topic's rows are left alone"
    assert await FsckStore(db).epoch(epoch) == (epoch + 1, True, None)
    assert [row.offset_first for row in await FsckStore(db).extents_of(epoch << 32 | 2)] == [3]
