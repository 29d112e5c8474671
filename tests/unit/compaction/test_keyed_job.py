"""Key compaction's job over a whole agent in memory: what is compacted, when, and what readers see of it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.compaction.keyed_round import LogUnreadable
from broker.services import OffsetAnswer
from catalog.compaction import CompactionStore
from catalog.database import CommitUnknown
from catalog.exports import ExportStatus, ExportStore
from catalog.leases import LeaseLost
from catalog.topics import TopicStore
from tests.data_path import Produced
from tests.keyed_world import COMPACT, NOW_MS, RETENTION_MS, HeldTurn, World, pairs, put

A, B, C = b"a", b"b", b"c"


async def test_the_latest_record_of_each_key_is_left_where_it_was() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, [(A, b"1"), (B, b"1")], [(A, b"2")], [(C, b"1"), (A, b"3")], [(B, b"2")])
        job = await world.clean(core)
        assert pairs(await world.records(topic)) == [(3, C, b"1"), (4, A, b"3"), (5, B, b"2")]
        assert (job.counts.rounds, job.counts.records_removed) == (1, 3)
        state = await world.state(topic)
        assert state is not None
        assert (state.cleaned_through, state.touched_through, state.cleaned_ms) == (6, 6, NOW_MS)
        [start, end] = await core.reader.list_offsets([(topic.topic, 0, -2), (topic.topic, 0, -1)])
        assert (start.offset, end.offset) == (0, 6)


async def test_a_fetch_inside_a_hole_gets_what_follows_it() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, [(A, b"1")], [(A, b"2")], [(A, b"3")], [(B, b"1")], [(A, b"4")], [(C, b"1")])
        await world.clean(core)
        headers = [header for header, _ in await world.batches(topic)]
        assert [header.base_offset for header in headers] == [3, 4, 5], "nothing is served of a hole"
        for offset in range(3):
            [(header, _), *_] = await world.batches(topic, offset=offset)
            assert header.base_offset == 3


async def test_a_consumer_goes_on_where_nothing_is_left() -> None:
    """Every extent that is left ends in something that is served, so no position is a trap."""
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT | {"delete.retention.ms": "0"})
        await put(core, topic, *[[(A, None)]] * 5)
        for _ in range(3):
            await world.clean(core)
            await put(core, topic, [(A, None)])
        assert (await world.records(topic))[-1].offset == 7
        for offset in range(8):
            await world.batches(topic, offset=offset)


async def test_tombstones_wait_for_delete_retention_from_the_first_round() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, [(A, b"1"), (B, b"1")], [(A, None)])
        world.now_ms += 10 * RETENTION_MS
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(1, B, b"1"), (2, A, None)]
        world.now_ms += RETENTION_MS - 1
        await put(core, topic, [(C, b"1")])
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(1, B, b"1"), (2, A, None), (3, C, b"1")]
        world.now_ms += 1
        await put(core, topic, [(C, b"2")])
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(1, B, b"1"), (4, C, b"2")]


async def test_years_of_history_are_compacted_in_several_rounds() -> None:
    world = World()
    async with world.agent(key_compaction_keys_max=3, key_compaction_chunk_bytes=300) as core:
        topic = await core.topics.create("t", 1, COMPACT | {"cleanup.policy": "delete", "retention.ms": "-1"})
        await put(core, topic, *[[(b"k%d" % (at % 7), b"%d" % at), (None, b"no key")] for at in range(40)])
        await world.clean(core)
        assert len(await world.records(topic)) == 80, "not compacted"
        await TopicStore(world.database).set_config(topic.topic, COMPACT)
        job = await world.clean(core)
        assert job.counts.rounds > 5
        left = await world.records(topic)
        assert [(one.key, one.value) for one in left] == [(b"k%d" % (at % 7), b"%d" % at) for at in range(33, 40)]
        await TopicStore(world.database).set_config(topic.topic, {"cleanup.policy": "delete"})
        await put(core, topic, [(b"k1", b"again")])
        await world.clean(core)
        assert len(await world.records(topic)) == 8, "switched off again"


async def test_nothing_is_removed_once_the_topic_is_not_compacted_any_more() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, [(A, b"1")], [(A, b"2")])
        job = world.job(core)
        turn = HeldTurn(await world.lease(), steps_left=4)
        assert await job.run_once(turn), "the index is made"
        await TopicStore(world.database).set_config(topic.topic, {})
        turn.steps_left = 100
        assert not await job.run_once(turn)
        assert job.counts.rounds_ended == 1
        assert len(await world.records(topic)) == 2


async def test_the_dirty_ratio_and_the_lags_decide_when() -> None:
    world = World()
    async with world.agent(key_compaction_tail_ms=5_000) as core:
        config = COMPACT | {"min.cleanable.dirty.ratio": "0.6", "min.compaction.lag.ms": "20000"}
        topic = await core.topics.create("t", 1, config)
        await put(core, topic, [(A, b"1")], [(A, b"2")], timestamp=NOW_MS)
        assert (await world.clean(core)).counts.due == 0, "the newest data stays"
        world.now_ms += 19_999
        assert (await world.clean(core)).counts.due == 0, "and so does the last millisecond of the lag"
        world.now_ms += 1
        assert (await world.clean(core)).counts.rounds == 1
        await put(core, topic, [(A, b"3")], timestamp=NOW_MS)
        world.now_ms += 5_001
        job = await world.clean(core)
        assert job.counts.due == 0
        assert job.counts.ratio_max == pytest.approx(70 / 201), "a record, beside one and the filler in front of it"
        await TopicStore(world.database).set_config(topic.topic, config | {"max.compaction.lag.ms": "25001"})
        assert (await world.clean(core)).counts.due == 0
        world.now_ms += 1
        assert (await world.clean(core)).counts.rounds == 1, "whatever the ratio"
        assert pairs(await world.records(topic)) == [(2, A, b"3")]


async def test_records_that_are_not_in_the_tables_yet_stay() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT | {"iceberg.mode": "raw"})
        await put(core, topic, [(A, b"1")], [(A, b"2")], [(A, b"3")])
        exports = ExportStore(world.database)
        await exports.put_status(ExportStatus(topic.topic, "main", "t", "u", "Running", "", {0: 3}, NOW_MS))
        await exports.put_status(ExportStatus(topic.topic, "history", "t_h", "u", "Running", "", {0: 2}, NOW_MS))
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(1, A, b"2"), (2, A, b"3")]
        state = await world.state(topic)
        assert state is not None
        assert state.touched_through == 2


async def test_offsets_by_time_name_records_that_are_left() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        for at in range(6):
            await put(core, topic, [(A if at % 2 else B, b"%d" % at)], timestamp=1_000 * at, producer_id=5,
                      producer_epoch=0, base_sequence=at)  # fmt: skip
        await put(core, topic, [(A, b"x")], timestamp=2_500)
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(4, B, b"4"), (6, A, b"x")]
        times = [0, 2_400, 2_501, 4_001, -3]
        answers = [await _by_time(world, topic, time) for time in times]
        assert answers == [(4, 4_000), (4, 4_000), (4, 4_000), (-1, -1), (4, 4_000)]


async def _by_time(world: World, topic: Any, timestamp: int) -> tuple[int, int]:
    async with world.agent(seed=98) as core:
        [answer] = await core.reader.list_offsets([(topic.topic, 0, timestamp)])
        assert isinstance(answer, OffsetAnswer)
        assert not answer.error
        return answer.offset, answer.timestamp


async def test_offsets_by_append_time_name_records_that_are_left() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT | {"message.timestamp.type": "LogAppendTime"})
        await put(core, topic, [(A, b"1"), (B, b"1"), (A, b"2")])
        world.now_ms += 10
        await put(core, topic, [(C, b"1")])
        await world.clean(core)
        left = await world.records(topic)
        assert [(one.offset, one.timestamp) for one in left] == [(1, NOW_MS), (2, NOW_MS), (3, NOW_MS + 10)]
        assert await _by_time(world, topic, NOW_MS - 5) == (1, NOW_MS)
        assert await _by_time(world, topic, NOW_MS + 1) == (3, NOW_MS + 10)


async def test_an_idempotent_producer_goes_on_after_its_records_are_gone() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        mine = {"producer_id": 5, "producer_epoch": 0}
        await put(core, topic, [(A, b"1"), (A, b"2")], base_sequence=0, **mine)
        await put(core, topic, [(A, b"3")])
        await world.clean(core)
        assert pairs(await world.records(topic)) == [(2, A, b"3")]
        [(header, data), *_] = await world.batches(topic)
        assert (header.producer_id, header.base_sequence, header.last_offset_delta, len(data)) == (5, 0, 1, 61)
        assert await put(core, topic, [(A, b"1"), (A, b"2")], base_sequence=0, **mine) == 0, "known already"
        assert await put(core, topic, [(B, b"1")], base_sequence=2, **mine) == 3
        await world.clean(core)
        assert [header.base_offset for header, _ in await world.batches(topic)] == [2, 3], "the older one may go now"


async def test_a_round_that_was_cut_off_anywhere_is_right_and_is_done_again() -> None:
    expected = [(at, b"k%d" % (at % 4), b"%d" % at) for at in range(16, 20)]
    for steps in range(1, 40):
        world = World()
        async with world.agent(key_compaction_chunk_bytes=400) as core:
            topic = await core.topics.create("t", 1, COMPACT)
            await put(core, topic, *[[(b"k%d" % (at % 4), b"%d" % at)] for at in range(20)])
            ended = not await world.job(core).run_once(HeldTurn(await world.lease(), steps_left=steps))
            assert pairs(await world.records(topic))[-4:] == expected
            await world.clean(core)
            assert pairs(await world.records(topic)) == expected
        if ended:
            assert steps > 6
            return
    raise AssertionError("it never ends")


async def test_a_holder_that_lost_the_lease_changes_nothing() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, [(A, b"1")], [(A, b"2")])
        job, old = world.job(core), HeldTurn(await world.lease(), steps_left=4)
        assert await job.run_once(old)
        await world.lease()
        old.steps_left = 100
        with pytest.raises(LeaseLost):
            await job.run_once(old)
        assert len(await world.records(topic)) == 2


class Interfering(CompactionStore):
    """Loses its reply once, or finds that somebody merged the inputs meanwhile."""

    lose = False
    before: Any = None

    async def swap(self, *args: Any) -> Any:
        before, self.before = self.before, None
        if before is not None:
            await before()
        done = await super().swap(*args)
        if self.lose:
            self.lose = False
            raise CommitUnknown("the reply is lost")
        return done


async def test_a_lost_reply_and_inputs_that_changed_are_gone_over_again() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, topic, *[[(A, b"%d" % at)] for at in range(6)])
        swaps = Interfering(world.database, epoch_age_max_ms=400_000_000)
        swaps.lose = True

        async def other() -> None:
            await world.clean(core)

        swaps.before = other
        job = world.job(core, compaction=swaps)
        with pytest.raises(LeaseLost):
            await job.run_once(HeldTurn(await world.lease()))
        assert pairs(await world.records(topic)) == [(5, A, b"5")]
        await put(core, topic, [(A, b"6")])
        await world.clean(core, job)
        assert not swaps.lose, "the swap was sent again"
        assert pairs(await world.records(topic)) == [(6, A, b"6")]


async def test_a_log_with_an_unreadable_extent_is_left_alone_and_the_others_are_not() -> None:
    world = World()
    async with world.agent() as core:
        broken = await core.topics.create("broken", 1, COMPACT)
        topic = await core.topics.create("t", 1, COMPACT)
        await put(core, broken, [(A, b"1")], [(A, b"2")])
        [victim] = [info.key async for page in world.store.list("") for info in page if "/segments/" in info.key][:1]
        await put(core, topic, [(A, b"1")], [(A, b"2")])
        await world.store.delete([victim])
        with pytest.raises(LogUnreadable, match="broken partition 0"):
            await world.clean(core)
        assert pairs(await world.records(topic)) == [(1, A, b"2")]


async def test_deleted_records_are_not_brought_back() -> None:
    world = World()
    async with world.agent() as core:
        topic = await core.topics.create("t", 1, COMPACT | {"cleanup.policy": "compact,delete"})
        await put(core, topic, [(A, b"1"), (B, b"1")], [(C, b"1")], [(A, b"2")])
        await core.log_starts.delete_records({(topic.topic, 0): 2})
        await world.clean(core)
        assert pairs(await world.records(topic, offset=2)) == [(2, C, b"1"), (3, A, b"2")]
        produced = Produced(core)
        assert produced.outcomes == []
