"""The workload against a listener over an in-memory log: nothing is found where it tells the truth, each lie is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from broker.services import Append, BrokerView, FetchedPart, FetchPart
from catalog.sequence import BatchOutcome
from neve.simulation.checker import check
from neve.simulation.history import Ack, History, Message, Poll, Read
from neve.workload.ledger import Ledger, parsed, written_again
from neve.workload.plan import Outcome, WorkloadPlan
from neve.workload.rounds import following
from neve.workload.run import Workload
from schemas.kafka.batch import patch_base_offset
from tests.front_fakes import FakeReader, Fakes, FakeWriter, running, settings

KEY = ("workload", 0)
ROUND_S = 0.5


@contextlib.asynccontextmanager
async def cluster(fakes: Fakes) -> AsyncIterator[str]:
    """Its Kafka address."""
    async with running(fakes) as (_, (host, port)):
        fakes.cluster.self_view = BrokerView(1, host, port, "a")
        fakes.cluster.live = [fakes.cluster.self_view]
        yield f"{host}:{port}"


async def worked(
    fakes: Fakes, *, rounds: int = 2, progress: Callable[[str], None] = lambda _line: None, **changes: Any
) -> Outcome:
    """A short workload's outcome."""
    async with cluster(fakes) as address:
        plan = WorkloadPlan(
            address,
            rounds * ROUND_S,
            1,
            KEY[0],
            partitions=2,
            writers=2,
            members=0,
            rate=600,
            round_s=ROUND_S,
            settle_s=2.0,
            delivery_s=2.0,
        )
        return await Workload(replace(plan, **changes), progress).run(0.2)


def rules(outcome: Outcome) -> set[str]:
    return {rule for rule, _ in outcome.findings}


class Lying(FakeWriter):
    """Does something else with the batch that comes after `after` others."""

    def __init__(self, fakes: Fakes, lie: Callable[[Lying, Append], int], after: int = 20) -> None:
        super().__init__(fakes.log)
        self.log = fakes.log
        self.lie: Callable[[Lying, Append], int] | None = lie
        self.left = after
        fakes.services.writer = fakes.writer = self

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for item in waiting:
            self.left -= 1
            lie = self.lie if self.left <= 0 else None
            offset = self.truth(item) if lie is None else lie(self, item)
            if lie is not None:
                self.lie = None
            item.done(BatchOutcome(0, offset, -1, 0))

    def truth(self, item: Append) -> int:
        return self.log.append((item.topic, item.shard), item.records, item.header.record_count)


async def test_nothing_is_found_where_nothing_is_wrong() -> None:
    fakes = Fakes(settings())
    told: list[str] = []
    outcome = await worked(fakes, progress=told.append)
    assert outcome.findings == []
    assert outcome.acked > 300
    assert outcome.read == 2 * outcome.acked
    assert outcome.audited == outcome.acked
    assert outcome.rounds >= 2
    assert outcome.sent == outcome.acked
    assert any("acknowledged" in line for line in told)
    assert fakes.topics.live == {}  # its topic went with it


async def test_the_rate_is_kept() -> None:
    outcome = await worked(Fakes(settings()), rate=400.0, rounds=4)
    assert 400 < outcome.acked < 1200


async def test_a_spike_is_more_load_for_a_while() -> None:
    calm = await worked(Fakes(settings()), rate=200.0, rounds=3)
    spiking = await worked(Fakes(settings()), rate=200.0, rounds=3, spike=3.0, spike_at_s=0.3, spike_for_s=1.0)
    assert spiking.findings == []
    assert spiking.acked > 1.4 * calm.acked


def lose(writer: Lying, item: Append) -> int:
    key = (item.topic, item.shard)
    offset = writer.log.next.get(key, 0)
    writer.log.next[key] = offset + item.header.record_count
    return offset


def double(writer: Lying, item: Append) -> int:
    writer.truth(item)
    return writer.truth(item)


def misplace(writer: Lying, item: Append) -> int:
    return writer.truth(item) + 1


def corrupt(writer: Lying, item: Append) -> int:
    offset = writer.truth(item)
    base, stored = writer.log.shards[item.topic, item.shard][-1]
    writer.log.shards[item.topic, item.shard][-1] = base, stored[:-1] + bytes([stored[-1] ^ 1])
    return offset


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        (lose, {"lost_write", "unseen"}),  # as something was written behind it in its round, or not
        (double, {"duplicate"}),
        (misplace, {"ack_offset"}),
        (corrupt, {"corrupt_batch"}),
    ],
)
async def test_a_lie_about_one_batch_is_found(lie: Callable[[Lying, Append], int], expected: set[str]) -> None:
    fakes = Fakes(settings())
    Lying(fakes, lie)
    outcome = await worked(fakes)
    assert rules(outcome) & expected
    assert fakes.topics.live  # kept to be looked at


async def test_what_an_earlier_round_wrote_and_comes_again_is_a_duplicate() -> None:
    fakes = Fakes(settings())

    def again(writer: Lying, item: Append) -> int:
        key = (item.topic, item.shard)
        _, stored = writer.log.shards[key][0]
        count = int.from_bytes(stored[57:61], "big")
        writer.log.append(key, memoryview(stored), count)
        return writer.truth(item)

    writer = Lying(fakes, again, after=10**9)
    asyncio.get_running_loop().call_later(1.5 * ROUND_S, setattr, writer, "left", 0)
    outcome = await worked(fakes, rounds=3)
    assert any(rule == "duplicate" and "earlier round" in text for rule, text in outcome.findings)
    assert "never_written" not in rules(outcome)


class Breaking(FakeReader):
    """Another answer from some offset of partition 0 on."""

    def __init__(self, fakes: Fakes, change: Callable[[FetchPart, FetchedPart], FetchedPart]) -> None:
        super().__init__(fakes.log)
        self.change = change
        fakes.services.reader = fakes.reader = self

    def _read(self, parts: Sequence[FetchPart], max_bytes: int) -> list[FetchedPart]:
        found = super()._read(parts, max_bytes)
        return [self.change(part, answer) for part, answer in zip(parts, found, strict=True)]


async def test_a_reader_that_gets_no_further_is_found() -> None:
    fakes = Fakes(settings())
    storage_error = FetchedPart(56, -1, -1, -1, (), 0)
    Breaking(fakes, lambda part, found: storage_error if part.shard == 0 and part.offset > 20 else found)
    outcome = await worked(fakes, settle_s=0.5)
    assert {"stuck", "unseen"} <= rules(outcome)
    assert outcome.errors["fetch:56"] > 0


async def test_a_watermark_that_goes_back_is_found() -> None:
    fakes = Fakes(settings())

    def lower(part: FetchPart, found: FetchedPart) -> FetchedPart:
        if found.bytes or found.error or found.high_watermark < 20:
            return found
        return replace(found, high_watermark=found.high_watermark - 1)

    Breaking(fakes, lower)
    assert "watermark_back" in rules(await worked(fakes))


async def test_what_changes_after_it_was_judged_is_found_at_the_end() -> None:
    fakes = Fakes(settings())

    def change(line: str) -> None:
        if "once more" in line:
            (_, first), (base, _) = fakes.log.shards[1, 0][0], fakes.log.shards[1, 0][3]
            other = bytearray(first)
            patch_base_offset(other, 0, base)
            fakes.log.shards[1, 0][3] = base, bytes(other)

    assert rules(await worked(fakes, progress=change)) == {"changed_later"}


async def test_stop_ends_early_and_judges() -> None:
    fakes = Fakes(settings())
    async with cluster(fakes) as address:
        plan = WorkloadPlan(address, 600.0, 1, KEY[0], writers=2, members=0, round_s=600.0, settle_s=2.0)
        made = Workload(plan, lambda _line: None)
        asyncio.get_running_loop().call_later(0.5, made.stop)
        async with asyncio.timeout(20):
            outcome = await made.run(1.0)
    assert outcome.findings == []
    assert outcome.judged["unseen"] > 0


# What is carried from round to round


def a_round(values: str, *, read: str, acked: str = "", first: int = 0, producer: str = "w.1") -> History:
    history = History({KEY: False})
    for at, value in enumerate(values):
        history.sent(Message(KEY, value.encode(), producer, first + at, 7, True, True))
    if acked:
        history.acked(Ack(0.0, "a", KEY, tuple(each.encode() for each in acked), first, -1, 0))
    found = tuple(Read(first + at, each.encode(), 7) for at, each in enumerate(read))
    history.polled(Poll(0.0, "c.1", "c/1", KEY, first, 0, first + len(read), 0, found, 0))
    return history


def test_the_ledger_remembers_ranges_and_what_is_unsettled() -> None:
    ledger = Ledger()
    ledger.close(a_round("abc", read="ab", acked="a"))
    assert [each[:3] for each in ledger.ranges[KEY]] == [(0, 2, 2)]
    assert list(ledger.unsettled) == [b"c"]
    later = a_round("de", read="cde", first=2, producer="w.2")
    ledger.carry(later)
    ledger.carry(later)
    assert [finding.rule for finding in check(later).findings] == []
    ledger.close(later)
    assert [each[:3] for each in ledger.ranges[KEY]] == [(0, 2, 2), (2, 5, 3)]
    assert ledger.unsettled == {}


def test_a_value_of_an_earlier_round_is_told_from_one_that_nobody_sent() -> None:
    history = History({KEY: False})
    ours = b"w.1|workload|0|9|..."
    history.sent(Message(KEY, ours, "w.1", 9, 7, True, True))
    values = (b"w.1|workload|0|4|.", b"w.1|workload|0|12|.", b"w.1|workload|1|4|.", b"else")
    found = tuple(Read(at, value, 7) for at, value in enumerate(values))
    history.polled(Poll(0.0, "c.1", "c/1", KEY, 0, 0, 4, 0, found, 0))
    assert [rule for rule, _ in written_again(history)] == ["duplicate"]
    assert sum(finding.rule == "never_written" for finding in check(history).findings) == 3
    assert parsed(b"w.1|workload|0|x|.", KEY, 7) is None


def test_watermarks_and_floors_outlive_a_round() -> None:
    new = following(a_round("ab", read="ab", acked="ab"))
    assert new.floor(KEY) == 2
    assert new.messages == {}
    assert [poll.records for poll in new.polls] == [()]
    new.polled(Poll(1.0, "c.1", "c/1", KEY, 2, 0, 1, 0, (), 0))
    assert [finding.rule for finding in check(new).findings] == ["watermark_back"]
