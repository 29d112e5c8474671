"""The Produce codec equals kio's in both directions, at every version, and never copies records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.kafka.produce import (
    VERSION_MAX,
    VERSION_MIN,
    PartitionResult,
    TopicResult,
    decode_produce_request,
    encode_produce_response,
)
from schemas.kafka.wire import ZERO_UUID, WireError
from tests.kio_entities import entities, entity_class, from_bytes, milliseconds, to_bytes

VERSIONS = range(VERSION_MIN, VERSION_MAX + 1)


def requests(version: int) -> st.SearchStrategy[Any]:
    return entities(entity_class("produce", version, "request"), with_tags=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_request_is_read_as_kio_reads_it(version: int) -> None:
    @settings(max_examples=25, deadline=None)
    @given(requests(version), st.binary(max_size=5))
    def check(wanted: Any, prefix: bytes) -> None:
        frame = prefix + to_bytes(wanted)
        got = decode_produce_request(frame, len(prefix), version)
        assert got.transactional_id == wanted.transactional_id
        assert got.acks == wanted.acks
        assert milliseconds(got.timeout_ms) == wanted.timeout
        assert len(got.topics) == len(wanted.topic_data)
        for topic, wanted_topic in zip(got.topics, wanted.topic_data, strict=True):
            if version >= 13:
                assert topic.topic_id == (wanted_topic.topic_id or ZERO_UUID)
            else:
                assert (topic.name, topic.topic_id) == (wanted_topic.name, None)
            assert [(part.partition, part.records) for part in topic.partitions] == [
                (part.index, part.records) for part in wanted_topic.partition_data
            ]

    check()


@pytest.mark.parametrize("version", VERSIONS)
def test_records_are_views_into_the_frame(version: int) -> None:
    request = requests(version).filter(
        lambda entity: any(part.records for topic in entity.topic_data for part in topic.partition_data)
    )

    @settings(max_examples=5, deadline=None)
    @given(request)
    def check(wanted: Any) -> None:
        frame = bytearray(to_bytes(wanted))
        got = decode_produce_request(frame, 0, version)
        for topic in got.topics:
            for part in topic.partitions:
                assert part.records is None or part.records.obj is frame

    check()


def results(version: int, entity: Any) -> list[TopicResult]:
    """A kio response as our encoder takes it."""
    return [
        TopicResult(
            getattr(topic, "name", ""),
            (topic.topic_id or ZERO_UUID) if version >= 13 else None,
            [
                PartitionResult(
                    part.index,
                    part.error_code,
                    part.base_offset,
                    -1 if part.log_append_time is None else round(part.log_append_time.timestamp() * 1000),
                    getattr(part, "log_start_offset", -1),
                    [
                        (error.batch_index, error.batch_index_error_message)
                        for error in getattr(part, "record_errors", ())
                    ],
                    getattr(part, "error_message", None),
                )
                for part in topic.partition_responses
            ],
        )
        for topic in entity.responses
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_response_is_written_as_kio_writes_it(version: int) -> None:
    cls = entity_class("produce", version, "response")

    @settings(max_examples=25, deadline=None)
    @given(entities(cls, with_tags=False))
    def check(wanted: Any) -> None:
        throttle_ms = round(wanted.throttle_time.total_seconds() * 1000)
        got = encode_produce_response(version, results(version, wanted), throttle_ms)
        assert got == to_bytes(wanted)
        assert from_bytes(cls, got) == wanted

    check()


def test_versions_that_are_only_advertised_are_not_read() -> None:
    for version in (-1, 0, 2, 14):
        with pytest.raises(WireError, match="not served"):
            decode_produce_request(b"\0" * 50, 0, version)


def test_answer_by_topic_id_needs_one() -> None:
    with pytest.raises(ValueError, match="topic id"):
        encode_produce_response(13, [TopicResult("name", None, [])])
