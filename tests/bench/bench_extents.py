"""Rows and query times while extents are written, with small-object compaction and without: a script, no part of CI.

    python -m tests.bench.bench_extents [--extents 10000000] [--partitions 100] [--flush-bytes 20000] [--without] [--out FILE.svg]

Metadata alone, through the production SQL on SQLite without fsync and with a clock of its own: every 250 ms of it an object
with one batch for each partition is committed; every 30 s what has settled is merged, as the planner says. At twenty
points on the way rows are counted and queries timed. 10 million extents take about ten minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from broker.compaction.plan import MergeLimits, final_until, plan_merges
from catalog.commits import CommitStore
from catalog.compaction import CompactionStore, Replacement, SettledExtent, SwapFacts, Swapped
from catalog.database import Transaction
from catalog.epochs import EpochStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.topics import TopicStore
from schemas.settings import Settings

LONG_MS = 1 << 50
BEGIN_MS = 1_800_000_000_000
QUERIES = 50
POINTS = 20


@dataclass
class Sample:
    """One point: extents written, rows there, and milliseconds of each query (median, 99th percentile)."""

    written: int
    rows: int
    times: dict[str, tuple[float, float]]


@dataclass
class Bench:
    """A topic, its clock and its stores."""

    database: InlineDatabase
    partitions: int
    flush_bytes: int
    now_ms: int = BEGIN_MS
    topic: int = 0
    epoch: int = 0
    numbers: int = 0
    final: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = Settings()
        self.limits = MergeLimits(
            settings.compaction_extent_bytes, settings.compaction_extents_min, 64, 4096, settings.compaction_span_ms
        )
        self.settle_ms, self.interval_ms = settings.compaction_settle_ms, settings.compaction_interval_ms
        self.commits = CommitStore(self.database, epoch_age_max_ms=LONG_MS)
        self.compaction = CompactionStore(self.database, epoch_age_max_ms=LONG_MS)
        self.extents = ExtentStore(self.database)
        self.rng = random.Random(1)

    async def begin(self) -> None:
        """Schema, topic and epoch."""
        await migrate(self.database)
        self.topic = (await TopicStore(self.database).create("t", UUID(int=1), self.partitions, {})).topic
        self.epoch = (await EpochStore(self.database).issue("bench", LONG_MS)).epoch

    async def flush(self) -> None:
        """One object, 250 ms after the last one."""
        self.now_ms += 250
        self.numbers += 1
        size = self.flush_bytes
        batches = tuple(
            BatchFacts(self.topic, shard, shard * size, size, 10, self.now_ms, False)
            for shard in range(self.partitions)
        )
        name = f"c/segments/{self.epoch}/{self.numbers}"
        await self.commits.commit([ObjectFacts(self.epoch << 32 | self.numbers, name, size, batches)])

    async def compact(self) -> int:
        """Merge until nothing is left to merge; returns how many extents were replaced."""
        replaced = 0
        for shard in range(self.partitions):
            while groups := await self._groups(shard):
                self.numbers += 1
                object_id = self.epoch << 32 | self.numbers
                merges = tuple(merge(object_id, group) for group in groups)
                facts = SwapFacts(object_id, f"c/segments/{self.epoch}/{self.numbers}", 1, merges)
                assert isinstance(await self.compaction.swap(facts), Swapped)
                replaced += sum(len(group) for group in groups)
        return replaced

    async def _groups(self, shard: int) -> list[tuple[SettledExtent, ...]]:
        position = (self.topic, shard, self.final.get(shard, 0))
        now_ms, [found] = await self.compaction.settled([position], self.settle_ms, 10_000)
        groups = [found.extents[first:end] for first, end in plan_merges(found.extents, now_ms, self.limits)]
        if not groups and (final := final_until(found.extents, self.limits)):
            self.final[shard] = found.extents[final - 1].extent.offset_next
        return groups

    async def sample(self, written: int) -> Sample:
        """Count rows and time queries."""

        async def count(tx: Transaction) -> int:
            return int((await tx.fetch("SELECT COUNT(*) FROM extents"))[0][0])

        rows = await self.database.snapshot(count)
        end = 10 * self.numbers_of_offsets
        shards = [self.rng.randrange(self.partitions) for _ in range(QUERIES)]
        return Sample(
            written,
            rows,
            {
                "fetch at the end": await timed(lambda at: self._fetch(shards[at], end - 1)),
                "fetch anywhere": await timed(lambda at: self._fetch(shards[at], self.rng.randrange(end))),
                "find by time": await timed(
                    lambda at: self.extents.first_from_time(
                        self.topic, shards[at], self.rng.randint(BEGIN_MS, self.now_ms)
                    )
                ),
                "look for merges": await timed(lambda at: self._groups(shards[at])),
            },
        )

    @property
    def numbers_of_offsets(self) -> int:
        """Flushes so far."""
        return (self.now_ms - BEGIN_MS) // 250

    async def _fetch(self, shard: int, offset: int) -> None:
        [found] = await self.extents.find_extents([ShardQuery(self.topic, shard, offset, 1 << 20)], 1000)
        assert found is not None
        assert found.extents


def merge(object_id: int, group: Sequence[SettledExtent]) -> Replacement:
    """The replacement of neighbours by one extent."""
    inputs = tuple(one.extent for one in group)
    output = inputs[-1]._replace(
        offset_first=inputs[0].offset_first,
        object_id=object_id,
        byte_length=sum(one.byte_length for one in inputs),
        batches=sum(one.batches for one in inputs),
    )
    return Replacement(inputs, output)


async def timed(query: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Median and 99th percentile of QUERIES queries, in milliseconds."""
    times = []
    for at in range(QUERIES):
        began = time.perf_counter()
        await query(at)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return times[len(times) // 2], times[int(len(times) * 0.99)]


async def run(extents: int, partitions: int, flush_bytes: int, *, compacting: bool) -> list[Sample]:
    """Write so many extents; a sample at each of POINTS."""
    with tempfile.TemporaryDirectory(prefix="neve-bench-") as folder:
        bench: Bench
        database = InlineDatabase(lambda: bench.now_ms, path=Path(folder) / "neve.db")
        bench = Bench(database, partitions, flush_bytes)
        await bench.begin()
        samples: list[Sample] = []
        flushes = extents // partitions
        for flush in range(1, flushes + 1):
            await bench.flush()
            if compacting and bench.now_ms % bench.interval_ms == 0:
                await bench.compact()
            if flush % max(1, flushes // POINTS) == 0:
                samples.append(await bench.sample(flush * partitions))
                print_sample(samples[-1])
        await database.close()
        return samples


def print_sample(sample: Sample) -> None:
    """One line."""
    queries = "  ".join(f"{name} {median:.2f}/{high:.2f}" for name, (median, high) in sample.times.items())
    print(f"{sample.written:>11,} written  {sample.rows:>10,} rows  ms p50/p99: {queries}", flush=True)


def draw(samples: Sequence[Sample]) -> str:
    """Rows and median query times over extents written, as an SVG of two panels."""
    series: dict[str, list[float]] = {"rows": [float(one.rows) for one in samples]}
    for name in samples[0].times:
        series[name] = [one.times[name][0] for one in samples]
    panels = [("rows", ["rows"]), ("ms, median", [name for name in series if name != "rows"])]
    colors = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="720" height="520" font-family="sans-serif" font-size="12">'
    ]
    last = samples[-1].written
    for panel, (title, names) in enumerate(panels):
        top, height, width = 30 + panel * 250, 190, 600
        most = max(max(series[name]) for name in names) or 1.0
        parts.append(f'<text x="60" y="{top - 8}">{title} (up to {most:,.2f}) over {last:,} extents written</text>')
        parts.append(f'<rect x="60" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
        for at, name in enumerate(names):
            points = " ".join(
                f"{60 + width * one.written / last:.1f},{top + height - height * value / most:.1f}"
                for one, value in zip(samples, series[name], strict=True)
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colors[at]}" stroke-width="2"/>')
            parts.append(f'<text x="{70 + 150 * at}" y="{top + height + 16}" fill="{colors[at]}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extents", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--flush-bytes", type=int, default=20_000, help="per partition")
    parser.add_argument("--without", action="store_true", help="without compaction")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    samples = asyncio.run(run(args.extents, args.partitions, args.flush_bytes, compacting=not args.without))
    if args.out is not None:
        args.out.write_text(draw(samples))


if __name__ == "__main__":
    main()
