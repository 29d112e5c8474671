"""The simulated clients' codec agrees with kio, both ways, in both generations; batches survive the way there and back."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from neve.simulation import wire
from neve.simulation.batches import decode, encode
from neve.simulation.history import Read

TOPICS = {"a": wire.TopicMetadata(0, UUID(int=7), 2), "b": wire.TopicMetadata(0, UUID(int=2**100), 1)}
GENERATIONS = [wire.CLASSIC, wire.FLEXIBLE]


def kio_request(name: str, version: int, body: bytes) -> Any:
    module = importlib.import_module(f"kio.schema.{name}.v{version}.request")
    kind = getattr(module, "".join(word.title() for word in name.split("_")) + "Request")
    entity, size = entity_reader(kind)(memoryview(body), 0)
    assert size == len(body)
    return entity


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_requests_are_read_by_kio(generation: wire.Generation) -> None:
    codec = wire.Codec(generation)
    batch = bytes(encode([b"one", b"two"], 1000, 5, 0, 3))
    produce = kio_request(
        "produce", generation.produce, codec.produce([(("a", 1), batch), (("b", 0), batch)], -1, 1500, TOPICS)
    )
    assert [part.records for topic in produce.topic_data for part in topic.partition_data] == [batch, batch]
    fetch = kio_request(
        "fetch", generation.fetch, codec.fetch([(("a", 0), 5), (("a", 1), 2**40)], 100, 999, 88, TOPICS)
    )
    assert [part.fetch_offset for part in fetch.topics[0].partitions] == [5, 2**40]
    assert (fetch.max_bytes, fetch.min_bytes, fetch.topics[0].partitions[0].partition_max_bytes) == (999, 1, 88)
    listing = kio_request(
        "list_offsets", generation.list_offsets, codec.list_offsets([(("a", 0), -1), (("b", 0), -2)], TOPICS)
    )
    assert [(topic.name, topic.partitions[0].timestamp) for topic in listing.topics] == [("a", -1), ("b", -2)]
    metadata = kio_request("metadata", generation.metadata, codec.metadata(["a", "b"]))
    assert [topic.name for topic in metadata.topics] == ["a", "b"]
    assert not metadata.allow_auto_topic_creation
    init = kio_request("init_producer_id", generation.init_producer_id, codec.init_producer_id())
    assert init.transactional_id is None


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_produce_answers_of_kio_are_read(generation: wire.Generation) -> None:
    module = importlib.import_module(f"kio.schema.produce.v{generation.produce}.response")
    part = module.PartitionProduceResponse(
        index=1,
        error_code=ErrorCode.invalid_record,
        base_offset=77,
        log_append_time=datetime.fromtimestamp(1000, UTC),
        log_start_offset=3,
        record_errors=(module.BatchIndexAndErrorMessage(batch_index=1, batch_index_error_message="bad"),),
        error_message="worse",
    )
    topic = {"topic_id": UUID(int=7)} if generation.flexible else {"name": "a"}
    answer = module.ProduceResponse(
        responses=(module.TopicProduceResponse(**topic, partition_responses=(part,)),), throttle_time=timedelta(0)
    )
    body = BytesIO()
    entity_writer(module.ProduceResponse)(body, answer)
    codec = wire.Codec(generation)
    head = bytes(4) + (b"\x00" if generation.flexible else b"")
    cursor = codec.answer(wire.PRODUCE, head + body.getvalue())
    assert codec.produced(cursor, TOPICS) == {("a", 1): wire.Produced(87, 77, 1_000_000, 3)}


def test_batches_come_back() -> None:
    data = encode([b"x" * 300, b"", b"z"], 10**12, -1, -1, -1)
    data[0:8] = (1000).to_bytes(8, "big")
    decoded = decode(bytes(data) + bytes(data[:-1]), 1001)
    assert decoded.records == (Read(1001, b"", 10**12 + 1), Read(1002, b"z", 10**12 + 2))
    assert (decoded.batches, decoded.corrupt) == (1, 0)
    data[-1] ^= 1
    assert decode(bytes(data), 0) == ((), 1, 1)
