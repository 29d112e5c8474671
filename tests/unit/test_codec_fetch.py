"""The Fetch codec equals kio's in both directions, at every version, and hands fetched records through uncopied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.kafka.fetch import VERSION_MAX, VERSION_MIN, decode_fetch_request
from schemas.kafka.fetch_response import FetchedPartition, FetchedTopic, encode_fetch_response
from schemas.kafka.wire import ZERO_UUID, WireError
from tests.kio_entities import entities, entity_class, from_bytes, milliseconds, to_bytes

VERSIONS = range(VERSION_MIN, VERSION_MAX + 1)


def topic_key(version: int, topic: Any) -> tuple[str, Any]:
    if version >= 13:
        return "", topic.topic_id or ZERO_UUID
    return topic.topic, None


@pytest.mark.parametrize("with_tags", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_request_is_read_as_kio_reads_it(version: int, with_tags: bool) -> None:
    @settings(max_examples=25, deadline=None)
    @given(entities(entity_class("fetch", version, "request"), with_tags=with_tags), st.binary(max_size=5))
    def check(wanted: Any, prefix: bytes) -> None:
        got = decode_fetch_request(prefix + to_bytes(wanted), len(prefix), version)
        replica = wanted.replica_state.replica_id if version >= 15 else wanted.replica_id
        assert got.replica_id == replica
        assert milliseconds(got.max_wait_ms) == wanted.max_wait
        assert (got.min_bytes, got.max_bytes, got.isolation_level) == (
            wanted.min_bytes,
            wanted.max_bytes,
            wanted.isolation_level,
        )
        assert got.session_id == getattr(wanted, "session_id", 0)
        assert got.session_epoch == getattr(wanted, "session_epoch", -1)
        assert got.rack_id == getattr(wanted, "rack_id", "")
        assert got.cluster_id == getattr(wanted, "cluster_id", None)
        assert [(topic.name, topic.topic_id) for topic in got.topics] == [topic_key(version, t) for t in wanted.topics]
        for topic, wanted_topic in zip(got.topics, wanted.topics, strict=True):
            assert topic.partitions == [
                (
                    part.partition,
                    getattr(part, "current_leader_epoch", -1),
                    part.fetch_offset,
                    getattr(part, "last_fetched_epoch", -1),
                    part.partition_max_bytes,
                )
                for part in wanted_topic.partitions
            ]
        assert got.forgotten == [
            (*topic_key(version, topic), topic.partitions) for topic in getattr(wanted, "forgotten_topics_data", ())
        ]

    check()


def answers(version: int, entity: Any) -> list[FetchedTopic]:
    """A kio response as our encoder takes it, its records cut in two to show that pieces pass through."""
    return [
        FetchedTopic(
            *topic_key(version, topic),
            [
                FetchedPartition(
                    part.partition_index,
                    part.error_code,
                    part.high_watermark,
                    part.last_stable_offset,
                    getattr(part, "log_start_offset", -1),
                    None if part.records is None else pieces(part.records),
                    len(part.records or b""),
                    None
                    if part.aborted_transactions is None
                    else [(one.producer_id, one.first_offset) for one in part.aborted_transactions],
                    getattr(part, "preferred_read_replica", -1),
                )
                for part in topic.partitions
            ],
        )
        for topic in entity.responses
    ]


def pieces(records: bytes) -> list[bytes | memoryview]:
    middle = len(records) // 2
    return [records[:middle], memoryview(records)[middle:]] if records else []


@pytest.mark.parametrize("version", VERSIONS)
def test_response_is_written_as_kio_writes_it(version: int) -> None:
    cls = entity_class("fetch", version, "response")

    @settings(max_examples=25, deadline=None)
    @given(entities(cls, with_tags=False))
    def check(wanted: Any) -> None:
        topics = answers(version, wanted)
        buffers, size = encode_fetch_response(
            version,
            topics,
            throttle_ms=round(wanted.throttle_time.total_seconds() * 1000),
            error=getattr(wanted, "error_code", 0),
            session_id=getattr(wanted, "session_id", 0),
        )
        got = b"".join(buffers)
        assert size == len(got)
        assert got == to_bytes(wanted)
        assert from_bytes(cls, got) == wanted
        given_out = [id(piece) for topic in topics for part in topic.partitions for piece in part.records or ()]
        assert [id(buffer) for buffer in buffers if id(buffer) in set(given_out)] == given_out

    check()


def test_other_versions_are_not_read() -> None:
    for version in (-1, 3, 19):
        with pytest.raises(WireError, match="not served"):
            decode_fetch_request(b"\0" * 80, 0, version)


def test_answer_by_topic_id_needs_one() -> None:
    with pytest.raises(ValueError, match="topic id"):
        encode_fetch_response(13, [FetchedTopic("name", None, [])])
