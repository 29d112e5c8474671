"""Group slots, groups and committed offsets, on every implementation of the database port."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from catalog.agents import AgentFacts, AgentStore
from catalog.database import Database
from catalog.group_slots import GroupSlotStore
from catalog.groups import GroupStore, GroupWrite, NewOffset
from catalog.topics import TopicStore
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000
SHORT_MS = 40


@pytest.fixture
def db(migrated: OpenDatabase) -> Database:
    return migrated.db


async def topic(db: Database, name: str, number: int) -> int:
    return (await TopicStore(db).create(name, UUID(int=number), 4, {})).topic


def new(topic: int, shard: int, offset: int, metadata: str = "") -> NewOffset:
    return NewOffset(topic, shard, offset, 0, metadata)


async def test_a_slot_has_one_holder_and_epochs_grow(migrated: OpenDatabase) -> None:
    one, two = GroupSlotStore(migrated.db), GroupSlotStore(await migrated.another())
    assert await one.claim([1, 2], "a", 1, LONG_MS) == {1: 1, 2: 1}
    assert await two.claim([1, 2, 3], "b", 2, LONG_MS) == {3: 1}
    assert await one.claim([1], "a", 1, LONG_MS) == {}, "not even by itself"
    await one.release({1: 1})
    assert await two.claim([1], "b", 2, LONG_MS) == {1: 2}
    assert await one.renew({1: 1, 2: 1}, LONG_MS) == {1}
    await one.release({1: 1})
    assert (await two.all())[1].live, "a lost slot can't be given back"


async def test_of_many_claims_one_wins(migrated: OpenDatabase) -> None:
    stores = [GroupSlotStore(await migrated.another()) for _ in range(4)]
    taken = await asyncio.gather(*(s.claim([7, 8, 9], f"i{n}", n, LONG_MS) for n, s in enumerate(stores)))
    assert sorted(slot for held in taken for slot in held) == [7, 8, 9]


async def test_a_lease_runs_out(db: Database) -> None:
    slots = GroupSlotStore(db)
    await slots.claim([1], "a", 1, SHORT_MS)
    await asyncio.sleep(2 * SHORT_MS / 1000)
    row = (await slots.all())[1]
    assert not row.live
    assert row.idle_ms > 0
    assert await slots.renew({1: 1}, LONG_MS) == {1}, "nobody took it, and still"
    assert await slots.claim([1], "b", 2, LONG_MS) == {1: 2}


async def test_holders_come_with_their_addresses(db: Database) -> None:
    broker_id = await AgentStore(db).register(AgentFacts("a", "host", 9, "z", "broker", "1"), LONG_MS)
    slots = GroupSlotStore(db)
    await slots.claim([1], "a", broker_id, LONG_MS)
    await slots.claim([2], "gone", 99, LONG_MS)
    rows = await slots.all()
    assert (rows[1].host, rows[1].port, rows[1].zone, rows[1].broker_id) == ("host", 9, "z", broker_id)
    assert (rows[2].host, rows[2].port) == (None, None)


async def test_slots_of_a_process_that_is_gone_are_free_for_the_next(db: Database) -> None:
    agents, slots, groups = AgentStore(db), GroupSlotStore(db), GroupStore(db)
    for name, port in (("a", 1), ("b", 2)):
        await agents.register(AgentFacts(name, "host", port, "z", "broker", "1"), LONG_MS)
    await slots.claim([1, 2], "a", 1, LONG_MS)
    await slots.claim([3], "b", 2, LONG_MS)
    assert await agents.register(AgentFacts("a2", "host", 1, "z", "broker", "1"), LONG_MS, succeeds=True) == 1
    assert await groups.apply([GroupWrite(1, 1, "g", "late")]) == [False]
    assert await slots.renew({1: 1, 2: 1}, LONG_MS) == {1, 2}
    assert await slots.claim([1, 2, 3], "a2", 1, LONG_MS) == {1: 2, 2: 2}
    await agents.register(AgentFacts("b", "host", 2, "z", "broker", "1"), LONG_MS, 7)
    assert (await slots.all())[3].broker_id == 7, "an agent that enters under another id keeps its slots"
    assert await slots.renew({3: 1}, LONG_MS) == frozenset()


async def test_writes_of_an_old_epoch_are_refused(db: Database) -> None:
    slots, groups, number = GroupSlotStore(db), GroupStore(db), await topic(db, "t", 1)
    await slots.claim([5], "a", 1, LONG_MS)
    assert await groups.apply([GroupWrite(5, 1, "g", "one", (new(number, 0, 7, "ümlaut"),))]) == [True]
    assert await slots.renew({5: 1}, SHORT_MS) == frozenset()
    await asyncio.sleep(2 * SHORT_MS / 1000)
    assert await groups.apply([GroupWrite(5, 1, "g", "late")]) == [False], "its lease has run out"
    await slots.claim([5], "b", 2, LONG_MS)
    zombie = GroupWrite(5, 1, "g", "zombie", (new(number, 0, 1),))
    assert await groups.apply([zombie]) == [False]
    for writes in ([zombie, GroupWrite(5, 2, "g", "two")], [GroupWrite(5, 2, "g", "two"), zombie]):
        done = await groups.apply(writes)
        assert done[writes.index(zombie)] is False
    await groups.apply([GroupWrite(5, 2, "g", "two")])
    assert await groups.load(5) == [("g", "two")]
    [stored] = await groups.offsets("g")
    assert (stored.offset, stored.metadata, stored.topic_name, stored.shard) == (7, "ümlaut", "t", 0)


async def test_offsets_are_upserted_and_deleted(db: Database) -> None:
    slots, groups, number = GroupSlotStore(db), GroupStore(db), await topic(db, "t", 1)
    await slots.claim([5], "a", 1, LONG_MS)
    await groups.apply([GroupWrite(5, 1, "g", "s", tuple(new(number, shard, shard) for shard in range(4)))])
    await groups.apply(
        [
            GroupWrite(5, 1, "g", offsets=(new(number, 1, 8), new(number, 1, 9))),
            GroupWrite(5, 1, "g", offsets_gone=((number, 2), (number, 3))),
            GroupWrite(5, 1, "h", "s", (new(number, 2, 5),)),
        ]
    )
    assert [(o.shard, o.offset) for o in await groups.offsets("g")] == [(0, 0), (1, 9)]
    await groups.apply([GroupWrite(5, 1, "g", delete=True)])
    assert await groups.offsets("g") == []
    assert await groups.load(5) == [("h", "s")]
    assert [(o.shard, o.offset) for o in await groups.offsets("h")] == [(2, 5)]


async def test_offsets_go_with_their_topic(db: Database) -> None:
    slots, groups, topics = GroupSlotStore(db), GroupStore(db), TopicStore(db)
    number = await topic(db, "t", 1)
    await slots.claim([5], "a", 1, LONG_MS)
    await groups.apply([GroupWrite(5, 1, "g", "s", (new(number, 0, 7),))])
    await topics.delete(number)
    assert await groups.offsets("g") == []
    again = await topic(db, "t", 2)
    assert await groups.offsets("g") == [], "a topic of the same name begins anew"
    await groups.apply([GroupWrite(5, 1, "g", offsets=(new(again, 0, 1),))])
    assert await groups.prune_deleted_topics() == 1
    assert [o.offset for o in await groups.offsets("g")] == [1]
