"""Cases of Fetch: where answers begin and end, what is waited for, and what is refused."""

from __future__ import annotations

from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import UNKNOWN_ID, Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.requests import batch, fetch_values, produce

VERSIONS = range(4, 19)
SPREAD = (4, 5, 7, 9, 11, 12, 13, 15, 17, 18)
WAIT_MS = 400
WAITED_S = 0.9 * WAIT_MS / 1000


def _fetch(broker: Broker, version: int, *asked: Any, **more: Any) -> Answer:
    answer, _ = _timed(broker, version, *asked, **more)
    return answer


def _timed(broker: Broker, version: int, *asked: Any, **more: Any) -> tuple[Answer, float]:
    return broker.timed(ApiKey.FETCH, version, fetch_values(broker, *asked, **more))


def _each(answer: Answer) -> list[Answer]:
    """Every partition of an answer beside its topic."""
    return [
        [topic.get("topic", topic.get("topic_id")), part["partition_index"], part["error_code"], part]
        for topic in answer["responses"]
        for part in topic["partitions"]
    ]


def _filled(broker: Broker, topic: str, partitions: int = 1) -> None:
    """Three batches of three records in each partition."""
    broker.create(topic, partitions)
    for _ in range(3):
        produce(broker, topic, *[batch(3, value=b"v" * 100)] * partitions)


@case
def fetch_in_every_version(broker: Broker) -> Observations:
    _filled(broker, "fetched", 2)
    for version in VERSIONS:
        for offset in range(10):
            yield f"v{version} from {offset}", _fetch(broker, version, ("fetched", 0, offset), ("fetched", 1, 9))
        yield f"v{version} read committed", _fetch(broker, version, ("fetched", 0, 4), isolation_level=1)
        yield f"v{version} nothing asked", _fetch(broker, version)


@case
def fetch_of_little(broker: Broker) -> Observations:
    _filled(broker, "little", 3)
    size = 12 + int(_fetch(broker, 12, ("little", 0, 0))["responses"][0]["partitions"][0]["records"][0]["batch_length"])
    for version in (4, 12, 18):
        for limit in (0, 1, size - 1, size, size + 1, 2 * size - 1, 2 * size, 3 * size, 1 << 30):
            yield f"v{version} partition {limit - size}", _fetch(broker, version, ("little", 0, 1, limit))
            yield f"v{version} request {limit - size}", _fetch(broker, version, ("little", 0, 4), max_bytes=limit)
            both = [("little", 2, 0, limit), ("little", 0, 0, limit), ("little", 1, 0, limit)]
            yield f"v{version} partitions {limit - size}", _fetch(broker, version, *both)
            three = [("little", index, 0) for index in (2, 0, 1)]
            yield f"v{version} request for three {limit - size}", _fetch(broker, version, *three, max_bytes=limit)
            ends = [("little", 1, 9), ("little", 2, 3), ("little", 0, 0)]
            yield f"v{version} the first is empty {limit - size}", _fetch(broker, version, *ends, max_bytes=limit)
            yield f"v{version} both {limit - size}", _fetch(broker, version, *both, max_bytes=limit)


@case
def fetch_of_several_topics(broker: Broker) -> Observations:
    _filled(broker, "fetch-a", 2)
    _filled(broker, "fetch-b", 2)
    for version in SPREAD:
        asked = [("fetch-b", 1, 0), ("fetch-a", 0, 3), ("fetch-a", 1, 9), ("fetch-b", 0, 8)]
        yield f"v{version}", _fetch(broker, version, *asked)
        yield f"v{version} one byte", _fetch(broker, version, *asked, max_bytes=1)


@case
def fetch_waits(broker: Broker) -> Observations:
    _filled(broker, "waits", 2)
    for name, asked, more in (
        ("at the end", [("waits", 0, 9)], {}),
        ("at both ends", [("waits", 0, 9), ("waits", 1, 9)], {}),
        ("more than there is", [("waits", 0, 3)], {"min_bytes": 10_000}),
        ("more than the partition may give", [("waits", 0, 0, 1)], {"min_bytes": 600}),
        ("more than the request may give", [("waits", 0, 0)], {"min_bytes": 5000, "max_bytes": 300}),
        ("cut off inside a batch", [("waits", 0, 0)], {"min_bytes": 5000, "max_bytes": 500}),
        ("cut off inside a partition's batch", [("waits", 0, 0, 500)], {"min_bytes": 450}),
        ("as much as there is", [("waits", 0, 0)], {"min_bytes": 500}),
        ("nothing at least", [("waits", 0, 9)], {"min_bytes": 0}),
        ("one has data", [("waits", 0, 9), ("waits", 1, 3)], {}),
        ("one is out of range", [("waits", 0, 9), ("waits", 1, 99)], {}),
        ("one is unknown", [("waits", 0, 9), ("waits", 7, 0)], {}),
        ("a future epoch", [("waits", 0, 9)], {"current_leader_epoch": 5}),
    ):
        for version in (4, 18):
            answer, took_s = _timed(broker, version, *asked, max_wait=WAIT_MS, **more)
            yield f"{name} v{version}", answer
            yield f"{name} v{version} waited", took_s >= WAITED_S
    answer, took_s = _timed(broker, 12, ("waits", 0, 9), max_wait=0)
    yield "not at all", (answer, took_s < WAITED_S)


@case
def fetch_is_woken(broker: Broker) -> Observations:
    _filled(broker, "woken")
    with broker.connect() as wire:
        wire.send(broker.frame(ApiKey.FETCH, 12, fetch_values(broker, ("woken", 0, 9), max_wait=10_000)))
        produce(broker, "woken", batch(2))
        yield "woken", isinstance(wire.receive(5.0), bytes)


@case
def fetch_of_what_is_not_there(broker: Broker) -> Observations:
    _filled(broker, "here")
    for version in SPREAD:
        for offset in (10, 1000, -1, -2, (1 << 63) - 1):
            yield f"v{version} offset {offset}", _fetch(broker, version, ("here", 0, offset))
        for partition in (1, -1):
            yield f"v{version} partition {partition}", _fetch(broker, version, ("here", partition, 0))
        yield f"v{version} topic", _fetch(broker, version, ("elsewhere", 0, 0))
        answer = _fetch(broker, version, ("elsewhere", 0, 0), ("here", 0, 0), ("here", 9, 0))
        answer["responses"] = sorted(_each(answer), key=str)  # Kafka answers what is unknown first or last
        yield f"v{version} some of them", answer


@case
def fetch_by_id(broker: Broker) -> Observations:
    _filled(broker, "fetch-id")
    for version in (13, 18):
        values = fetch_values(broker, ("fetch-id", 0, 0))
        yield f"v{version}", broker.call(ApiKey.FETCH, version, values)
        for topic_id in (UNKNOWN_ID, None):
            values["topics"][0]["topic_id"] = topic_id
            yield f"v{version} {topic_id}", broker.call(ApiKey.FETCH, version, values)


@case
def fetch_with_epochs(broker: Broker) -> Observations:
    _filled(broker, "fetch-epochs")
    for version in (9, 12, 18):
        for epoch in (-1, 0, 1, 100):
            asked = _fetch(broker, version, ("fetch-epochs", 0, 0), current_leader_epoch=epoch)
            yield f"v{version} leader epoch {epoch}", asked
    for version in (12, 18):
        for epoch in (0, 5):
            values = fetch_values(broker, ("fetch-epochs", 0, 3))
            values["topics"][0]["partitions"][0]["last_fetched_epoch"] = epoch
            yield f"v{version} last fetched epoch {epoch}", broker.call(ApiKey.FETCH, version, values)


@case
def fetch_sessions(broker: Broker) -> Observations:
    _filled(broker, "sessions")
    for version in (7, 12, 13, 18):
        for session_id, epoch in ((0, -1), (0, 0), (4711, 1), (4711, 7), (0, 1), (4711, 0), (4711, -1)):
            more = {"session_id": session_id, "session_epoch": epoch}
            answer = _fetch(broker, version, ("sessions", 0, 0), **more)
            answer["session_id"] = min(answer["session_id"], 1)
            yield f"v{version} session {session_id} epoch {epoch}", answer


@case
def fetch_as_a_replica(broker: Broker) -> Observations:
    _filled(broker, "replicated")
    yield "v12", _fetch(broker, 12, ("replicated", 0, 0), replica_id=7)


@case
def fetch_of_zstd_topics(broker: Broker) -> Observations:
    broker.create("zstd", compression__type="zstd")
    produce(broker, "zstd", batch(3, codec=4))
    for version in (4, 9, 10, 13):
        answer = _fetch(broker, version, ("zstd", 0, 0))
        for part in answer["responses"][0]["partitions"]:
            # Kafka compresses again, with a library of its own.
            part["records"] = [(b["base_offset"], b["attributes"], b["record_count"]) for b in part["records"]]
        yield f"v{version}", answer


@case
def fetch_of_a_partition_twice(broker: Broker) -> Observations:
    _filled(broker, "fetch-twice")
    yield "v12", _fetch(broker, 12, ("fetch-twice", 0, 3), ("fetch-twice", 0, 6))


@case
def fetch_of_deleted_topics(broker: Broker) -> Observations:
    _filled(broker, "fetch-deleted")
    broker.call(ApiKey.DELETE_TOPICS, 5, {"topic_names": ["fetch-deleted"], "timeout": 10_000})
    broker.forget("fetch-deleted")
    yield "v12", _fetch(broker, 12, ("fetch-deleted", 0, 0))
    yield "v13", _fetch(broker, 13, ("fetch-deleted", 0, 0))
    yield "produce v9", produce(broker, "fetch-deleted", batch())
    yield "produce v13", produce(broker, "fetch-deleted", batch(), version=13)
