"""The Metadata codec equals kio's in both directions, at every version."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kio.schema.errors import ErrorCode

from schemas.kafka.metadata import (
    NO_OPERATIONS,
    VERSION_MAX,
    VERSION_MIN,
    BrokerAddress,
    PartitionMetadata,
    TopicMetadata,
    decode_metadata_request,
    encode_metadata_response,
)
from schemas.kafka.wire import ZERO_UUID, WireError
from tests.kio_entities import entities, entity_class, from_bytes, to_bytes

VERSIONS = range(VERSION_MIN, VERSION_MAX + 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_request_is_read_as_kio_reads_it(version: int) -> None:
    @settings(max_examples=25, deadline=None)
    @given(entities(entity_class("metadata", version, "request"), with_tags=True), st.binary(max_size=5))
    def check(wanted: Any, prefix: bytes) -> None:
        got = decode_metadata_request(prefix + to_bytes(wanted), len(prefix), version)
        wants_all = wanted.topics is None or (version == 0 and not wanted.topics)
        assert got.topics == (
            None
            if wants_all
            else [(topic.name, getattr(topic, "topic_id", None) or ZERO_UUID) for topic in wanted.topics]
        )
        assert got.allow_auto_create == getattr(wanted, "allow_auto_topic_creation", True)
        assert got.cluster_operations == getattr(wanted, "include_cluster_authorized_operations", False)
        assert got.topic_operations == getattr(wanted, "include_topic_authorized_operations", False)

    check()


def partition(part: Any) -> PartitionMetadata:
    return PartitionMetadata(
        part.partition_index,
        part.leader_id,
        part.error_code,
        getattr(part, "leader_epoch", 0),
        part.replica_nodes,
        part.isr_nodes,
        getattr(part, "offline_replicas", ()),
    )


def encoded(version: int, entity: Any) -> bytes:
    """A kio response through our encoder."""
    return encode_metadata_response(
        version,
        [BrokerAddress(b.node_id, b.host, b.port, getattr(b, "rack", None)) for b in entity.brokers],
        [
            TopicMetadata(
                topic.error_code,
                topic.name,
                getattr(topic, "topic_id", None) or ZERO_UUID,
                getattr(topic, "is_internal", False),
                partitions=[partition(part) for part in topic.partitions],
                operations=getattr(topic, "topic_authorized_operations", NO_OPERATIONS),
            )
            for topic in entity.topics
        ],
        cluster_id=getattr(entity, "cluster_id", None),
        controller_id=getattr(entity, "controller_id", -1),
        throttle_ms=round(entity.throttle_time.total_seconds() * 1000) if version >= 3 else 0,
        cluster_operations=getattr(entity, "cluster_authorized_operations", NO_OPERATIONS),
        error=getattr(entity, "error_code", 0),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_response_is_written_as_kio_writes_it(version: int) -> None:
    cls = entity_class("metadata", version, "response")

    @settings(max_examples=25, deadline=None)
    @given(entities(cls, with_tags=False))
    def check(wanted: Any) -> None:
        got = encoded(version, wanted)
        assert got == to_bytes(wanted)
        assert from_bytes(cls, got) == wanted

    check()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("count", [1, 127, 300])
def test_run_of_leaders_is_one_replica_each(version: int, count: int) -> None:
    topic_id = UUID(int=9)
    leaders = [index % 3 for index in range(count)]
    got = encode_metadata_response(
        version,
        [BrokerAddress(1, "127.0.0.1", 9092)],
        [TopicMetadata(0, "flights", topic_id, leaders=leaders)],
        cluster_id="cluster",
        controller_id=1,
    )
    (topic,) = from_bytes(entity_class("metadata", version, "response"), got).topics
    assert topic.name == "flights"
    assert [part.partition_index for part in topic.partitions] == list(range(count))
    assert [part.leader_id for part in topic.partitions] == leaders
    for part, leader in zip(topic.partitions, leaders, strict=True):
        assert part.error_code == ErrorCode.none
        assert part.replica_nodes == part.isr_nodes == (leader,)
        assert getattr(part, "leader_epoch", 0) == 0
        assert getattr(part, "offline_replicas", ()) == ()


def test_topic_that_was_not_found_by_id_has_no_name_where_that_can_be_said() -> None:
    for version, name in ((11, ""), (12, None)):
        got = encode_metadata_response(
            version, [], [TopicMetadata(100, None, UUID(int=5))], cluster_id=None, controller_id=-1
        )
        (topic,) = from_bytes(entity_class("metadata", version, "response"), got).topics
        assert (topic.name, topic.topic_id, topic.error_code) == (name, UUID(int=5), ErrorCode.unknown_topic_id)


def test_leaders_and_partitions_at_once_are_refused() -> None:
    topic = TopicMetadata(0, "t", leaders=[1], partitions=[PartitionMetadata(0, 1)])
    with pytest.raises(ValueError, match="both"):
        encode_metadata_response(12, [], [topic], cluster_id=None, controller_id=-1)


def test_null_topics_mean_all_from_version_1_only() -> None:
    with pytest.raises(WireError, match="null"):
        decode_metadata_request(b"\xff\xff\xff\xff", 0, 0)
    assert decode_metadata_request(b"\xff\xff\xff\xff", 0, 1).topics is None
    assert decode_metadata_request(b"\0\0\0\0", 0, 1).topics == []
    assert decode_metadata_request(b"\0\0\0\0", 0, 0).topics is None
