"""Cases of the protocol itself and of the small APIs: ApiVersions, DescribeCluster, InitProducerId."""

from __future__ import annotations

from struct import pack
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Broker, Observations
from tests.parity.cases import case
from tests.parity.wire import Nothing, read_answer, request_bytes

SOFTWARE = {"client_software_name": "parity", "client_software_version": "1.0"}


def _raw(broker: Broker, *frames: bytes) -> Any:
    """What the first frame that comes back says, as bytes; or nothing."""
    with broker.connect() as wire:
        wire.send(*frames)
        return wire.receive(3.0)


@case
def api_versions(broker: Broker) -> Observations:
    for version in range(5):
        answer = broker.call(ApiKey.API_VERSIONS, version, SOFTWARE)
        served = {row["api_key"]: (row["min_version"], row["max_version"]) for row in answer.pop("api_keys")}
        yield f"v{version}", answer
        # Neve serves fewer APIs; those it serves, in the same versions.
        ours = [api for api in (0, 1, 2, 3, 18, 19, 20, 22, 32, 60) if api in served]
        yield f"v{version} versions", {str(api): served[api] for api in ours}
    for name in ("", "-a", "a-", "a b", "ä", "a.b-c"):
        yield (
            f"name {name!r}",
            broker.call(ApiKey.API_VERSIONS, 3, SOFTWARE | {"client_software_name": name})["error_code"],
        )
        yield (
            f"version {name!r}",
            broker.call(ApiKey.API_VERSIONS, 4, SOFTWARE | {"client_software_version": name})["error_code"],
        )


@case
def api_versions_too_high(broker: Broker) -> Observations:
    with broker.connect() as wire:
        for version in (5, 6, 99, -1):
            wire.send(pack(">hhih", ApiKey.API_VERSIONS, version, 77, -1) + b"\0\1a\1a\0")
            frame = wire.receive()
            assert isinstance(frame, bytes)
            yield f"v{version}", read_answer(ApiKey.API_VERSIONS, 0, frame)
        wire.send(broker.frame(ApiKey.API_VERSIONS, 4, SOFTWARE))
        yield "the connection stays", isinstance(wire.receive(), bytes)


@case
def what_is_not_served_closes(broker: Broker) -> Observations:
    metadata = broker.frame(ApiKey.METADATA, 12, {"topics": ()})
    for key, version in ((999, 0), (-1, 0), (3, 14), (3, -1), (0, 14), (1, 3), (1, 19), (2, 0), (19, 1), (60, 3)):
        yield f"key {key} v{version}", _raw(broker, pack(">hhih", key, version, 1, -1) + bytes(64)) is Nothing.CLOSED
    yield "an empty frame", _raw(broker, b"") is Nothing.CLOSED
    yield "a frame of nine bytes", _raw(broker, bytes(9)) is Nothing.CLOSED
    yield "a body cut short", _raw(broker, metadata[:-2]) is Nothing.CLOSED
    with broker.connect() as wire:
        wire.send(metadata)
        good = wire.receive()
        wire.send(pack(">hhih", 999, 0, 1, -1))
        yield "a good request, then a bad one", (isinstance(good, bytes), wire.receive() is Nothing.CLOSED)


@case
def pipelined_requests_are_answered_in_order(broker: Broker) -> Observations:
    broker.create("pipelined")
    fetch = {
        "replica_id": -1, "max_wait": 400, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1,
        "topics": [{"topic": "pipelined", "partitions": [{"fetch_offset": 0, "partition_max_bytes": 1 << 20}]}],
    }  # fmt: skip
    requests: list[tuple[ApiKey, int, dict[str, Any]]] = [
        (ApiKey.FETCH, 4, fetch),
        (ApiKey.METADATA, 12, {"topics": ()}),
        (ApiKey.API_VERSIONS, 4, SOFTWARE),
        (ApiKey.METADATA, 1, {"topics": [{"name": "pipelined"}]}),
        (ApiKey.INIT_PRODUCER_ID, 4, {"producer_id": -1, "producer_epoch": -1}),
        (ApiKey.LIST_OFFSETS, 1, {"replica_id": -1}),
    ]
    frames = [broker.frame(*request) for request in requests]
    with broker.connect() as wire:
        wire.send(*frames)
        order = []
        for frame, (api, version, _) in zip(frames, requests, strict=True):
            answer = wire.receive()
            assert isinstance(answer, bytes)
            order.append(read_answer(api, version, answer)[0] == int.from_bytes(frame[4:8], "big"))
    yield "in order", order


@case
def trailing_bytes(broker: Broker) -> Observations:
    broker.create("trailing")
    for api, version, values in (
        (ApiKey.METADATA, 12, {"topics": ()}),
        (ApiKey.METADATA, 1, {"topics": ()}),
        (ApiKey.API_VERSIONS, 4, SOFTWARE),
        (ApiKey.LIST_OFFSETS, 7, {"replica_id": -1}),
        (ApiKey.PRODUCE, 9, {"acks": -1}),
        (ApiKey.FETCH, 12, {"replica_id": -1, "max_wait": 10, "session_epoch": -1}),
        (ApiKey.CREATE_TOPICS, 7, {}),
    ):
        frame = _raw(broker, broker.frame(api, version, values) + b"more")
        yield f"{api.name} v{version}", isinstance(frame, bytes)


@case
def an_unknown_tagged_field(broker: Broker) -> Observations:
    body = b"\x01\0\0\0" + b"\x01\x63\x02ab"  # no topics, no operations, tag 99
    frame = _raw(broker, request_bytes(ApiKey.METADATA, 12, 5, body))
    assert isinstance(frame, bytes)
    yield "answer", broker.tidy(read_answer(ApiKey.METADATA, 12, frame)[1])


@case
def describe_cluster(broker: Broker) -> Observations:
    for version in range(3):
        for operations in (False, True):
            values = {"include_cluster_authorized_operations": operations, "endpoint_type": 1}
            yield f"v{version} {operations}", broker.call(ApiKey.DESCRIBE_CLUSTER, version, values)
    for endpoint_type in (0, 2, 3):
        yield (
            f"endpoint type {endpoint_type}",
            broker.call(ApiKey.DESCRIBE_CLUSTER, 1, {"endpoint_type": endpoint_type}),
        )
    fenced = {"endpoint_type": 1, "include_fenced_brokers": True}
    yield "fenced brokers too", broker.call(ApiKey.DESCRIBE_CLUSTER, 2, fenced)


@case
def init_producer_id(broker: Broker) -> Observations:
    fresh: set[int] = set()
    for version in range(6):
        for producer_id, epoch in ((-1, -1), (7, 3), (-1, 3), (7, -1)):
            values = {"transaction_timeout": 60_000, "producer_id": producer_id, "producer_epoch": epoch}
            answer = broker.call(ApiKey.INIT_PRODUCER_ID, version, values)
            fresh.add(answer["producer_id"])
            yield f"v{version} {producer_id} {epoch}", answer | {"producer_id": answer["producer_id"] >= 0}
    yield "each is another", len(fresh - {-1})
    empty = {"transactional_id": "", "transaction_timeout": 60_000, "producer_id": -1, "producer_epoch": -1}
    for version in (0, 5):
        yield f"an empty transactional id, v{version}", broker.call(ApiKey.INIT_PRODUCER_ID, version, empty)
