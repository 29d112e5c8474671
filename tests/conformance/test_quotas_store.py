"""Client quotas, and what shards hold, on every implementation of the database port."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from catalog.database import Database
from catalog.holdings import HoldingsStore, ShardProducer
from catalog.outcomes import pack_producer_batches
from catalog.quotas import Entity, QuotaChange, QuotaStore
from catalog.sequence import ProducerBatch
from catalog.topics import TopicStore
from tests.conformance.database_kinds import OpenDatabase

BOTH: Entity = (("client-id", None), ("user", "ü\n'\"; --\U0001f642"))
USER: Entity = (("user", "u"),)


@pytest.fixture
def db(migrated: OpenDatabase) -> Database:
    return migrated.db


async def test_quotas_are_told_as_they_were_set(migrated: OpenDatabase) -> None:
    one, two = QuotaStore(migrated.db), QuotaStore(await migrated.another())
    before = await one.change()
    assert (await one.read()).quotas == {}
    await one.alter(
        [
            QuotaChange(BOTH, "producer_byte_rate", 1e15 + 1),
            QuotaChange(BOTH, "request_percentage", 0.1),
            QuotaChange(USER, "consumer_byte_rate", 7.0),
        ]
    )
    change, quotas = await two.read()
    assert quotas == {
        BOTH: {"producer_byte_rate": 1e15 + 1, "request_percentage": 0.1},
        USER: {"consumer_byte_rate": 7.0},
    }
    assert change == await two.change() == before + 1
    await two.alter([QuotaChange(USER, "consumer_byte_rate", 8.5), QuotaChange(BOTH, "request_percentage", None)])
    await two.alter([QuotaChange(BOTH, "producer_byte_rate", None), QuotaChange(BOTH, "producer_byte_rate", None)])
    assert await one.read() == (before + 3, {USER: {"consumer_byte_rate": 8.5}})


async def test_changes_side_by_side_are_all_kept(migrated: OpenDatabase) -> None:
    stores = [QuotaStore(await migrated.another()) for _ in range(4)]
    await asyncio.gather(
        *(
            store.alter([QuotaChange((("user", f"{n}-{m}"),), "producer_byte_rate", float(m))])
            for n, store in enumerate(stores)
            for m in range(3)
        )
    )
    change, quotas = await QuotaStore(migrated.db).read()
    assert len(quotas) == 12
    assert change == 12


async def test_what_shards_hold(db: Database) -> None:
    topics = [await TopicStore(db).create(name, UUID(int=number), 3, {}) for number, name in enumerate("ab", 1)]
    first, second = (row.topic for row in topics)
    extents = [
        (first, 0, 5, 0, 100),
        (first, 0, 9, 5, 2**31 - 1),
        (first, 0, 11, 9, 2**31 - 1),
        (first, 2, 1, 0, 7),
        (second, 1, 4, 0, 9),
    ]
    producers = [(first, 0, 70), (first, 0, 8), (second, 1, 9)]

    async def fill(tx: object) -> None:
        for topic, shard, following, start, size in extents:
            await tx.execute(  # type: ignore[attr-defined]
                "INSERT INTO extents (topic, shard, offset_next, offset_first, object_id, byte_first, byte_length, batches, "
                "timestamp_max, append_ms) VALUES ($1, $2, $3, $4, 1, 0, $5, 1, 0, -1)",
                topic, shard, following, start, size,
            )  # fmt: skip
        for topic, shard, producer in producers:
            await tx.execute(  # type: ignore[attr-defined]
                "INSERT INTO producers (topic, shard, producer_id, producer_epoch, batches, updated_ms) "
                "VALUES ($1, $2, $3, 2, $4, 5)",
                topic, shard, producer, pack_producer_batches([ProducerBatch(0, 4, 0, -1), ProducerBatch(5, 6, 5, -1)]),
            )  # fmt: skip

    await db.transact(fill)
    holdings = HoldingsStore(db)
    assert await holdings.shard_bytes([first]) == {(first, 0): 100 + 2 * (2**31 - 1), (first, 2): 7}
    assert await holdings.shard_bytes([]) == {}
    assert await holdings.shard_bytes([first, second, 99]) == {
        (first, 0): 100 + 2 * (2**31 - 1), (first, 2): 7, (second, 1): 9,
    }  # fmt: skip
    assert await holdings.producers([(first, 0), (first, 1)]) == [
        ShardProducer(first, 0, 8, 2, 6, 5),
        ShardProducer(first, 0, 70, 2, 6, 5),
    ]
    assert await holdings.producers([]) == []
    assert await holdings.topic_changes() == 2
