"""Metadata (API 3), server direction: requests 0..13 in, responses 0..13 out. Thousands of partitions cost little.

Versions: 1 rack, controller, internal flag; 2 cluster id; 3 throttle time; 4 auto-creation flag; 5 offline replicas;
7 leader epoch; 8 authorized operations; 9 flexible; 10 topic ids; 11 drops the cluster's operations; 12 null names;
13 top-level error. In version 0 an empty list of topics means all; from 1 null means all and empty means none: the decoded
`topics` is None for all in every version. Source: MetadataRequest.json and MetadataResponse.json of Kafka 4.3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from schemas.kafka.wire import (
    ZERO_UUID,
    Buffer,
    WireError,
    compact_nullable_string,
    nullable_string,
    read_compact_count,
    read_compact_nullable_string,
    read_compact_string,
    read_count,
    read_string,
    read_uuid,
    skip_tags,
    uvarint,
)

VERSION_MIN = 0
VERSION_MAX = 13
FLEXIBLE_FROM = 9
TOPICS_MAX = 40_000
"""Most topics in one request."""
NO_OPERATIONS = -(1 << 31)
"""What stands for authorized operations that nobody asked for."""

_I32 = Struct(">i")
_I16 = Struct(">h")


class RequestedTopic(NamedTuple):
    """One topic asked for: by name, or (from version 10) by id where `name` is None. No id is ZERO_UUID."""

    name: str | None
    topic_id: UUID


class MetadataRequest(NamedTuple):
    """A Metadata request; `topics` None asks for all, an empty list for none."""

    topics: list[RequestedTopic] | None
    allow_auto_create: bool
    cluster_operations: bool
    topic_operations: bool


def decode_metadata_request(frame: Buffer, at: int, version: int) -> MetadataRequest:
    """The request whose body begins at `at` of `frame`. Raises WireError."""
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise WireError(f"Metadata version {version} is not served")
    if version >= FLEXIBLE_FROM:
        count, at = read_compact_count(frame, at, 18 if version >= 10 else 2)
    else:
        count, at = read_count(frame, at, 2)
    if count > TOPICS_MAX:
        raise WireError(f"more than {TOPICS_MAX} topics in one Metadata request; ask for all, or in several requests")
    if version == 0 and count < 0:
        raise WireError("topics may not be null in Metadata version 0")
    topics: list[RequestedTopic] | None = None
    if count > 0 or (count == 0 and version > 0):
        topics, at = _read_topics(frame, at, count, version)
    flags = (version >= 4) + (version >= 8) + (8 <= version <= 10)
    if at + flags > len(frame):
        raise WireError("the Metadata request is cut short")
    allow_auto_create = version < 4 or bool(frame[at])
    cluster_operations = 8 <= version <= 10 and bool(frame[at + 1])
    topic_operations = version >= 8 and bool(frame[at + flags - 1])
    if version >= FLEXIBLE_FROM:
        skip_tags(frame, at + flags)
    return MetadataRequest(topics, allow_auto_create, cluster_operations, topic_operations)


def _read_topics(frame: Buffer, at: int, count: int, version: int) -> tuple[list[RequestedTopic], int]:
    topics = []
    name: str | None
    topic_id = ZERO_UUID
    for _ in range(count):
        if version >= 10:
            topic_id, at = read_uuid(frame, at)
            name, at = read_compact_nullable_string(frame, at)
        elif version >= FLEXIBLE_FROM:
            name, at = read_compact_string(frame, at)
        else:
            name, at = read_string(frame, at)
        if version >= FLEXIBLE_FROM:
            at = skip_tags(frame, at)
        topics.append(RequestedTopic(name, topic_id))
    return topics, at


class BrokerAddress(NamedTuple):
    """One broker that clients may connect to."""

    node_id: int
    host: str
    port: int
    rack: str | None = None


class PartitionMetadata(NamedTuple):
    """One partition, where it differs from "error-free, one replica, which leads"."""

    partition: int
    leader: int
    error: int = 0
    leader_epoch: int = 0
    replicas: Sequence[int] = ()
    in_sync: Sequence[int] = ()
    offline: Sequence[int] = ()


class TopicMetadata(NamedTuple):
    """One topic. `leaders[i]` is the node that serves partition i, alone and in sync, at epoch 0: the usual case, packed
    in one run. Partitions that are different stand in `partitions`, and then `leaders` stays empty. `name` None and
    ZERO_UUID answer what was not found by id or by name."""

    error: int
    name: str | None
    topic_id: UUID = ZERO_UUID
    is_internal: bool = False
    leaders: Sequence[int] = ()
    partitions: Sequence[PartitionMetadata] = ()
    operations: int = NO_OPERATIONS


def encode_metadata_response(
    version: int,
    brokers: Iterable[BrokerAddress],
    topics: Iterable[TopicMetadata],
    *,
    cluster_id: str | None,
    controller_id: int,
    throttle_ms: int = 0,
    cluster_operations: int = NO_OPERATIONS,
    error: int = 0,
) -> bytes:
    """The response body, without header."""
    flexible = version >= FLEXIBLE_FROM
    string = compact_nullable_string if flexible else nullable_string
    end = b"\0" if flexible else b""
    out = [_I32.pack(throttle_ms)] if version >= 3 else []
    nodes = [
        b"".join((_I32.pack(node_id), string(host), _I32.pack(port), string(rack) if version >= 1 else b"", end))
        for node_id, host, port, rack in brokers
    ]
    out.append(_count(len(nodes), flexible))
    out.extend(nodes)
    if version >= 2:
        out.append(string(cluster_id))
    if version >= 1:
        out.append(_I32.pack(controller_id))
    parts = [_topic(version, topic) for topic in topics]
    out.append(_count(len(parts), flexible))
    out.extend(parts)
    if 8 <= version <= 10:
        out.append(_I32.pack(cluster_operations))
    if version >= 13:
        out.append(_I16.pack(error))
    out.append(end)
    return b"".join(out)


def _count(count: int, flexible: bool) -> bytes:
    return uvarint(count + 1) if flexible else _I32.pack(count)


def _topic(version: int, topic: TopicMetadata) -> bytes:
    error, name, topic_id, is_internal, leaders, partitions, operations = topic
    flexible = version >= FLEXIBLE_FROM
    if name is None and version < 12:
        name = ""  # the field is nullable from version 12 only, and ids are looked up from 12 only
    out = [_I16.pack(error), compact_nullable_string(name) if flexible else nullable_string(name)]
    if version >= 10:
        out.append(topic_id.bytes)
    if version >= 1:
        out.append(b"\1" if is_internal else b"\0")
    if leaders and partitions:
        raise ValueError(f"topic {name!r} gives both leaders and partitions")
    out.append(_count(len(leaders) or len(partitions), flexible))
    if leaders:
        out.append(_leader_run(version, leaders))
    else:
        out.extend(_partition(version, partition) for partition in partitions)
    if version >= 8:
        out.append(_I32.pack(operations))
    if flexible:
        out.append(b"\0")
    return b"".join(out)


def _leader_run(version: int, leaders: Sequence[int]) -> bytes:
    pack = _layout(version, 1, 1, 0).pack
    if version >= FLEXIBLE_FROM:
        return b"".join([pack(0, index, node, 0, 2, node, 2, node, 1, 0) for index, node in enumerate(leaders)])
    if version >= 7:
        return b"".join([pack(0, index, node, 0, 1, node, 1, node, 0) for index, node in enumerate(leaders)])
    if version >= 5:
        return b"".join([pack(0, index, node, 1, node, 1, node, 0) for index, node in enumerate(leaders)])
    return b"".join([pack(0, index, node, 1, node, 1, node) for index, node in enumerate(leaders)])


def _partition(version: int, partition: PartitionMetadata) -> bytes:
    index, leader, error, leader_epoch, replicas, in_sync, offline = partition
    pack = _layout(version, len(replicas), len(in_sync), len(offline)).pack
    if version >= FLEXIBLE_FROM:
        counts = [len(replicas) + 1, len(in_sync) + 1, len(offline) + 1]
        if max(counts) > 127:
            raise ValueError(f"partition {index} has more than 126 replicas")
        return pack(
            error, index, leader, leader_epoch, counts[0], *replicas, counts[1], *in_sync, counts[2], *offline, 0
        )
    epoch = (leader_epoch,) if version >= 7 else ()
    tail = (len(offline), *offline) if version >= 5 else ()
    return pack(error, index, leader, *epoch, len(replicas), *replicas, len(in_sync), *in_sync, *tail)


@lru_cache(maxsize=512)
def _layout(version: int, replicas: int, in_sync: int, offline: int) -> Struct:
    """One struct for a whole partition with so many nodes."""
    count = "B" if version >= FLEXIBLE_FROM else "i"
    layout = ">hii" + ("i" if version >= 7 else "")
    layout += f"{count}{replicas}i{count}{in_sync}i"
    if version >= 5:
        layout += f"{count}{offline}i"
    return Struct(layout + ("B" if version >= FLEXIBLE_FROM else ""))
