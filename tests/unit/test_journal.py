"""The journal: its bytes, what it takes from commits, when it writes, what rides on flushes; and what is made of it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.clock import SystemClock
from broker.journal.journal import CARRIED_MAX, Journal
from broker.journal.replay import Contradiction, Gap, Replayed, replay
from broker.objects.memory import MemoryStore
from broker.objects.port import Buffer, Unavailable
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from catalog.sequence import BatchFacts, ObjectFacts, ShardState, sequence
from schemas.journal import Block, Entry, JournalError, pack_block, pack_object, unpack_block, unpack_object
from schemas.segment import parse_segment
from schemas.settings import Settings
from tests.data_path import Produced, batch_of, running_core

number = st.integers(0, 2**31 - 1)
long = st.integers(-(2**40), 2**40)
extents = st.tuples(number, number, long, long, number, number, number, number, long, long)
producers = st.tuples(number, number, long, number, number, number, long, long)
entries = st.builds(
    Entry, number, st.text(max_size=30), number, st.lists(extents, max_size=3), st.lists(producers, max_size=3)
)


@given(st.lists(entries, max_size=5), long, st.lists(st.tuples(number, st.text()), max_size=2))
def test_blocks_and_objects_come_back(made: list[Entry], now_ms: int, topics: list[Any]) -> None:
    block = pack_block(made, now_ms)
    assert unpack_block(block) == Block(now_ms, tuple(made))
    rows = [list(row) for row in topics]
    assert unpack_object(pack_object(block, rows)) == (Block(now_ms, tuple(made)), rows)


@settings(max_examples=60)
@given(st.lists(entries, min_size=1, max_size=3), st.data())
def test_damage_never_passes(made: list[Entry], data: st.DataObject) -> None:
    body = bytearray(pack_object(pack_block(made, 5), [[1, "t"]]))
    at = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del body[at:]
    with pytest.raises(JournalError):
        unpack_object(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        unpack_block(data)
    except JournalError:
        pass


class Store(MemoryStore):
    """Refuses what is told."""

    refuse = ""

    async def put(self, key: str, parts: Any, *, if_absent: bool = True) -> None:
        if self.refuse and self.refuse in key:
            raise Unavailable("not now")
        await super().put(key, parts, if_absent=if_absent)


async def read_all(store: MemoryStore) -> tuple[list[Block], list[Any]]:
    """Every block in the bucket, and journalled topics."""
    blocks, topics = [], []
    async for page in store.list(""):
        for info in page:
            body: Buffer = await store.get(info.key)
            if "/journal/" in info.key:
                block, rows = unpack_object(body)
                blocks.append(block)
                topics += rows
            elif "/segments/" in info.key:
                carried = parse_segment(body, len(body)).journal
                blocks += [unpack_block(carried)] if carried else []
    return blocks, topics


async def test_what_is_committed_is_in_the_bucket_within_the_interval() -> None:
    store = Store(SystemClock().now_ms)
    database = InlineDatabase(SystemClock().now_ms)
    await migrate(database)
    async with running_core(store=store, database=database, journal_interval_ms=50, roles="broker") as core:
        topic = await core.topics.create("t", 2, {})
        produced = Produced(core)
        for n in range(6):
            records = batch_of(b"a", b"b", producer_id=7, producer_epoch=0, base_sequence=2 * (n // 2))
            assert not (await produced.send(topic, n % 2, records)).error
        core.journal._topics_seen = 0
        await asyncio.sleep(0.2)
        assert core.journal.oldest_s is None
        blocks, topics = await read_all(store)
        made = {entry.object_id: entry for block in blocks for entry in block.entries}
        rows = database._connection.execute(
            "SELECT topic, shard, offset_first, offset_next, object_id, byte_first, byte_length, batches, timestamp_max, "
            "append_ms FROM extents ORDER BY object_id"
        ).fetchall()
        assert [tuple(row) for object_id in sorted(made) for row in made[object_id].extents] == rows
        assert [made[object_id].producers[0][4:7] for object_id in sorted(made)] == [
            (0, 1, 0), (0, 1, 0), (2, 3, 2), (2, 3, 2), (4, 5, 4), (4, 5, 4),
        ]  # fmt: skip
        names = dict(database._connection.execute("SELECT object_id, name FROM objects").fetchall())
        assert {object_id: entry.name for object_id, entry in made.items()} == names
        assert topics[0][2] == "t"
        assert {kind for _, kind, _ in topics[0][7]} == {"dlq", "history", "main"}
        objects = core.journal.objects
        await asyncio.sleep(0.15)
        assert core.journal.objects == objects, "nothing is written while nothing happens"


async def test_outcomes_ride_on_flushes_and_come_back_when_the_upload_fails() -> None:
    store = Store(SystemClock().now_ms)
    async with running_core(store=store, journal_interval_ms=3_600_000, commit_deadline_ms=300, roles="broker") as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        for _ in range(CARRIED_MAX + 2):
            assert not (await produced.send(topic, 0, batch_of(b"a"))).error
        blocks, _ = await read_all(store)
        assert sum(len(block.entries) for block in blocks) == CARRIED_MAX
        assert core.journal.objects == 0
        for _ in range(CARRIED_MAX):
            if len(core.journal._waiting) == CARRIED_MAX:
                break
            await produced.send(topic, 0, batch_of(b"a"))
        waiting = [noted.object_id for noted in core.journal._waiting]
        store.refuse = "/segments/"
        assert (await produced.send(topic, 0, batch_of(b"lost"))).error
        assert [noted.object_id for noted in core.journal._waiting] == waiting
        store.refuse = "/journal/"
        await core.journal.round()
        assert [noted.object_id for noted in core.journal._waiting] == waiting, "a round that failed lost nothing"
        store.refuse = ""
        await core.journal.close()
        blocks, _ = await read_all(store)
        journalled = [entry.object_id for block in blocks for entry in block.entries]
        assert sorted(set(journalled)) == sorted(
            row[0]
            for row in core.database._connection.execute("SELECT object_id FROM objects").fetchall()  # type: ignore[attr-defined]
        )


async def test_a_slow_upload_does_not_keep_what_rides_on_it_and_the_bound_holds() -> None:
    store, clock = Store(SystemClock().now_ms), SystemClock()
    database = InlineDatabase(clock.now_ms)
    await migrate(database)
    values = Settings(journal_interval_ms=1, journal_waiting_max=CARRIED_MAX + 1)
    journal = Journal(store, database, clock, values, cluster_id="c", instance="i")
    facts = ObjectFacts(1, "n", 1, (BatchFacts(1, 0, 0, 10, 1, 1, False),))
    done = sequence([facts], {(1, 0): ShardState(0, 0)}, {}, 1)
    for n in range(CARRIED_MAX + 3):
        journal.note(n, f"n{n}", 1, facts.batches, done.outcomes[0], done.extents)
    assert journal.dropped == 2
    carried = journal.carry()
    assert carried is not None
    await asyncio.sleep(0.01)
    await journal.round()
    [block], _ = await read_all(store)
    assert [entry.object_id for entry in block.entries] == list(range(2, CARRIED_MAX + 3))
    journal.settled(carried, stored=False)
    assert journal.oldest_s is None


def block_of(*entries: Entry, at_ms: int = 1) -> Block:
    return Block(at_ms, entries)


def entry_of(number: int, *spans: tuple[int, int, int], producers: tuple[Any, ...] = ()) -> Entry:
    """(shard, first, next) each."""
    rows = [(1, shard, first, next_, number, 0, 10, 1, 0, -1) for shard, first, next_ in spans]
    return Entry(number, f"n{number}", 100, rows, producers)


def test_gaps_are_never_given_again() -> None:
    shards = {(1, 0): ShardState(10, 0), (1, 1): ShardState(0, 0), (1, 2): ShardState(5, 0)}
    blocks = [
        block_of(entry_of(3, (0, 20, 22))),
        block_of(entry_of(1, (0, 10, 15), (1, 0, 4)), entry_of(0, (0, 8, 10))),
        block_of(entry_of(3, (0, 20, 22)), entry_of(9, (7, 0, 1)), at_ms=5),
    ]
    done = replay(shards, {}, blocks, {(1, 1): 3}, {(1, 2): 9, (1, 0): 1})
    assert done.gaps == [Gap(1, 0, 15, 20), Gap(1, 1, 4, 7), Gap(1, 2, 5, 9)]
    assert {key: state.high_watermark for key, state in done.shards.items()} == {(1, 0): 22, (1, 1): 7, (1, 2): 9}
    assert {number: one[1] for number, one in done.objects.items()} == {1: 2, 3: 1}
    assert done.unknown == {(1, 7): 1}
    assert done.through_ms == 5


@pytest.mark.parametrize("spans", [((0, 10, 15), (0, 12, 16)), ((0, 10, 15), (0, 10, 16))])
def test_contradictions_are_refused(spans: tuple[Any, ...]) -> None:
    blocks = [block_of(entry_of(n, span)) for n, span in enumerate(spans)]
    with pytest.raises(Contradiction):
        replay({(1, 0): ShardState(10, 0)}, {}, blocks, {}, {})


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_replay_against_the_sequencer(data: st.DataObject) -> None:
    """Commits of several producers; a snapshot somewhere; some outcomes after it are lost: what is journalled comes back."""
    shards: dict[Any, Any] = {(1, 0): ShardState(0, 0), (1, 1): ShardState(0, 0)}
    states: dict[Any, Any] = {}
    following: dict[Any, int] = {}
    history = []
    count = data.draw(st.integers(1, 12))
    at = data.draw(st.integers(0, count))
    snapshot = (dict(shards), dict(states))
    for n in range(count):
        if n == at:
            snapshot = (dict(shards), dict(states))
        batches = []
        for place, (shard, producer, size) in enumerate(
            data.draw(
                st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 1), st.integers(1, 4)), min_size=1, max_size=4)
            )
        ):
            first = following.get((shard, producer), 0) if producer >= 0 else -1
            repeat = producer >= 0 and first > 0 and data.draw(st.booleans())
            batches.append(BatchFacts(1, shard, 100 * place, 100, size, 5, False, producer, 0, 0 if repeat else first))
            if producer >= 0 and not repeat:
                following[shard, producer] = first + size
        batches.sort(key=lambda one: one.shard)
        facts = ObjectFacts(n, f"n{n}", 1000, tuple(batches))
        done = sequence([facts], shards, states, 1)
        shards |= done.shards
        states |= done.producers
        rows = [
            (
                one.topic, one.shard, one.producer_id, one.producer_epoch, one.base_sequence,
                one.base_sequence + one.offset_count - 1, outcome.offset, -1,
            )
            for one, outcome in zip(batches, done.outcomes[0], strict=True)
            if one.producer_id >= 0 and not outcome.error and not outcome.duplicate
        ]  # fmt: skip
        history.append((n, done, Entry(n, f"n{n}", 1000, list(done.extents), rows)))
    if at == count:
        snapshot = (dict(shards), dict(states))
    kept = [entry for n, _, entry in history if n < at or data.draw(st.booleans())]
    blocks = [block_of(entry) for entry in data.draw(st.permutations(kept + kept[:2]))]
    lost = {entry.object_id for _, _, entry in history} - {entry.object_id for entry in kept}
    possible: dict[Any, int] = {}
    for n, _, entry in history:
        for row in entry.extents:
            if n in lost:
                possible[row[0], row[1]] = possible.get((row[0], row[1]), 0) + row[3] - row[2]
    result = replay(*snapshot, blocks, possible, {})
    for key, state in shards.items():
        ends = result.shards.get(key, snapshot[0][key])
        assert ends.high_watermark >= state.high_watermark, "an offset that was given is given again"
        whole = sorted(
            [(one.offset_first, one.offset_next) for one in result.extents if (one.topic, one.shard) == key]
            + [(gap.offset_first, gap.offset_next) for gap in result.gaps if (gap.topic, gap.shard) == key]
        )
        edge = snapshot[0][key].high_watermark
        for first, next_ in whole:
            assert first == edge
            edge = next_
        assert edge == ends.high_watermark
    journalled = {row for entry in kept if entry.object_id >= at for row in entry.extents}
    assert set(result.extents) == journalled
    if not lost:
        assert not result.gaps
        assert {**snapshot[1], **result.producers} == states
        assert {**snapshot[0], **result.shards} == shards
    assert isinstance(result, Replayed)
