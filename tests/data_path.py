"""Parts for tests of the data path: batches, appends with their outcomes, a core over memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from broker.agent_core import AgentCore, build_core
from broker.clock import SystemClock
from broker.objects.memory import MemoryStore
from broker.objects.port import ObjectStore
from broker.services import Append, FetchedPart, TopicView
from catalog.database import Database
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.sequence import BatchOutcome
from schemas.kafka.batch import batch_size, read_header
from schemas.kafka.records import NewRecord, build_batch, decode_batch
from schemas.settings import Settings

TOPIC_ID = UUID(int=7)


def batch_of(*values: bytes, timestamp: int = 1000, **more: Any) -> bytes:
    """A batch of records with these values, one millisecond apart."""
    return build_batch([NewRecord(timestamp + at, None, value) for at, value in enumerate(values)], **more)


def append_of(
    records: bytes,
    *,
    topic: int = 1,
    shard: int = 0,
    connection: int = 1,
    append_time: bool = False,
    topic_id: UUID = TOPIC_ID,
    done: Callable[[BatchOutcome], None] = lambda _outcome: None,
) -> Append:
    """One batch on its way into the writer."""
    return Append(topic, topic_id, shard, memoryview(records), read_header(records), append_time, connection, done)


def values_in(part: FetchedPart) -> list[tuple[int, bytes | None]]:
    """(offset, value) of every record in an answer; every batch's checksum is verified on the way."""
    found: list[tuple[int, bytes | None]] = []
    for piece in part.records:
        at = 0
        while at < len(piece):
            size = batch_size(piece, at)
            found += [(record.offset, record.value) for record in decode_batch(memoryview(piece)[at : at + size])]
            at += size
    return found


@dataclass
class Produced:
    """Appends batches and keeps what became of each, in order."""

    core: AgentCore
    outcomes: list[BatchOutcome | None] = field(default_factory=list)

    def send(
        self, topic: TopicView, shard: int, records: bytes, *, connection: int = 1
    ) -> asyncio.Future[BatchOutcome]:
        """Append one batch as a request of its own."""
        future: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
        at = len(self.outcomes)
        self.outcomes.append(None)

        def done(outcome: BatchOutcome) -> None:
            assert self.outcomes[at] is None, "done is called once"
            self.outcomes[at] = outcome
            future.set_result(outcome)

        self.core.writer.append(
            [
                append_of(
                    records, topic=topic.topic, topic_id=topic.topic_id, shard=shard, connection=connection,
                    append_time=topic.append_time, done=done,
                )
            ]
        )  # fmt: skip
        return future


def memory_database() -> InlineDatabase:
    """A metadata database in memory; call `migrate` on it."""
    return InlineDatabase(SystemClock().now_ms)


@asynccontextmanager
async def running_core(
    *,
    store: ObjectStore | None = None,
    database: Database | None = None,
    seed: int = 1,
    port: int | None = None,
    **settings: Any,
) -> AsyncIterator[AgentCore]:
    """A core that serves, over memory unless told otherwise, each seed under a port of its own. Local flush policy."""
    clock = SystemClock()
    if database is None:
        database = memory_database()
        await migrate(database)
    core = await build_core(
        Settings(**{"poll_interval_ms": 10, **settings}),
        store or MemoryStore(clock.now_ms),
        database,
        clock,
        random.Random(seed),
        local_store=True,
    )
    await core.start("127.0.0.1", port or 9092 + seed)
    try:
        yield core
    finally:
        await core.stop()
