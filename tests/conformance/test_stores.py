"""The stores above the database port, on every implementation of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import UUID

import pytest

from catalog.agents import AgentFacts, AgentStore, BrokerIdTaken
from catalog.cluster import ClusterStore
from catalog.configs import ConfigStore
from catalog.database import Database
from catalog.epochs import EpochStore
from catalog.exports import ExportStatus, ExportStore, LedgerFile, LedgerGap
from catalog.leases import LeaseLost, LeaseStore
from catalog.producer_ids import ProducerIdBlocks
from catalog.topics import (
    NotMoreShards,
    TableNameFixed,
    TableNameTaken,
    TopicCollides,
    TopicExists,
    TopicGone,
    TopicStore,
)
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000
SHORT_MS = 40


def uid(number: int) -> UUID:
    return UUID(int=number << 96 | number)


@pytest.fixture
def db(migrated: OpenDatabase) -> Database:
    return migrated.db


async def test_topics_come_back_as_created(db: Database) -> None:
    topics = TopicStore(db)
    made = await topics.create("flights", uid(1), 3, {"cleanup.policy": "compact"})
    other = await topics.create("planes", uid(2), 1, {})
    assert (made.topic_id, made.shards, made.config, made.deleted_ms) == (
        uid(1),
        3,
        {"cleanup.policy": "compact"},
        None,
    )
    assert await topics.by_names(["planes", "flights", "flights", "none"]) == [made, other]
    assert await topics.by_ids([uid(2), uid(9)]) == [other]
    assert await topics.all() == [made, other]
    assert await topics.by_names([]) == []
    with pytest.raises(TopicExists):
        await topics.create("flights", uid(3), 1, {})


async def test_a_topic_created_again_is_another_one(db: Database) -> None:
    topics = TopicStore(db)
    first = await topics.create("a.b-c", uid(1), 1, {})
    await topics.delete(first.topic)
    assert await topics.by_names(["a.b-c"]) == []
    with pytest.raises(TopicGone):
        await topics.delete(first.topic)
    second = await topics.create("a.b-c", uid(2), 1, {})
    assert second.topic > first.topic
    assert await topics.tables(first.topic) == {
        "main": "topics.a_b_c",
        "dlq": "topics.a_b_c__dlq",
        "history": "topics.a_b_c__history",
    }
    assert (await topics.tables(second.topic))["main"] == f"topics.a_b_c_{uid(2).hex[:8]}"


@pytest.mark.parametrize(
    ("first", "second"), [("Flights", "flights"), ("a.b", "a-b"), ("a", "a__dlq"), ("a__history", "a")]
)
async def test_table_names_that_clash_get_a_suffix(db: Database, first: str, second: str) -> None:
    topics = TopicStore(db)
    await topics.create(first, uid(1), 1, {})
    clashing = await topics.create(second, uid(2), 1, {})
    assert (await topics.tables(clashing.topic))["main"].endswith(f"_{uid(2).hex[:8]}")


async def test_names_kept_by_iceberg_get_a_suffix(db: Database) -> None:
    topics = TopicStore(db)
    for number, name in enumerate(("files", "Snapshots"), 1):
        made = await topics.create(name, uid(number), 1, {})
        assert (await topics.tables(made.topic))["main"] == f"topics.{name}_{uid(number).hex[:8]}"


async def test_declared_tables_are_taken_or_refused(db: Database) -> None:
    topics = TopicStore(db)
    made = await topics.create("a", uid(1), 1, {"iceberg.table": "lake.Events"})
    assert (await topics.tables(made.topic))["dlq"] == "lake.Events__dlq"
    with pytest.raises(TableNameTaken):
        await topics.create("b", uid(2), 1, {"iceberg.table": "lake.events"})
    assert await topics.by_names(["b"]) == []
    with pytest.raises(TableNameFixed):
        await topics.set_config(made.topic, {})


async def test_changes_are_listed_in_order(db: Database) -> None:
    topics = TopicStore(db)
    a, b = [await topics.create(name, uid(i), 1, {}) for i, name in enumerate("ab", 1)]
    changed = await topics.set_config(a.topic, {"retention.ms": "5"})
    assert changed.config == {"retention.ms": "5"}
    assert [row.name for row in await topics.changed_since(0)] == ["b", "a"]
    assert await topics.changed_since(b.changed) == [changed]
    await topics.delete(b.topic)
    [gone] = await topics.changed_since(changed.changed)
    assert (gone.name, gone.deleted_ms is not None) == ("b", True)


async def test_topics_created_at_once_by_two_agents(migrated: OpenDatabase) -> None:
    stores = [TopicStore(migrated.db), TopicStore(await migrated.another())]
    made = await asyncio.gather(
        *(stores[i % 2].create(f"t{i // 2}", uid(i + 1), 2, {}) for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(one, TopicExists) for one in made) == 10
    assert len({row.topic for row in await stores[0].all()}) == 10


async def test_epochs_are_issued_once_and_lost_for_ever(db: Database) -> None:
    epochs = EpochStore(db)
    first, second = await epochs.issue("one", LONG_MS), await epochs.issue("two", SHORT_MS)
    assert second.epoch > first.epoch
    renewed = await epochs.renew(first.epoch, LONG_MS)
    assert renewed is not None
    assert renewed.lease_until_ms >= first.lease_until_ms
    await asyncio.sleep(2 * SHORT_MS / 1000)
    assert not await epochs.live(second.epoch)
    assert await epochs.renew(second.epoch, LONG_MS) is None
    assert await epochs.retire_lapsed() == [second.epoch]
    assert await epochs.retire_lapsed() == []
    assert await epochs.live(first.epoch)
    await epochs.retire(first.epoch)
    assert not await epochs.live(first.epoch)
    assert await epochs.renew(first.epoch, LONG_MS) is None
    assert await epochs.renew(999, LONG_MS) is None


def agent(instance: str, port: int = 9092) -> AgentFacts:
    return AgentFacts(instance, "127.0.0.1", port, "a", "broker", "0.1.0")


async def test_broker_ids_are_the_lowest_free(migrated: OpenDatabase) -> None:
    agents = AgentStore(migrated.db)
    other = AgentStore(await migrated.another())
    ids = await asyncio.gather(*((agents, other)[i % 2].register(agent(f"i{i}"), LONG_MS) for i in range(6)))
    assert sorted(ids) == [1, 2, 3, 4, 5, 6]
    await agents.leave(3, f"i{ids.index(3)}")
    assert [row.broker_id for row in await agents.live()] == [1, 2, 4, 5, 6]
    assert await other.register(agent("new"), LONG_MS) == 3
    assert await other.register(agent("new", 9999), LONG_MS) == 3
    assert next(row for row in await agents.live() if row.broker_id == 3).facts == agent("new", 9999)
    with pytest.raises(BrokerIdTaken):
        await agents.register(agent("more"), LONG_MS, broker_id=4)
    assert await agents.register(agent("more"), LONG_MS, broker_id=40) == 40


async def test_a_broker_id_is_taken_over_once_its_lease_has_run_out(db: Database) -> None:
    agents = AgentStore(db)
    assert await agents.register(agent("old"), SHORT_MS) == 1
    assert await agents.heartbeat(1, "old", SHORT_MS)
    await asyncio.sleep(2 * SHORT_MS / 1000)
    assert await agents.live() == []
    assert await agents.register(agent("new"), LONG_MS) == 1
    assert not await agents.heartbeat(1, "old", LONG_MS)
    assert [row.facts.instance for row in await agents.live()] == ["new"]


async def test_a_process_that_starts_has_the_id_of_the_one_before_at_its_address(db: Database) -> None:
    agents = AgentStore(db)
    for port in (9001, 9002, 9003):
        await agents.register(agent(f"first {port}", port), LONG_MS)
    assert await agents.register(agent("second 9002", 9002), LONG_MS, succeeds=True) == 2, "its lease hasn't run out"
    assert not await agents.heartbeat(2, "first 9002", LONG_MS)
    assert await agents.register(agent("first 9002", 9002), LONG_MS) == 4, "who lives after all enters anew"
    assert await agents.heartbeat(2, "second 9002", LONG_MS)
    assert await agents.register(agent("elsewhere", 9009), LONG_MS, succeeds=True) == 5
    with pytest.raises(BrokerIdTaken):
        await agents.register(agent("elsewhere", 9009), LONG_MS, 1, succeeds=True)
    assert await agents.register(agent("second 9001", 9001), LONG_MS, 1, succeeds=True) == 1
    await db.transact(lambda tx: tx.execute("UPDATE agents SET lease_until_ms = 0 WHERE broker_id = 3"))
    assert await agents.register(agent("second 9003", 9003), LONG_MS, succeeds=True) == 3, "however long ago"
    assert [row.facts.port for row in await agents.live()] == [9001, 9002, 9003, 9002, 9009]


async def test_agents_behind_one_address_come_to_rest(db: Database) -> None:
    agents = AgentStore(db)
    ids: dict[str, int] = {}
    for number in range(4):
        name = f"agent {number}"
        ids[name] = await agents.register(agent(name), LONG_MS, succeeds=True)
        for each, broker_id in ids.items():  # what a heartbeat does in an agent
            if not await agents.heartbeat(broker_id, each, LONG_MS):
                ids[each] = await agents.register(agent(each), LONG_MS)
        assert sorted(ids.values()) == list(range(1, number + 2))
        assert all([await agents.heartbeat(broker_id, each, LONG_MS) for each, broker_id in ids.items()])
    assert {row.facts.instance: row.broker_id for row in await agents.live()} == ids


async def test_leases_have_one_holder_and_growing_epochs(migrated: OpenDatabase) -> None:
    leases, other = LeaseStore(migrated.db), LeaseStore(await migrated.another())
    taken = await asyncio.gather(*((leases, other)[i % 2].acquire("job", f"h{i}", LONG_MS) for i in range(6)))
    [held] = [lease for lease in taken if lease is not None]
    renewed = await other.renew(held, LONG_MS)
    assert renewed.lease_until_ms >= held.lease_until_ms
    await leases.release(held)
    with pytest.raises(LeaseLost):
        await leases.renew(held, LONG_MS)
    following = await other.acquire("job", "next", SHORT_MS)
    assert following is not None
    assert following.epoch == held.epoch + 1
    await leases.release(held)  # not the holder any more: no effect
    assert await leases.acquire("job", "thief", LONG_MS) is None
    await asyncio.sleep(2 * SHORT_MS / 1000)
    with pytest.raises(LeaseLost):
        await leases.renew(following, LONG_MS)
    assert await leases.acquire("job", "heir", LONG_MS) is not None


async def test_many_leases_are_renewed_at_once_and_lost_ones_are_told(migrated: OpenDatabase) -> None:
    leases, other = LeaseStore(migrated.db), LeaseStore(await migrated.another())
    held = [lease for name in "abc" if (lease := await leases.acquire(name, "me", LONG_MS)) is not None]
    await leases.release(held[1])
    thief = await other.acquire("b", "thief", LONG_MS)
    assert thief is not None
    renewed = await leases.renew_all(held, 2 * LONG_MS)
    assert {name: lease.epoch for name, lease in renewed.items()} == {"a": 1, "c": 1}
    assert renewed["a"].lease_until_ms > held[0].lease_until_ms
    assert (await other.renew_all([thief], LONG_MS)).keys() == {"b"}
    assert await leases.renew_all([], LONG_MS) == {}


async def test_a_holder_known_to_be_dead_is_followed_at_once_under_a_new_epoch(migrated: OpenDatabase) -> None:
    leases, other = LeaseStore(migrated.db), LeaseStore(await migrated.another())
    dead = await leases.acquire("job", "child", LONG_MS)
    assert dead is not None
    assert await other.acquire("job", "stranger", LONG_MS, resume=True) is None
    assert await other.acquire("job", "child", LONG_MS) is None
    following = await other.acquire("job", "child", LONG_MS, resume=True)
    assert following is not None
    assert following.epoch == dead.epoch + 1
    with pytest.raises(LeaseLost):  # had it lived, it would be fenced
        await leases.renew(dead, LONG_MS)


async def test_the_cluster_id_is_whoever_was_first(migrated: OpenDatabase) -> None:
    clusters = [ClusterStore(migrated.db), ClusterStore(await migrated.another())]
    assert await clusters[0].get() is None
    ids = await asyncio.gather(*(clusters[i % 2].get_or_create(f"c{i}") for i in range(4)))
    assert len(set(ids)) == 1
    assert await clusters[1].get() == ids[0]


async def test_producer_ids_are_never_issued_twice(migrated: OpenDatabase) -> None:
    blocks = [ProducerIdBlocks(migrated.db, 3), ProducerIdBlocks(await migrated.another(), 3)]
    ids = await asyncio.gather(*(blocks[i % 2].issue() for i in range(40)))
    assert len(set(ids)) == 40


def parquet(first: int, following: int, shard: int = 0, path: str | None = None) -> LedgerFile:
    return LedgerFile(
        7, "main", shard, first, following, path or f"{shard}/{first}.parquet", 10, following - first, "ab"
    )


async def test_the_ledger_is_contiguous_under_its_lease(db: Database) -> None:
    leases, exports = LeaseStore(db), ExportStore(db)
    lease = await leases.acquire("export", "me", LONG_MS)
    assert lease is not None
    hold = (lease.name, lease.epoch)
    first = await exports.add(parquet(5, 10), *hold)
    assert await exports.add(parquet(5, 10), *hold) == first
    second = await exports.add(parquet(10, 12), *hold)
    other = await exports.add(parquet(0, 3, shard=1), *hold)
    for wrong in (parquet(13, 14), parquet(11, 14), parquet(5, 10, path="other")):
        with pytest.raises(LedgerGap):
            await exports.add(wrong, *hold)
    assert await exports.pending(7, "main") == [first, second, other]
    with pytest.raises(LedgerGap):
        await exports.mark_abandoned([first.id], "b0", *hold)
    await exports.mark_abandoned([first.id, second.id], "b0", *hold)
    assert await exports.pending(7, "main") == [other]
    again = await exports.add(parquet(5, 9, path="again"), *hold)
    await exports.mark_committed([again.id, other.id], "b1", *hold)
    assert await exports.pending(7, "main") == []
    assert await exports.ends(7, "main") == {0: 9, 1: 3}
    await leases.release(lease)
    with pytest.raises(LeaseLost):
        await exports.add(parquet(9, 20), *hold)
    with pytest.raises(LeaseLost):
        await exports.mark_committed([again.id], "b2", *hold)


async def test_export_statuses_are_replaced(db: Database) -> None:
    exports = ExportStore(db)
    status = ExportStatus(7, "main", "topics.t", None, "Pending", "", {}, None)
    await exports.put_status(status)
    running = ExportStatus(7, "main", "topics.t", "uuid", "Running", "fine", {0: 5, 10: 2**40}, 123)
    await exports.put_status(running)
    dlq = ExportStatus(8, "dlq", "topics.t__dlq", None, "Pending", "", {}, None)
    await exports.put_status(dlq)
    assert await exports.statuses() == [running, dlq]
    assert await exports.statuses(7) == [running]


async def test_topics_alike_collide_also_when_both_are_made_at_once(db: Database) -> None:
    topics = TopicStore(db)
    await topics.create("like.this", uid(1), 1, {})
    for name in ("like_this", "like.this"):
        assert await topics.collision(name) == "like.this"
    with pytest.raises(TopicCollides) as refused:
        await topics.create("like_this", uid(2), 1, {})
    assert refused.value.existing == "like.this"
    with pytest.raises(TopicExists):
        await topics.create("like.this", uid(3), 1, {})
    made = await topics.by_names(["like.this"])
    await topics.delete(made[0].topic)
    assert await topics.collision("like_this") is None
    await topics.create("like_this", uid(4), 1, {})


async def test_a_topic_grows_and_never_shrinks(db: Database) -> None:
    topics = TopicStore(db)
    made = await topics.create("grows", uid(1), 2, {})
    grown = await topics.grow(made.topic, 5)
    assert (grown.shards, grown.changed > made.changed) == (5, True)
    assert [row.shards for row in await topics.changed_since(made.changed)] == [5]
    shards = await db.snapshot(
        lambda tx: tx.fetch("SELECT shard, high_watermark FROM shards WHERE topic = $1 ORDER BY shard", made.topic)
    )
    assert [tuple(row) for row in shards] == [(shard, 0) for shard in range(5)]
    for count in (5, 3):
        with pytest.raises(NotMoreShards) as refused:
            await topics.grow(made.topic, count)
        assert refused.value.shards == 5
    await topics.delete(made.topic)
    with pytest.raises(TopicGone):
        await topics.grow(made.topic, 9)


async def test_configs_change_in_one_step_and_are_heard_of(db: Database) -> None:
    configs = ConfigStore(db)
    first = await configs.alter(4, "", lambda config: {**config, "a": "1"})
    await configs.alter(4, "", lambda config: {**config, "b": "2"})
    await configs.alter(32, "", lambda config: {**config, "c": "3"})

    def refuse(config: Mapping[str, str]) -> Mapping[str, str]:
        raise ValueError("not this")

    with pytest.raises(ValueError, match="not this"):
        await configs.alter(4, "", refuse)
    rows = await configs.changed_since(0)
    assert [(row.kind, row.name, dict(row.config)) for row in rows] == [(4, "", {"a": "1", "b": "2"}), (32, "", {"c": "3"})]  # fmt: skip
    last = await configs.alter(4, "", lambda _: {})
    assert await configs.changed_since(rows[-1].changed) == [last]
    assert last.changed > first.changed
