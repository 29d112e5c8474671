"""`neve fsck` on segments: each kind of damage is planted in a cluster in memory and found by its name; repairs repair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.agent_core import AgentCore
from broker.clock import SystemClock
from broker.fsck.findings import KINDS, SHOWN_MAX, Report
from broker.fsck.logs import LogCheck, ShardFacts, TopicFacts
from broker.fsck.objects import epoch_in, number_of
from broker.fsck.segments import SegmentFsck
from broker.objects.memory import MemoryStore
from broker.services import TopicView
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.sequence import Extent
from tests.data_path import Produced, batch_of, running_core


@dataclass
class World:
    """A cluster with two topics in a few objects, looked at from outside."""

    store: MemoryStore
    database: InlineDatabase
    core: AgentCore
    topic: TopicView
    other: TopicView

    def sql(self, statement: str, *args: Any) -> list[Any]:
        return self.database._connection.execute(statement, args).fetchall()

    async def fsck(self, **options: bool) -> Report:
        fsck = SegmentFsck(
            self.database, self.store, self.core.services.settings, self.core.cluster.cluster_id,
            rows_page=2, objects_page=2,
        )  # fmt: skip
        return await fsck.run(**options)

    def first_object(self) -> tuple[int, str]:
        [(object_id, name)] = self.sql("SELECT object_id, name FROM objects ORDER BY object_id LIMIT 1")
        return object_id, name

    def spoil(self, name: str, at: int) -> None:
        body, modified_ms = self.store._objects[name]
        self.store._objects[name] = (body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], modified_ms)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SystemClock()
    database = InlineDatabase(clock.now_ms)
    await migrate(database)
    store = MemoryStore(clock.now_ms)
    async with running_core(store=store, database=database.handle(), roles="broker", orphan_delay_ms=1) as core:
        topic, other = await core.topics.create("t", 2, {}), await core.topics.create("u", 1, {})
        produced = Produced(core)
        for n in range(5):
            both = [produced.send(topic, n % 2, batch_of(b"a", b"b")), produced.send(other, 0, batch_of(b"c"))]
            for outcome in both:
                assert not (await outcome).error
        yield World(store, database, core, topic, other)


async def test_a_sound_cluster_is_clean(world: World) -> None:
    report = await world.fsck(deep=True)
    assert report.clean
    assert not report.findings
    checked = report.checked
    assert checked["objects"] == checked["objects_read"] == checked["listed"] == 5
    assert (checked["extents"], checked["topics"], checked["partitions"]) == (10, 2, 3)


Plant = Callable[[World], None]
FIRST = "object_id = (SELECT MIN(object_id) FROM objects)"
LAST_EXTENT = "topic = 1 AND shard = 0 AND offset_next = 6"


def sql(*statements: str) -> Plant:
    def plant(world: World) -> None:
        for statement in statements:
            world.sql(statement)

    return plant


def lose_object(world: World) -> None:
    world.store._objects.pop(world.first_object()[1])


def shorten_object(world: World) -> None:
    name = world.first_object()[1]
    body, modified_ms = world.store._objects[name]
    world.store._objects[name] = (body[:-10], modified_ms)


def add_object(name: str) -> Plant:
    def plant(world: World) -> None:
        world.store._objects[f"{world.core.cluster.cluster_id}/segments/{name}"] = (b"x", 0)

    return plant


def spoil_header(world: World) -> None:
    world.spoil(world.first_object()[1], 20)


def spoil_body(world: World) -> None:
    name = world.first_object()[1]
    world.spoil(name, len(world.store._objects[name][0]) - 3)


def many_orphans(world: World) -> None:
    world.sql("INSERT INTO epochs VALUES (9000, 'x', 0, 0, 1, 0, 0)")
    world.sql("UPDATE counters SET next = 9001 WHERE name = 'agent_epoch'")
    for n in range(200):
        add_object(f"9000/{n}-00")(world)


SAME_NAME = "UPDATE objects SET name = (SELECT name FROM objects ORDER BY object_id LIMIT 1) WHERE object_id = (SELECT MIN(object_id) + 1 FROM objects)"
DAMAGES: list[tuple[str, Plant, bool]] = [
    ("object-missing", lose_object, False),
    ("object-size", shorten_object, False),
    ("range-outside", sql(f"UPDATE objects SET bytes = 150 WHERE {FIRST}"), False),
    ("ranges-overlap", sql(f"UPDATE extents SET byte_first = byte_first - 5 WHERE topic = 2 AND {FIRST}"), False),
    ("extent-without-object", sql(f"DELETE FROM objects WHERE {FIRST}"), False),
    ("object-condemned", sql("INSERT INTO condemned (object_id, condemned_ms, name) SELECT MIN(object_id), 0, 'x' FROM objects"), False),
    ("count-wrong", sql(f"UPDATE objects SET extents_live = 7 WHERE {FIRST}"), False),
    ("name-twice", sql(SAME_NAME), False),
    ("extent-empty", sql(f"UPDATE extents SET byte_length = 0 WHERE {LAST_EXTENT}"), False),
    ("extent-gap", sql("DELETE FROM extents WHERE topic = 1 AND shard = 0 AND offset_next = 4"), False),
    ("extent-gap", sql("DELETE FROM extents WHERE topic = 1 AND shard = 0 AND offset_next = 2"), False),
    ("extent-gap", sql(f"DELETE FROM extents WHERE {LAST_EXTENT}"), False),
    ("extent-gap", sql("DELETE FROM extents WHERE topic = 1 AND shard = 0"), False),
    ("extent-overlap", sql(f"UPDATE extents SET offset_first = 3 WHERE {LAST_EXTENT}"), False),
    ("extent-beyond", sql("UPDATE shards SET high_watermark = 5 WHERE topic = 1 AND shard = 0"), False),
    ("bounds-wrong", sql("UPDATE shards SET log_start = 9 WHERE topic = 1 AND shard = 0"), False),
    ("shard-missing", sql("UPDATE topics SET shards = 3 WHERE topic = 1"), False),
    ("deleted-topic-rows", sql("UPDATE topics SET deleted_ms = 1 WHERE topic = 1", "DELETE FROM shards WHERE topic = 1"), False),
    ("unknown-topic-rows", sql("DELETE FROM topics WHERE topic = 1"), False),
    ("unknown-topic-rows", sql("DELETE FROM topics WHERE topic = 1", "DELETE FROM shards WHERE topic = 1"), False),
    ("counter-behind", sql("UPDATE counters SET next = 1 WHERE name = 'agent_epoch'"), False),
    ("counter-behind", sql("UPDATE counters SET next = 2 WHERE name = 'topic'"), False),
    ("database-behind", add_object("77/0-00"), False),
    ("header-damage", spoil_header, True),
    ("run-damage", spoil_body, True),
    ("extent-misplaced", sql(f"UPDATE extents SET byte_first = byte_first + 1 WHERE topic = 2 AND {FIRST}"), True),
    ("extent-misplaced", sql(f"UPDATE extents SET batches = 2 WHERE {LAST_EXTENT}"), True),
    ("extent-misplaced", sql(f"UPDATE extents SET byte_length = byte_length - 1 WHERE {LAST_EXTENT}"), True),
    ("orphans-too-many", many_orphans, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "plant", "deep"), DAMAGES, ids=[f"{n}-{one[0]}" for n, one in enumerate(DAMAGES)])
async def test_planted_damage_is_found_by_name(world: World, kind: str, plant: Plant, deep: bool) -> None:
    plant(world)
    if deep:
        assert not (await world.fsck()).counts[kind], "only reading the bytes shows it"
    report = await world.fsck(deep=deep)
    assert report.counts[kind], report.as_dict()
    assert not report.clean
    assert all(finding.where and finding.detail for finding in report.findings)


def test_every_kind_of_segment_damage_is_planted() -> None:
    planted = {kind for kind, _, _ in DAMAGES} | {"orphan", "object-twice", "foreign-object"}
    assert planted == {kind for kind in KINDS if not kind.startswith(("table-", "ledger-"))}


async def test_litter_is_not_damage(world: World) -> None:
    world.sql("INSERT INTO epochs VALUES (50, 'x', 0, 0, 1, 0, 0)")
    world.sql("UPDATE counters SET next = 51 WHERE name = 'agent_epoch'")
    object_id, name = world.first_object()
    add_object("50/0-00")(world)
    add_object("notes.txt")(world)
    add_object("50/readme")(world)
    add_object(f"{object_id >> 32}/{object_id & 0xFFFFFFFF}-ffff")(world)
    add_object(f"{object_id >> 32}/999-ffff")(world)  # of a live agent: about to be committed
    report = await world.fsck()
    assert report.clean
    assert dict(report.counts) == {"orphan": 1, "foreign-object": 2, "object-twice": 1}
    assert report.checked["in_flight"] == 1
    repaired = await world.fsck(repair=True)
    assert repaired.repaired == {"orphan": 1}
    assert world.sql("SELECT object_id, deleted_ms FROM condemned") == [(50 << 32, None)]
    assert name in world.store._objects
    assert not (await world.fsck()).counts["orphan"], "it waits for its deletion"


async def test_an_epoch_that_died_lately_is_left_alone(world: World) -> None:
    world.sql("INSERT INTO epochs VALUES (50, 'x', 0, 0, 1, ?, 0)", SystemClock().now_ms() + 100_000)
    world.sql("UPDATE counters SET next = 51 WHERE name = 'agent_epoch'")
    add_object("50/0-00")(world)
    report = await world.fsck(repair=True)
    assert not report.findings
    assert report.checked["in_flight"] == 1


REPAIRABLE = ["count-wrong", "deleted-topic-rows", "counter-behind"]


@pytest.mark.parametrize("kind", REPAIRABLE)
async def test_what_is_repaired_stays_repaired(world: World, kind: str) -> None:
    for planted, plant, _ in DAMAGES:
        if planted == kind:
            plant(world)
    report = await world.fsck(repair=True)
    assert report.repaired[kind] == report.counts[kind] > 0
    assert report.clean, report.as_dict()
    again = await world.fsck()
    assert again.clean
    assert not again.counts[kind]


async def test_repair_touches_nothing_else(world: World) -> None:
    repairable = {kind for kind, facts in KINDS.items() if facts.repair}
    assert repairable == {*REPAIRABLE, "orphan"}
    for statement in (SAME_NAME, f"DELETE FROM extents WHERE {LAST_EXTENT}"):
        world.sql(statement)
    lose_object(world)
    before = [world.sql(f"SELECT * FROM {table}") for table in ("shards", "topics", "extents")]
    keys = list(world.store._objects)
    report = await world.fsck(repair=True)
    assert not report.clean
    assert [world.sql(f"SELECT * FROM {table}") for table in ("shards", "topics", "extents")] == before
    assert list(world.store._objects) == keys


def test_findings_are_bounded_and_counted() -> None:
    report = Report()
    for n in range(SHOWN_MAX + 5):
        report.add("orphan", f"o{n}", "x")
    assert len(report.findings) == SHOWN_MAX
    assert report.as_dict()["counts"] == {"orphan": SHOWN_MAX + 5}


def test_names_are_read_as_the_sweeper_reads_them() -> None:
    assert number_of(3, "c/segments/3/12-abc") == 3 << 32 | 12
    assert [number_of(3, f"c/segments/3/{name}") for name in ("x-1", "12", f"{2**32}-a")] == [None] * 3
    assert epoch_in("c/segments/3/12-abc", "c/segments/") == 3
    assert [epoch_in(f"c/segments/{name}", "c/segments/") for name in ("x/1-a", "3", f"{2**31}/0-a")] == [None] * 3


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.integers(0, 40),
    st.sampled_from(["none", "drop", "stretch"]),
    st.data(),
)
def test_logs_against_a_set_of_offsets(sizes: list[int], start: int, what: str, data: st.DataObject) -> None:
    """A log is sound exactly where every offset from start to end is covered once."""
    edges = [0]
    for size in sizes:
        edges.append(edges[-1] + size)
    end = edges[-1]
    start = min(start, end)
    spans = list(pairwise(edges))
    at = data.draw(st.integers(0, len(spans) - 1))
    if what == "drop":
        spans.pop(at)
    elif what == "stretch" and spans[at][0] > 0:
        spans[at] = (spans[at][0] - 1, spans[at][1])
    report = Report()
    check = LogCheck({1: TopicFacts("t", 1, False)}, {(1, 0): ShardFacts(end, start)}, report)
    check.take([Extent(1, 0, first, next_, 1, 0, 1, 1, 0, -1) for first, next_ in spans])
    check.end()
    covered = [sum(first <= offset < next_ for first, next_ in spans) for offset in range(end)]
    sound = all(covered[start:]) and all(count < 2 for count in covered)
    assert bool(report.findings) != sound
