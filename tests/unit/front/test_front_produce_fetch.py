"""Produce and Fetch in every version through kio as the client, and what they refuse."""

from __future__ import annotations

import asyncio
import struct
from typing import Any
from uuid import UUID

import pytest

from broker.kafka.null_keys import look_for_null_keys
from broker.services import InlineWorkers
from schemas.kafka.batch import read_header
from schemas.kafka.records import build_batch, decode_batch
from schemas.kafka.wire import ZERO_UUID
from tests.front_fakes import Client, Fakes, batch, make, running, settings

FIRST_RECORD = 61
BEHIND_EPOCH = 16


def produce(version: int, *topics: tuple[Any, list[tuple[int, bytes | None]]], **fields: Any) -> Any:
    """A Produce request; a topic is its name, or its id from version 13."""
    data = [
        {
            "name": topic,
            "topic_id": topic,
            "partition_data": [{"index": index, "records": records} for index, records in parts],
        }
        for topic, parts in topics
    ]
    return make(0, version, **{"transactional_id": None, "acks": -1, "timeout": 1000, "topic_data": data, **fields})


async def results(client: Client, request: Any) -> list[Any]:
    response = await client.call(request)
    return [part for topic in response.responses for part in topic.partition_responses]


async def one(client: Client, records: bytes | None, version: int = 12, topic: Any = "t", partition: int = 0) -> Any:
    (result,) = await results(client, produce(version, (topic, [(partition, records)])))
    return result


@pytest.mark.parametrize("version", range(3, 14))
async def test_produce_in_every_version(client: Client, fakes: Fakes, version: int) -> None:
    first, second = fakes.topics.add("t", 2, cached=False), fakes.topics.add("u")
    stored = batch(3)
    by_id = version >= 13
    request = produce(
        version,
        (first.topic_id if by_id else "t", [(1, stored), (0, batch()), (2, batch())]),
        (second.topic_id if by_id else "u", [(0, batch(2))]),
        (UUID(int=9) if by_id else "unknown", [(0, batch())]),
    )
    response = await client.call(request)
    parts = [part for topic in response.responses for part in topic.partition_responses]
    assert [(part.index, part.error_code, part.base_offset) for part in parts] == [
        (1, 0, 0),
        (0, 0, 0),
        (2, 3, -1),
        (0, 0, 0),
        (0, 100 if by_id else 3, -1),
    ]
    if by_id:
        assert [topic.topic_id for topic in response.responses] == [first.topic_id, second.topic_id, UUID(int=9)]
    else:
        assert [topic.name for topic in response.responses] == ["t", "u", "unknown"]
    if version >= 5:
        assert parts[0].log_start_offset == 0
    if version >= 8:
        assert parts[0].error_message is None
        assert "partitions 0 to 1" in parts[2].error_message
    ((base_offset, kept),) = fakes.log.shards[first.topic, 1]
    assert (base_offset, kept[BEHIND_EPOCH:]) == (0, stored[BEHIND_EPOCH:])
    (again,) = await results(client, produce(version, (first.topic_id if by_id else "t", [(1, batch())])))
    assert again.base_offset == 3


def changed(at: int, layout: str, value: int, *, checksum: bool = True) -> bytes:
    """A batch with one header field changed, its checksum put right again."""
    data = bytearray(batch())
    struct.pack_into(layout, data, at, value)
    if checksum:
        from crc32c import crc32c

        struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


FAR = 4_000_000_000_000


@pytest.mark.parametrize(
    ("records", "error"),
    [
        (None, 87),
        (b"", 87),
        (changed(17, ">I", 1, checksum=False), 2),
        (batch() + batch(), 87),
        (changed(57, ">i", 2), 87),
        (changed(57, ">i", 0), 87),
        (changed(16, ">b", 1), 87),
        (changed(21, ">h", 0x20), 87),
        (changed(21, ">h", 0x08), 32),
        (changed(21, ">h", 0x10), 53),
        (changed(21, ">h", 5), 87),
        (changed(0, ">q", 5), 87),
        (build_batch([(1, b"k", b"v", ())], producer_id=5, producer_epoch=0, base_sequence=-1), 87),
        (build_batch([(1, b"k", b"v", ())], producer_id=5, producer_epoch=0, base_sequence=0, attributes=0x10), 53),
        (batch(timestamp=FAR), 32),
        (batch(value=b"x" * 1_048_600), 10),
        (batch()[:-1], 87),
        (batch()[:40], 87),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "batch",  # batches hold the time: never in a name
)
async def test_batches_that_are_refused(client: Client, fakes: Fakes, records: bytes | None, error: int) -> None:
    fakes.topics.add("t")
    result = await one(client, records)
    assert (result.error_code, result.base_offset, result.log_append_time) == (error, -1, result.log_append_time)
    assert result.error_message
    assert not fakes.log.shards
    # The others of the same request are not harmed.
    refused, taken = await results(client, produce(9, ("t", [(0, records), (0, batch())])))
    assert (refused.error_code, taken.error_code, taken.base_offset) == (error, 0, 0)


async def test_zstd_needs_produce_7(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    records = build_batch([(1, b"k", b"v" * 50, ())], codec=4)
    assert (await one(client, records, 6)).error_code == 76
    assert (await one(client, records, 7)).error_code == 0


async def test_acks_and_transactional_ids(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    parts: list[tuple[int, bytes | None]] = [(0, batch()), (0, batch())]
    for acks in (2, -2, 32767):
        assert [r.error_code for r in await results(client, produce(9, ("t", parts), acks=acks))] == [21, 21]
    mine = await results(client, produce(9, ("t", parts), transactional_id="mine"))
    assert [r.error_code for r in mine] == [53, 53]
    assert not fakes.log.shards
    for acks in (1, -1):
        assert [r.error_code for r in await results(client, produce(9, ("t", parts), acks=acks))] == [0, 0]


async def test_errors_of_the_writer_and_log_append_time(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t", 1, {"message.timestamp.type": "LogAppendTime"})
    taken = await one(client, batch(timestamp=FAR), 8)
    assert taken.error_code == 0
    assert taken.log_append_time.timestamp() == 1.234
    fakes.writer.error = 45
    refused = await one(client, batch())
    assert (refused.error_code, refused.base_offset) == (45, -1)


async def test_compacted_topics_take_no_record_without_a_key(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t", 1, {"cleanup.policy": "compact,delete"})
    for codec in (0, 1, 2, 3, 4):
        rows = [(1_700_000_000_000, None if n in (1, 3) else b"k", b"v", ()) for n in range(5)]
        refused = await one(client, build_batch(rows, codec=codec), 9)
        assert (refused.error_code, refused.base_offset) == (87, -1)
        assert [row.batch_index for row in refused.record_errors] == [1, 3]
        assert "2 records have no key" in refused.error_message
        assert (await one(client, build_batch(rows[:1], codec=codec), 9)).error_code == 0
    broken = bytearray(batch())
    broken[FIRST_RECORD] = 0x7F
    from crc32c import crc32c

    struct.pack_into(">I", broken, 17, crc32c(bytes(broken[21:])))
    refused = await one(client, bytes(broken), 9)
    assert (refused.error_code, refused.record_errors) == (87, ())
    assert "can't be read" in refused.error_message
    assert (await one(client, changed(17, ">I", 1, checksum=False), 9)).error_code == 2


def test_decompression_is_bounded_when_looking_for_keys() -> None:
    bomb = build_batch([(1, b"k", b"\0" * 30_000_000, ())], codec=4)
    objection = look_for_null_keys(memoryview(bomb), 1_000_000)
    assert objection is not None
    assert "max.decompressed.message.bytes" in objection.message


async def test_appends_of_compacted_topics_overlap_while_records_are_looked_at_in_order(fakes: Fakes) -> None:
    class Slow(InlineWorkers):
        async def run(self, work: Any) -> Any:
            await asyncio.sleep(0.01)
            return work()

    view = fakes.topics.add("t", 1, {"cleanup.policy": "compact"})
    fakes.services.workers = Slow()
    fakes.writer.held = True
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        for n in range(4):
            client.send(produce(9, ("t", [(0, batch(value=b"%d" % n))])))
        async with asyncio.timeout(2):
            while len(fakes.writer.waiting) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        fakes.writer.release()
        for _ in range(4):
            await client.payload()
        await client.close()
    values = [decode_batch(stored)[0].value for _, stored in fakes.log.shards[view.topic, 0]]
    assert values == [b"0", b"1", b"2", b"3"]


# -- Fetch


def fetch(version: int, *topics: tuple[Any, list[dict[str, int]]], **fields: Any) -> Any:
    """A Fetch request; a topic is its name, or its id from version 13."""
    wanted = [
        {
            "topic": topic,
            "topic_id": topic,
            "partitions": [
                {
                    "partition_max_bytes": 1_000_000,
                    "current_leader_epoch": -1,
                    "last_fetched_epoch": -1,
                    "log_start_offset": -1,
                    **part,
                }
                for part in parts
            ],
        }
        for topic, parts in topics
    ]
    usual = {
        "replica_id": -1,
        "max_wait": 0,
        "min_bytes": 1,
        "max_bytes": 50_000_000,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": wanted,
        "forgotten_topics_data": [],
        "rack_id": "",
    }
    return make(1, version, **{**usual, **fields})


def at(partition: int, offset: int, **fields: int) -> dict[str, int]:
    return {"partition": partition, "fetch_offset": offset, **fields}


def parts_of(response: Any) -> list[Any]:
    return [part for topic in response.responses for part in topic.partitions]


@pytest.mark.parametrize("version", range(4, 19))
@pytest.mark.parametrize("immediate", [True, False])
async def test_fetch_in_every_version(client: Client, fakes: Fakes, version: int, immediate: bool) -> None:
    fakes.reader.immediate = immediate
    view, other = fakes.topics.add("t", 2, cached=False), fakes.topics.add("u")
    stored = batch(5)
    fakes.log.append((view.topic, 1), memoryview(stored), 5)
    fakes.log.append((other.topic, 0), memoryview(batch(2)), 2)
    by_id = version >= 13
    response = await client.call(
        fetch(
            version,
            (view.topic_id if by_id else "t", [at(1, 2), at(0, 0), at(1, 6), at(2, 0), at(1, -1)]),
            (other.topic_id if by_id else "u", [at(0, 2)]),
            (UUID(int=9) if by_id else "x", [at(0, 0)]),
        )
    )
    parts = parts_of(response)
    assert [(part.partition_index, part.error_code, part.high_watermark) for part in parts] == [
        (1, 0, 5),
        (0, 0, 0),
        (1, 1, -1),
        (2, 3, -1),
        (1, 1, -1),
        (0, 0, 2),
        (0, 100 if by_id else 3, -1),
    ]
    assert [bytes(part.records or b"")[BEHIND_EPOCH:] for part in parts] == [stored[BEHIND_EPOCH:], *[b""] * 6]
    assert parts[0].last_stable_offset == 5
    assert parts[0].aborted_transactions is None
    if by_id:
        assert [topic.topic_id for topic in response.responses] == [view.topic_id, other.topic_id, UUID(int=9)]
    else:
        assert [topic.topic for topic in response.responses] == ["t", "u", "x"]
    if version >= 5:
        assert (parts[0].log_start_offset, parts[2].log_start_offset) == (0, -1)
    if version >= 7:
        assert (response.error_code, response.session_id) == (0, 0)
    if version >= 11:
        assert parts[0].preferred_read_replica == -1
    committed = parts_of(
        await client.call(fetch(version, (view.topic_id if by_id else "t", [at(1, 0)]), isolation_level=1))
    )
    assert committed[0].aborted_transactions == ()


@pytest.mark.parametrize("version", [7, 12, 18])
async def test_fetch_sessions_are_declined(client: Client, fakes: Fakes, version: int) -> None:
    view = fakes.topics.add("t")
    topic = view.topic_id if version >= 13 else "t"
    for session_id, epoch in ((0, 0), (0, -1), (55, 0), (55, -1)):
        response = await client.call(fetch(version, (topic, [at(0, 0)]), session_id=session_id, session_epoch=epoch))
        assert (response.error_code, response.session_id, len(parts_of(response))) == (0, 0, 1)
    for session_id, epoch in ((55, 1), (0, 1), (55, 7)):
        response = await client.call(fetch(version, (topic, [at(0, 0)]), session_id=session_id, session_epoch=epoch))
        assert (response.error_code, response.responses) == (70, ())


async def test_fetch_refuses_replicas_and_later_epochs(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("t")
    fakes.log.append((view.topic, 0), memoryview(batch()), 1)
    refused = parts_of(await client.call(fetch(11, ("t", [at(0, 0), at(0, 0)]), replica_id=0)))
    assert [(part.error_code, part.records or b"") for part in refused] == [(31, b""), (31, b"")]
    epochs = parts_of(
        await client.call(
            fetch(11, ("t", [at(0, 0, current_leader_epoch=1), at(0, 0, current_leader_epoch=0), at(0, 0)]))
        )
    )
    assert [part.error_code for part in epochs] == [75, 0, 0]


async def test_fetch_by_the_zero_id_is_an_unknown_id(client: Client) -> None:
    (part,) = parts_of(await client.call(fetch(13, (ZERO_UUID, [at(0, 0)]))))
    assert part.error_code == 100


async def test_a_fetch_waits_for_bytes_also_beside_an_unknown_partition(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("t")
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(client.call(fetch(11, ("t", [at(0, 0)]), max_wait=5000)))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    fakes.log.append((view.topic, 0), memoryview(batch()), 1)
    assert parts_of(await waiting)[0].high_watermark == 1
    assert loop.time() - began < 2
    began = loop.time()
    answers = parts_of(await client.call(fetch(11, ("t", [at(0, 1), at(7, 0)]), max_wait=100)))
    assert [part.error_code for part in answers] == [0, 3]
    assert [part.aborted_transactions for part in answers] == [None, ()]
    assert loop.time() - began > 0.09
    began = loop.time()
    assert parts_of(await client.call(fetch(11, ("t", [at(7, 0)]), max_wait=5000)))[0].error_code == 3
    assert loop.time() - began < 2
    began = loop.time()
    assert parts_of(await client.call(fetch(11, ("t", [at(0, 1)]), max_wait=100)))[0].error_code == 0
    assert loop.time() - began > 0.09


async def test_an_empty_fetch_is_answered_at_once(client: Client) -> None:
    assert (await client.call(fetch(11, max_wait=60_000))).responses == ()


async def test_the_answer_is_bounded_by_the_setting(client: Client) -> None:
    small = Fakes(settings(fetch_max_bytes=300))
    view = small.topics.add("t")
    for _ in range(10):
        small.log.append((view.topic, 0), memoryview(batch(value=b"x" * 100)), 1)
    async with running(small) as (listener, address):
        connected = await Client.connect(address)
        (part,) = parts_of(await connected.call(fetch(11, ("t", [at(0, 0)]))))
        assert 0 < len(part.records) <= 300
        assert listener.statistics.fetched_bytes == len(part.records)
        assert listener.statistics.fetched_records == 1
        await connected.close()


async def test_zstd_goes_to_clients_before_fetch_10_too_as_kafka_4_sends_it(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("t")
    fakes.log.append((view.topic, 0), memoryview(build_batch([(1, b"k", b"v" * 99, ())], codec=4)), 1)
    for version in (9, 10):
        (part,) = parts_of(await client.call(fetch(version, ("t", [at(0, 0)]))))
        assert part.error_code == 0
        assert read_header(part.records).codec == 4


async def test_a_fetch_with_a_later_epoch_behind_it_is_out_of_range(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("t")
    fakes.log.append((view.topic, 0), memoryview(batch()), 1)
    for epoch, error in ((0, 0), (1, 1)):
        (part,) = parts_of(await client.call(fetch(12, ("t", [at(0, 0) | {"last_fetched_epoch": epoch}]))))
        assert part.error_code == error


async def test_no_more_is_waited_for_than_may_be_sent(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("t")
    for _ in range(3):
        fakes.log.append((view.topic, 0), memoryview(batch()), 1)
    began = asyncio.get_running_loop().time()
    request = fetch(11, ("t", [at(0, 0)]), max_wait=5000, min_bytes=100_000, max_bytes=50)
    assert parts_of(await client.call(request))[0].records
    assert asyncio.get_running_loop().time() - began < 2
