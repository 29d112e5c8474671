"""What the bucket says of a lost database: snapshots, journals, headers of segments, watermarks of tables. Reads alone.

Damage is noted and left out, never guessed at: a journal that can't be read costs what only it held, and the report says so.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from broker.fsck.objects import epoch_in, number_of
from broker.objects.port import Corrupt, NotFound, ObjectInfo, ObjectStore
from catalog.iceberg.metadata_file import MetadataUnreadable, metadata_json
from catalog.sequence import ShardKey
from schemas.journal import Block, JournalError, unpack_block, unpack_object
from schemas.segment import PREFIX_BYTES, Segment, SegmentError, head_bytes, parse_segment
from schemas.snapshot import SnapshotError, SnapshotHead, Table, read_snapshot

T = TypeVar("T")
READS_AT_ONCE = 16
HEAD_GUESS_BYTES = 64 * 1024
_METADATA = re.compile(
    r"^(.+)/metadata/(\d+)-[^/]+\.metadata\.json(?:\.gz)?$|^(.+)/metadata/(\d+)-[^/]+\.gz\.metadata\.json$"
)


class TableMark(NamedTuple):
    """A table's newest metadata in the bucket: whose it is, and where it ends."""

    key: str
    namespace: str
    name: str
    topic_id: str
    kind: str
    offsets: Mapping[int, int]
    epoch: int


@dataclass(slots=True)
class Found:
    """Everything that was found."""

    snapshot_name: str | None = None
    head: SnapshotHead | None = None
    tables: list[Table] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    topics: list[list[object]] = field(default_factory=list)
    possible: dict[ShardKey, int] = field(default_factory=dict)
    """Offsets that objects which nothing explains may have been given."""
    unexplained: int = 0
    """Such objects."""
    epoch_max: int = 0
    epochs: dict[int, None] = field(default_factory=dict)
    topic_max: int = 0
    marks: list[TableMark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class BucketReader:
    """Reads one cluster's bucket."""

    def __init__(self, store: ObjectStore, cluster_id: str, progress: Callable[[str, int], None]) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._progress = progress

    async def read(self) -> Found:
        """Everything there is. Raises the store's errors."""
        found = Found()
        await self._snapshot(found)
        await self._journals(found)
        await self._segments(found)
        await self._marks(found)
        return found

    async def _snapshot(self, found: Found) -> None:
        for info in sorted(await self._listed("snapshots"), key=lambda one: one.key, reverse=True):
            try:
                head, tables = read_snapshot(await self._store.get(info.key))
                if head.cluster_id != self._cluster_id:
                    raise SnapshotError(f"it is of cluster {head.cluster_id}")
                found.tables = list(tables)
            except (SnapshotError, Corrupt, NotFound) as error:
                found.notes.append(f"snapshot {info.key} is not used: {error}")
                continue
            found.snapshot_name, found.head = info.key, head
            return
        found.notes.append("no snapshot in the bucket: only the journal is replayed")

    async def _journals(self, found: Found) -> None:
        listed = await self._listed("journal")

        async def one(info: ObjectInfo) -> tuple[Block, list[list[object]]] | str:
            try:
                return unpack_object(await self._store.get(info.key))
            except (JournalError, Corrupt, NotFound, ValueError) as error:
                return f"journal {info.key} is not used: {error}"

        for answer in await self._all("journals read", one, listed):
            if isinstance(answer, str):
                found.notes.append(answer)
            else:
                found.blocks.append(answer[0])
                found.topics += answer[1]

    async def _segments(self, found: Found) -> None:
        """Headers of what the snapshot doesn't know: their journals, and what they may have been given."""
        known = _column(found.tables, "objects", "object_id")
        prefix = f"{self._cluster_id}/segments/"
        fresh: list[tuple[int, ObjectInfo]] = []
        for info in await self._listed("segments"):
            epoch = epoch_in(info.key, prefix)
            number = None if epoch is None else number_of(epoch, info.key)
            if epoch is None or number is None:
                continue
            found.epochs[epoch] = None
            found.epoch_max = max(found.epoch_max, epoch)
            if number not in known:
                fresh.append((number, info))

        async def one(of: tuple[int, ObjectInfo]) -> tuple[int, Segment, Block | None] | str:
            try:
                segment = await self._head(of[1])
                return of[0], segment, unpack_block(segment.journal) if segment.journal else None
            except (SegmentError, JournalError, Corrupt, NotFound) as error:
                return f"segment {of[1].key} is not used: {error}"

        heads: list[tuple[int, Segment]] = []
        for answer in await self._all("segment headers read", one, fresh):
            if isinstance(answer, str):
                found.notes.append(answer)
                continue
            heads.append(answer[:2])
            if answer[2] is not None:
                found.blocks.append(answer[2])
        explained = {entry.object_id for block in found.blocks for entry in block.entries}
        for number, segment in heads:
            found.topic_max = max([found.topic_max, *(run.topic for run in segment.runs)])
            if number in explained:
                continue
            found.unexplained += 1
            for run in segment.runs:
                key = (run.topic, run.shard)
                found.possible[key] = found.possible.get(key, 0) + run.offset_count

    async def _head(self, info: ObjectInfo) -> Segment:
        head = await self._store.get(info.key, 0, min(HEAD_GUESS_BYTES, max(info.bytes, 1)))
        wanted = head_bytes(memoryview(head)[:PREFIX_BYTES], info.bytes)
        if wanted > len(head):
            head = await self._store.get(info.key, 0, wanted)
        return parse_segment(head, info.bytes)

    async def _marks(self, found: Found) -> None:
        newest: dict[str, tuple[int, int, str]] = {}
        for info in await self._listed("tables"):
            match = _METADATA.match(info.key)
            if match is None:
                continue
            folder, number = match[1] or match[3], int(match[2] or match[4])
            newest[folder] = max(newest.get(folder, (-1, 0, "")), (number, info.modified_ms, info.key))
        for folder, (_, _, key) in sorted(newest.items()):
            parts = folder.split("/")
            try:
                text = metadata_json(key, bytes(await self._store.get(key)))
                properties = json.loads(text)["properties"]
                offsets = {int(shard): int(next_) for shard, next_ in json.loads(properties["neve.offsets"]).items()}
                found.marks.append(
                    TableMark(
                        key, parts[-2], parts[-1].rpartition("-")[0], properties["neve.topic-id"],
                        properties["neve.kind"], offsets, int(properties["neve.epoch"]),
                    )
                )  # fmt: skip
            except (MetadataUnreadable, Corrupt, NotFound, KeyError, ValueError, TypeError, IndexError) as error:
                found.notes.append(f"table metadata {key} is not used: {type(error).__name__} {error}")

    async def _listed(self, folder: str) -> list[ObjectInfo]:
        return [info async for page in self._store.list(f"{self._cluster_id}/{folder}") for info in page]

    async def _all(self, what: str, call: Callable[[T], object], things: Sequence[T]) -> list:  # type: ignore[type-arg]
        """Every answer, in order, some calls at a time."""
        answers: list[object] = []
        for at in range(0, len(things), READS_AT_ONCE):
            answers += await asyncio.gather(*[call(one) for one in things[at : at + READS_AT_ONCE]])  # type: ignore[call-overload]
            self._progress(what, len(answers))
        return answers


def _column(tables: Iterable[Table], name: str, column: str) -> dict[int, None]:
    found: dict[int, None] = {}
    for table in tables:
        if table.name == name and table.rows:
            at = table.columns.index(column)
            found.update(dict.fromkeys(row[at] for row in table.rows))
    return found
