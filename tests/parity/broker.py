"""A broker under comparison: it is asked, and its answers come back without what is bound to differ.

Topic ids become the topic's name, the broker's own id, address and cluster id become words, moments of this test run
become "now", and record bytes become headers with a digest of what is behind them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.batch import HEADER_BYTES, batch_size, read_header
from tests.kio_entities import entity_class, to_bytes
from tests.parity.plain import fill
from tests.parity.wire import PATIENCE_S, Nothing, Wire, read_answer, request_bytes

Answer = Any
Observations = Iterator[tuple[str, Answer]]
NOW = "now"
NOW_WITHIN_MS = 60_000
READY_S = 20.0
UNKNOWN_ID = UUID("0f0e0d0c-0b0a-0908-0706-050403020100")
_NODE_FIELDS = {"node_id", "broker_id", "leader_id", "controller_id", "replica_nodes", "isr_nodes"}
_TIME_FIELDS = {"log_append_time", "timestamp"}


def now_ms() -> int:
    """The clock that both brokers run on."""
    return time.time_ns() // 1_000_000


class Broker:
    """One of the two. `last` is the last answer as it came."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.last: Answer = None
        self._wire: Wire | None = None
        self._topic_names: dict[UUID, str] = {}
        self._correlation = 0
        metadata = self._raw(ApiKey.METADATA, 12, {"topics": ()})
        self.node = int(metadata["brokers"][0]["node_id"])
        self.cluster = str(metadata["cluster_id"])

    def close(self) -> None:
        """Close the connection that `call` uses."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # asking

    def connect(self) -> Wire:
        """A connection of its own."""
        return Wire(self.address)

    def frame(self, api: ApiKey, version: int, values: Mapping[str, Any]) -> bytes:
        """A request without its length."""
        self._correlation += 1
        entity = fill(entity_class(api.name.lower(), version, "request"), values)
        return request_bytes(api, version, self._correlation, to_bytes(entity))

    def call(self, api: ApiKey, version: int, values: Mapping[str, Any], *, patience_s: float = PATIENCE_S) -> Answer:
        """The answer without what is bound to differ, or what came instead of it."""
        self.last = self._raw(api, version, values, patience_s)
        return self.tidy(self.last)

    def timed(self, api: ApiKey, version: int, values: Mapping[str, Any]) -> tuple[Answer, float]:
        """The answer, and the seconds it took."""
        started = time.monotonic()
        return self.call(api, version, values), time.monotonic() - started

    def _raw(self, api: ApiKey, version: int, values: Mapping[str, Any], patience_s: float = PATIENCE_S) -> Answer:
        if self._wire is None:
            self._wire = self.connect()
        self._wire.send(self.frame(api, version, values))
        frame = self._wire.receive(patience_s)
        if isinstance(frame, Nothing):
            self.close()
            return frame
        correlation, answer = read_answer(api, version, frame)
        assert correlation == self._correlation, "an answer to another request"
        return answer

    # topics

    def create(self, name: str, partitions: int = 1, **configs: str) -> UUID:
        """Create a topic and wait until every partition answers; dots of config names as two underscores."""
        topic = {
            "name": name,
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": [{"name": key.replace("__", "."), "value": value} for key, value in configs.items()],
        }
        answer = self._raw(ApiKey.CREATE_TOPICS, 7, {"topics": [topic], "timeout": 10_000})
        assert answer["topics"][0]["error_code"] == 0, answer
        topic_id = self.learn(name)
        asked = [{"partition_index": index, "timestamp": -1} for index in range(partitions)]
        request = {"replica_id": -1, "topics": [{"name": name, "partitions": asked}]}
        deadline = time.monotonic() + READY_S
        while any(part["error_code"] for part in self._raw(ApiKey.LIST_OFFSETS, 5, request)["topics"][0]["partitions"]):
            assert time.monotonic() < deadline, f"{self.name}: topic {name} doesn't answer"
            time.sleep(0.01)
        return topic_id

    def learn(self, name: str) -> UUID:
        """Wait for a topic and remember its id."""
        deadline = time.monotonic() + READY_S
        while True:
            topics = self._raw(ApiKey.METADATA, 12, {"topics": [{"name": name}]})["topics"]
            if not topics[0]["error_code"] and not any(part["error_code"] for part in topics[0]["partitions"]):
                topic_id: UUID = topics[0]["topic_id"]
                self._topic_names[topic_id] = name
                return topic_id
            assert time.monotonic() < deadline, f"{self.name}: topic {name} doesn't come"
            time.sleep(0.01)

    def forget(self, name: str) -> None:
        """Wait until nobody finds a deleted topic. Its id stays known."""
        deadline = time.monotonic() + READY_S
        while not self._raw(ApiKey.METADATA, 12, {"topics": [{"name": name}]})["topics"][0]["error_code"]:
            assert time.monotonic() < deadline, f"{self.name}: topic {name} doesn't go"
            time.sleep(0.01)

    def id_of(self, name: str) -> UUID:
        """A topic's id; one that nobody has for a topic that was not created here."""
        return next((topic_id for topic_id, known in self._topic_names.items() if known == name), UNKNOWN_ID)

    # tidying

    def tidy(self, value: Answer, field: str = "") -> Answer:
        """Replace what is bound to differ."""
        if isinstance(value, dict):
            tidied = {key: self.tidy(item, key) for key, item in value.items()}
            if value.get("records"):
                tidied["records"], tidied["bytes of a batch that isn't whole"] = self.batches(value["records"])
            return tidied
        if isinstance(value, list):
            return [self.tidy(item, field) for item in value]
        if isinstance(value, UUID):
            return f"the id of {self._topic_names[value]}" if value in self._topic_names else str(value)
        if field in _NODE_FIELDS and value == self.node:
            return "the node"
        if field == "cluster_id" and value == self.cluster:
            return "the cluster"
        host, _, port = self.address.rpartition(":")
        if (field == "host" and value == host) or (field == "port" and value == int(port)):
            return f"the {field}"
        if field in _TIME_FIELDS:
            return _moment(value)
        return value

    def batches(self, data: bytes) -> tuple[Sequence[Answer], int]:
        """Record batches by their headers, and how many bytes behind them are no whole batch."""
        found: list[Answer] = []
        at = 0
        while at < len(data):
            if len(data) - at < HEADER_BYTES or int.from_bytes(data[at + 8 : at + 12], "big") + 12 > len(data) - at:
                break
            header, size = read_header(data, at), batch_size(data, at)
            shown = header._asdict()
            shown["max_timestamp"] = _moment(header.max_timestamp)
            shown["base_timestamp"] = _moment(header.base_timestamp)
            if NOW in (shown["max_timestamp"], shown["base_timestamp"]):
                del shown["crc"]
            shown["records"] = sha256(data[at + HEADER_BYTES : at + size]).hexdigest()[:16]
            found.append(shown)
            at += size
        return found, len(data) - at


def _moment(value: int) -> Answer:
    return NOW if abs(value - now_ms()) < NOW_WITHIN_MS else value
