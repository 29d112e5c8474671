"""`neve restore`: a lost metadata database built again from the bucket alone.

The recovery point is the journal: everything whose outcome was in the bucket comes back at its offset. Offsets that may have
been given beyond are never given again; they are filled with empty batches, which clients pass over. Writes one object (those
batches) and one transaction; a run that fails leaves the database empty and may be repeated. All agents must be down.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from broker.journal.bucket_reads import BucketReader, Found, TableMark
from broker.journal.replay import Gap, Replayed, replay
from broker.objects.cluster_file import read as read_cluster_file
from broker.objects.port import ObjectStore
from broker.services import Clock
from catalog.cluster import ClusterStore
from catalog.database import Database
from catalog.outcomes import unpack_producer_batches
from catalog.restore import EPOCHS_SKIPPED, NotEmpty, Rows, restore
from catalog.sequence import Extent, ProducerKey, ProducerState, ShardKey, ShardState
from schemas.kafka.records import wrap_payload
from schemas.segment import Run, build_segment
from schemas.snapshot import Table

FILLED_MAX = 2**31 - 1
"""Most offsets in one empty batch: last_offset_delta is an int32."""


class RestoreImpossible(Exception):
    """Nothing was restored and nothing changed; the message says what to do."""


@dataclass(slots=True)
class Restored:
    """What was restored, and up to when."""

    cluster_id: str
    snapshot: str | None
    snapshot_ms: int | None
    journal_ms: int
    counts: dict[str, int]
    gaps: list[tuple[str, int, int, int]] = field(default_factory=list)
    """(topic, partition, first, next) of offsets that are empty now."""
    notes: list[str] = field(default_factory=list)
    tables: list[TableMark] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cluster_id": self.cluster_id,
            "snapshot": self.snapshot,
            "snapshot_ms": self.snapshot_ms,
            "journal_ms": self.journal_ms,
            "counts": self.counts,
            "gaps": [list(gap) for gap in self.gaps],
            "tables": [f"{mark.namespace}.{mark.name}" for mark in self.tables],
            "notes": self.notes,
        }


async def restore_cluster(
    store: ObjectStore,
    database: Database,
    clock: Clock,
    rng: random.Random,
    progress: Callable[[str, int], None] = lambda what, count: None,
) -> Restored:
    """Build the database. Raises RestoreImpossible, NotEmpty, Contradiction, DatabaseError and the store's errors."""
    cluster_file = await read_cluster_file(store)
    if cluster_file is None:
        raise RestoreImpossible(
            "the bucket prefix holds no cluster (no cluster.json): name the right bucket and prefix"
        )
    if await ClusterStore(database).get() is not None:
        raise NotEmpty("the metadata database holds a cluster already: restore into an empty one. Nothing was changed")
    cluster_id = cluster_file.cluster_id
    found = await BucketReader(store, cluster_id, progress).read()
    topics = newest_topics(found)
    shards = _shards(found.tables, topics.values())
    floors = _floors(found, topics)
    done = replay(shards, _producers(found.tables), found.blocks, found.possible, floors)
    epoch = max(found.epoch_max, _counter(found.tables, "agent_epoch")) + EPOCHS_SKIPPED
    ids = {number: (UUID(str(row[1])), str(row[2])) for number, row in topics.items()}
    objects = [(o, e.name, e.bytes, at_ms, count) for o, (e, count, at_ms) in done.objects.items()]
    extents = list(done.extents)
    filler = fill(done.gaps, {number: one[0] for number, one in ids.items()}, cluster_id, epoch, rng.getrandbits(64))
    if filler is not None:
        await store.put(filler.name, filler.parts)
        objects.append((epoch << 32, filler.name, filler.bytes, clock.now_ms(), len(filler.extents)))
        extents += filler.extents
    await restore(
        database,
        Rows(
            cluster_id=cluster_id,
            tables=found.tables,
            topics=[row for row in topics.values() if len(row) == 9],
            shards=done.shards,
            objects=objects,
            extents=extents,
            producers={key: (state, done.producer_ms[key]) for key, state in done.producers.items()},
            epochs=sorted({*found.epochs, epoch}),
            epoch_next=epoch + 1,
            topic_max=max([found.topic_max, *topics]) if topics else found.topic_max,
            fence=max((mark.epoch for mark in found.marks), default=0),
            marks=[(mark.topic_id, mark.kind, mark.offsets) for mark in found.marks],
        ),
    )
    return _report(cluster_id, found, done, {number: one[1] for number, one in ids.items()})


@dataclass(frozen=True, slots=True)
class Filler:
    """An object of empty batches, and where they lie."""

    name: str
    parts: list[bytes | bytearray | memoryview]
    bytes: int
    extents: list[Extent]


def fill(gaps: Sequence[Gap], ids: Mapping[int, UUID], cluster_id: str, epoch: int, chance: int) -> Filler | None:
    """Empty batches for these offsets, in one object; None where there are none."""
    pieces: dict[ShardKey, list[tuple[int, int]]] = {}
    for gap in sorted(gaps):
        first = gap.offset_first
        while first < gap.offset_next:
            next_ = min(gap.offset_next, first + FILLED_MAX)
            pieces.setdefault((gap.topic, gap.shard), []).append((first, next_))
            first = next_
    if not pieces:
        return None
    runs = []
    for (topic, shard), spans in sorted(pieces.items()):
        batches = [
            wrap_payload(b"", last_offset_delta=next_ - first - 1, base_timestamp=-1, max_timestamp=-1, record_count=0)
            for first, next_ in spans
        ]
        count = sum(next_ - first for first, next_ in spans)
        runs.append(Run(topic, ids[topic], shard, batches, len(batches), count, -1, -1))
    built = build_segment(cluster_id, epoch, 0, runs)
    extents: list[Extent] = []
    for run, (at, _) in zip(runs, built.run_bytes, strict=True):
        for (first, next_), batch in zip(pieces[run.topic, run.shard], run.buffers, strict=True):
            extents.append(Extent(run.topic, run.shard, first, next_, epoch << 32, at, len(batch), 1, -1, -1))
            at += len(batch)
    return Filler(f"{cluster_id}/segments/{epoch}/0-{chance:016x}", built.parts, built.bytes, extents)


def newest_topics(found: Found) -> dict[int, list[Any]]:
    """topic -> its row: of nine values where the journal's is newer, of the eight of the snapshot otherwise."""
    rows: dict[int, list[Any]] = {}
    names = ("topic", "topic_id", "name", "shards", "config", "created_ms", "deleted_ms", "changed")
    for values in _rows(found.tables, "topics", names):
        rows[values[0]] = list(values)
    for row in found.topics:
        known = rows.get(int(str(row[0])))
        if known is None or known[-1] < row[-1]:
            rows[int(str(row[0]))] = row
    return rows


def _shards(tables: Iterable[Table], topics: Iterable[Sequence[Any]]) -> dict[ShardKey, ShardState]:
    found = {
        (topic, shard): ShardState(high, start, append_ms)
        for topic, shard, high, start, append_ms in _rows(
            tables, "shards", ("topic", "shard", "high_watermark", "log_start", "append_ms")
        )
    }
    for row in topics:
        if row[6] is None:
            for shard in range(row[3]):
                found.setdefault((row[0], shard), ShardState(0, 0))
    return found


def _floors(found: Found, topics: Mapping[int, Sequence[Any]]) -> dict[ShardKey, int]:
    """Offsets that tables hold were given, whatever the journal says."""
    by_id = {str(row[1]): number for number, row in topics.items()}
    floors: dict[ShardKey, int] = {}
    for mark in found.marks:
        topic = by_id.get(mark.topic_id)
        for shard, next_ in mark.offsets.items() if topic is not None else ():
            assert topic is not None
            floors[topic, shard] = max(next_, floors.get((topic, shard), 0))
    return floors


def _producers(tables: Iterable[Table]) -> dict[ProducerKey, ProducerState]:
    names = ("topic", "shard", "producer_id", "producer_epoch", "batches")
    return {
        (topic, shard, producer): ProducerState(epoch, unpack_producer_batches(batches))
        for topic, shard, producer, epoch, batches in _rows(tables, "producers", names)
    }


def _counter(tables: Iterable[Table], name: str) -> int:
    return max((following for of, following in _rows(tables, "counters", ("name", "next")) if of == name), default=0)


def _rows(tables: Iterable[Table], name: str, columns: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    for table in tables:
        if table.name == name and table.rows:
            at = [table.columns.index(column) for column in columns]
            for row in table.rows:
                yield tuple(row[n] for n in at)


def _report(cluster_id: str, found: Found, done: Replayed, names: Mapping[int, str]) -> Restored:
    made = Restored(
        cluster_id,
        found.snapshot_name,
        found.head.taken_ms if found.head is not None else None,
        done.through_ms,
        {
            "topics": len(names),
            "objects_replayed": len(done.objects),
            "extents_replayed": len(done.extents),
            "objects_unexplained": found.unexplained,
            "offsets_empty": sum(gap.offset_next - gap.offset_first for gap in done.gaps),
        },
        [(names.get(gap.topic, str(gap.topic)), gap.shard, gap.offset_first, gap.offset_next) for gap in done.gaps],
        list(found.notes),
        list(found.marks),
    )
    for (topic, shard), count in sorted(done.unknown.items()):
        made.notes.append(
            f"{count} extents of topic number {topic} partition {shard} are left out: no such topic is known"
        )
    return made
