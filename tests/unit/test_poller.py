"""The poller asks the database only where its answer can have changed, and misses nothing that did."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

from broker.fetch.poller import Poller
from broker.fetch.waiters import Waiters
from broker.objects.memory import MemoryStore
from broker.services import FetchPart
from catalog.migrate import migrate
from catalog.sequence import ShardKey
from catalog.sqlite import SqliteDatabase
from tests.data_path import Produced, batch_of, running_core, values_in


class Counting(Poller):
    """Counts rounds instead of reading."""

    def __init__(self, versions: list[Hashable | None]) -> None:
        nothing = cast(Any, None)
        super().__init__(nothing, nothing, nothing, Waiters(), interval_s=0.01, version=lambda: versions[0])
        self.asked: list[list[ShardKey]] = []
        self.error: Exception | None = None

    async def look(self, keys: list[ShardKey]) -> None:
        self.asked.append(keys)
        if self.error is not None:
            raise self.error


async def test_a_round_is_left_out_where_nobody_has_committed_since() -> None:
    versions: list[Hashable | None] = [1]
    poller = Counting(versions)
    a, b = (1, 0), (1, 1)
    await poller.look_if_changed([a, b])
    await poller.look_if_changed([b])
    assert poller.asked == [[a, b]]
    versions[0] = 2
    await poller.look_if_changed([b])
    await poller.look_if_changed([b])
    assert poller.asked == [[a, b], [b]]


async def test_a_shard_that_was_not_asked_for_is_asked_for_at_the_same_version() -> None:
    """Its reader may have looked before the commit that the last round saw."""
    poller = Counting([1])
    await poller.look_if_changed([(1, 0)])
    await poller.look_if_changed([(1, 0), (1, 1)])
    assert poller.asked == [[(1, 0)], [(1, 0), (1, 1)]]


async def test_every_round_runs_where_the_database_cannot_tell_or_the_last_one_failed() -> None:
    versions: list[Hashable | None] = [None]
    poller = Counting(versions)
    for _ in range(3):
        await poller.look_if_changed([(1, 0)])
    assert len(poller.asked) == 3
    versions[0] = 1
    poller.error = RuntimeError("down")
    for _ in range(2):
        try:
            await poller.look_if_changed([(1, 0)])
        except RuntimeError:
            continue
    assert len(poller.asked) == 5


async def test_idle_consumers_cost_no_rounds_and_hear_of_another_agents_commits(tmp_path: Path) -> None:
    first, second = (SqliteDatabase(tmp_path / "neve.db") for _ in range(2))
    await migrate(first)
    store = MemoryStore(lambda: 0)
    async with (
        running_core(database=first, store=store, seed=1) as reader,
        running_core(database=second, store=store, seed=2) as writer,
    ):
        topic = await writer.topics.create("t", 2, {})
        for n in range(5):
            parts = [FetchPart(topic.topic, shard, n, 1 << 20) for shard in range(2)]
            waiting = asyncio.create_task(reader.reader.fetch(parts, max_wait_ms=5_000, min_bytes=1, max_bytes=1 << 20))
            await asyncio.sleep(0.05)
            rounds = reader.poller.rounds
            await asyncio.sleep(0.2)
            assert reader.poller.rounds <= rounds + 4, "twenty intervals have passed; leases are written now and then"
            for shard in range(2):
                await Produced(writer).send(topic, shard, batch_of(b"%d" % n))
            answered = await asyncio.wait_for(waiting, 1)
            assert any(values_in(part) == [(n, b"%d" % n)] for part in answered)
    await first.close()
    await second.close()
