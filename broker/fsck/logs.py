"""Do a shard's extents cover exactly what lies between its log start and its high watermark? Pure, one pass in offset order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from broker.fsck.findings import Report
from catalog.sequence import Extent, ShardKey


class TopicFacts(NamedTuple):
    """A topic's row, as far as it matters here."""

    name: str
    shards: int
    deleted: bool


class ShardFacts(NamedTuple):
    """A shard's row."""

    high_watermark: int
    log_start: int


class LogCheck:
    """Takes every extent there is, by (topic, shard, offset_next), and reports."""

    def __init__(self, topics: Mapping[int, TopicFacts], shards: Mapping[ShardKey, ShardFacts], report: Report) -> None:
        self._topics = topics
        self._shards = shards
        self._report = report
        self._key: ShardKey | None = None
        self._end: int | None = None
        self._seen: dict[ShardKey, None] = {}
        self.rows_without_shard: dict[ShardKey, int] = {}
        """Shards that have extents and no row -> how many."""

    def take(self, extents: Iterable[Extent]) -> None:
        """The next extents."""
        for extent in extents:
            key = (extent.topic, extent.shard)
            if key != self._key:
                self._leave()
                self._key, self._end = key, None
                self._seen[key] = None
            if key not in self._shards:
                self.rows_without_shard[key] = self.rows_without_shard.get(key, 0) + 1
                continue
            self._one(key, extent)

    def end(self) -> None:
        """There are no more: what was never seen must be empty."""
        self._leave()
        self._key = None
        for key, shard in self._shards.items():
            if key not in self._seen and shard.log_start < shard.high_watermark and not self._deleted(key):
                self._report.add(
                    "extent-gap", self.where(key), f"no extent in [{shard.log_start}, {shard.high_watermark})"
                )

    def where(self, key: ShardKey) -> str:
        """A shard in words."""
        topic = self._topics.get(key[0])
        return f"{topic.name if topic else f'topic {key[0]}'}/{key[1]}"

    def _one(self, key: ShardKey, extent: Extent) -> None:
        report, shard = self._report, self._shards[key]
        covers = f"[{extent.offset_first}, {extent.offset_next})"
        if extent.offset_first >= extent.offset_next or extent.byte_length <= 0 or extent.byte_first < 0:
            report.add("extent-empty", self.where(key), f"{covers}, {extent.byte_length} bytes")
        if self._end is None:
            # Extents below the log start go step by step; the first one may begin before it, never behind it.
            if extent.offset_first > shard.log_start and not self._deleted(key):
                report.add("extent-gap", self.where(key), f"log start {shard.log_start}, first extent {covers}")
        elif extent.offset_first > self._end:
            if extent.offset_first > shard.log_start:
                report.add("extent-gap", self.where(key), f"nothing in [{self._end}, {extent.offset_first})")
        elif extent.offset_first < self._end:
            report.add("extent-overlap", self.where(key), f"{covers} begins before {self._end}")
        self._end = max(self._end or 0, extent.offset_next)

    def _leave(self) -> None:
        if self._key is None or self._key not in self._shards or self._end is None:
            return
        shard = self._shards[self._key]
        if self._end > shard.high_watermark:
            words = f"extents end at {self._end}, the high watermark is {shard.high_watermark}"
            self._report.add("extent-beyond", self.where(self._key), words)
        elif (
            self._end < shard.high_watermark and shard.log_start < shard.high_watermark and not self._deleted(self._key)
        ):
            words = f"nothing in [{self._end}, {shard.high_watermark})"
            self._report.add("extent-gap", self.where(self._key), words)

    def _deleted(self, key: ShardKey) -> bool:
        topic = self._topics.get(key[0])
        return topic is not None and topic.deleted


def check_shards(topics: Mapping[int, TopicFacts], shards: Mapping[ShardKey, ShardFacts], report: Report) -> None:
    """Every live topic has the rows of its shards, every shard a topic, and bounds make sense."""
    for number, topic in topics.items():
        missing = [shard for shard in range(topic.shards) if (number, shard) not in shards]
        if missing and not topic.deleted:
            report.add("shard-missing", topic.name, f"no row of partitions {missing[:20]}")
    for key, shard in shards.items():
        topic_of = topics.get(key[0])
        where = f"{topic_of.name if topic_of else f'topic {key[0]}'}/{key[1]}"
        if topic_of is None:
            report.add("unknown-topic-rows", where, "a partition's row without its topic's")
        if not 0 <= shard.log_start <= shard.high_watermark:
            words = f"log start {shard.log_start}, high watermark {shard.high_watermark}"
            report.add("bounds-wrong", where, words)
