"""Nothing overtakes a failed batch of an idempotent producer on its connection, and what is remembered is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broker.ingest.flight import FAILED
from broker.ingest.lost_sequences import LostSequences
from broker.objects.memory import MemoryStore
from broker.objects.port import Buffer, OutcomeUnknown
from broker.services import Append
from tests.data_path import Produced, append_of, batch_of, running_core


class FirstSegmentFails(MemoryStore):
    """The first segment's PUT is not answered."""

    failed = False

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        if "/segments/" in key and not self.failed:
            self.failed = True
            raise OutcomeUnknown("no answer")
        await super().put(key, parts, if_absent=if_absent)


def item(sequence: int, *, connection: int = 1, shard: int = 0, producer: int = 5, epoch: int = 0) -> Append:
    records = batch_of(b"x", producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
    return append_of(records, connection=connection, shard=shard)


def test_what_follows_a_failed_batch_waits_until_that_batch_comes_again() -> None:
    lost = LostSequences(10)
    lost.note([item(0), item(1)])
    assert lost.admit([item(2)])[0] == []
    first, second = item(0), item(1)
    assert lost.admit([first, second]) == ([first, second], [])
    assert lost.admit([item(7)])[1] == []


def test_other_connections_shards_producers_and_epochs_go_on() -> None:
    lost = LostSequences(10)
    lost.note([item(3)])
    others = [item(9, connection=2), item(9, shard=1), item(9, producer=6), item(0, epoch=1), item(-1, producer=-1)]
    assert lost.admit(others) == (others, [])
    assert len(lost.admit([item(4)])[1]) == 1


def test_batches_without_a_producer_id_leave_no_trace_and_the_oldest_entries_leave_first() -> None:
    lost = LostSequences(2)
    lost.note([item(-1, producer=-1)])
    assert len(lost) == 0
    lost.note([item(0, connection=at) for at in range(3)])
    assert len(lost) == 2
    assert lost.admit([item(9, connection=0)])[1] == []
    assert len(lost.admit([item(9, connection=2)])[1]) == 1


async def test_a_producer_whose_first_batch_failed_is_not_overtaken_by_its_second() -> None:
    async with running_core(store=FirstSegmentFails(lambda: 0)) as core:
        topic = await core.topics.create("t", 1, {})
        produced = Produced(core)
        batches = [batch_of(b"x", producer_id=5, producer_epoch=0, base_sequence=at) for at in range(3)]
        assert await produced.send(topic, 0, batches[0]) == FAILED
        assert await asyncio.wait_for(produced.send(topic, 0, batches[1]), 5) == FAILED
        answers = [await produced.send(topic, 0, batch) for batch in batches]
        assert [(answer.error, answer.offset) for answer in answers] == [(0, 0), (0, 1), (0, 2)]
