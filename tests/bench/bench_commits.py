"""How many commits and extent rows per second the commit transaction takes, on SQLite and PostgreSQL.

    python -m tests.bench.bench_commits [--partitions 100] [--groups 1,8,64] [--seconds 3] [--only sqlite]

Durable as shipped: PostgreSQL with fsync and synchronous_commit on, SQLite with synchronous=FULL. One object holds one
batch for each of the partitions, so a commit writes as many extent rows as there are partitions; all objects hit the
same partitions. One committer, as one agent has: groups are committed one after the other. A new topic for each row.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

from catalog.commits import CommitStore, Committed
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.migrate import migrate
from catalog.postgres import PostgresDatabase
from catalog.sequence import BatchFacts, ObjectFacts
from catalog.sqlite import SqliteDatabase
from catalog.topics import TopicStore
from tests import counterparts

LEASE_MS = 600_000


@contextlib.asynccontextmanager
async def sqlite() -> AsyncIterator[Database]:
    """SQLite on a file, every commit flushed."""
    with tempfile.TemporaryDirectory(prefix="neve-bench-") as folder:
        db = SqliteDatabase(Path(folder) / "neve.db")
        await migrate(db)
        yield db
        await db.close()


@contextlib.asynccontextmanager
async def postgresql() -> AsyncIterator[Database]:
    """PostgreSQL with its defaults."""
    with counterparts.postgres() as server:
        db = await PostgresDatabase.open(server.uri())
        await migrate(db)
        yield db
        await db.close()


def make_object(epoch: int, number: int, topic: int, partitions: int, idempotent: bool) -> ObjectFacts:
    """One object with one batch of ten records per partition."""
    batches = []
    for shard in range(partitions):
        producer = (1000 + shard, 0, 10 * number) if idempotent else (-1, -1, -1)
        batches.append(BatchFacts(topic, shard, 4096 + shard * 1100, 1000, 10, 1_700_000_000_000, False, *producer))
    object_id = epoch << 32 | number
    return ObjectFacts(object_id, f"cluster/segments/{epoch}/{number}-0123456789abcdef", 200_000, tuple(batches))


async def run(
    db: Database, number: int, partitions: int, group: int, idempotent: bool, seconds: float
) -> dict[str, object]:
    """Commit groups for some seconds; every outcome is checked."""
    topics, epochs = TopicStore(db), EpochStore(db)
    commits = CommitStore(db, epoch_age_max_ms=LEASE_MS)
    topic = await topics.create(f"bench-{number}", UUID(int=number + 1), partitions, {})
    lease = await epochs.issue("bench", LEASE_MS)
    sequence = 0
    latencies: list[float] = []
    committing = 0.0
    cpu = time.process_time()
    while committing < seconds:
        objects = [make_object(lease.epoch, sequence + i, topic.topic, partitions, idempotent) for i in range(group)]
        sequence += group
        started = time.perf_counter()
        outcomes = await commits.commit(objects)
        latencies.append(time.perf_counter() - started)
        committing += latencies[-1]
        for outcome in outcomes:
            assert isinstance(outcome, Committed)
            assert not any(batch.error for batch in outcome.outcomes)
    cpu = time.process_time() - cpu
    latencies.sort()
    return {
        "database": db.dialect,
        "partitions": partitions,
        "group": group,
        "idempotent": idempotent,
        "commits_per_s": round(sequence / committing, 1),
        "extent_rows_per_s": round(sequence * partitions / committing),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 2),
        "client_cpu_us_per_row": round(cpu / (sequence * partitions) * 1e6, 2),
    }


async def main() -> None:
    """Run every combination and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=100)
    parser.add_argument("--groups", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    args = parser.parse_args()
    number = 0
    for name, opened in (("sqlite", sqlite), ("postgresql", postgresql)):
        if args.only not in (None, name):
            continue
        async with opened() as db:
            for idempotent in (False, True):
                for group in map(int, args.groups.split(",")):
                    number += 1
                    print(
                        json.dumps(await run(db, number, args.partitions, group, idempotent, args.seconds)), flush=True
                    )


if __name__ == "__main__":
    asyncio.run(main())
