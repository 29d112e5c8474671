"""kafka-python behind the line protocol of protocol.md."""

from __future__ import annotations

import threading
import time
from typing import Any

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

from tests.clients.records import Told, set_of
from tests.clients.serve import ClientError, Request, serve

WAIT_S = 60.0
BACKOFF = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 200, "retry_backoff_ms": 50}
SENT_AT_ONCE = 5000


def translated(error: Exception) -> ClientError:
    """Any error of the library."""
    code = getattr(error, "errno", None)
    return ClientError(type(error).__name__, code if isinstance(code, int) and code > 0 else None, str(error))


def take(polled: dict[Any, list[Any]], told: Told, stint: dict[int, int]) -> None:
    """Check and note what came."""
    for partition, messages in polled.items():
        now = stint[partition.partition]
        for each in messages:
            told.read(each.partition, now, each.offset, each.timestamp, each.key, each.value, list(each.headers))


class Reader:
    """A consumer that assigns itself partitions."""

    def __init__(self, request: Request) -> None:
        records = set_of(request)
        self.told = Told(records)
        self.topic = request["topic"]
        self.stint = dict.fromkeys(range(records.partitions), 0)
        more = {"max_partition_fetch_bytes": request["bytes_max"]} if request.get("bytes_max") else {}
        self.consumer = KafkaConsumer(
            bootstrap_servers=request["at"].split(","), group_id=None, enable_auto_commit=False, fetch_max_wait_ms=100,
            auto_offset_reset=request.get("reset", "earliest"), allow_auto_create_topics=False, **BACKOFF, **more,
        )  # fmt: skip
        self.consumer.assign([TopicPartition(self.topic, each) for each in self.stint])

    def read(self, count: int, timeout_s: float) -> dict[str, Any]:
        """At least `count` records."""
        deadline = time.monotonic() + timeout_s
        while self.told.count < count:
            if time.monotonic() > deadline:
                raise ClientError("Timeout", None, f"{self.told.count} of {count} records came")
            take(self.consumer.poll(200, max_records=min(5000, count - self.told.count)), self.told, self.stint)
        return self.told.to_json()


class Member(threading.Thread, ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a group, until it leaves."""

    def __init__(self, request: Request) -> None:
        super().__init__(daemon=True)
        self.request = request
        self.told = Told(set_of(request))
        self.stint: dict[int, int] = {}
        self.mine: set[int] = set()
        self.error = ""
        self.ended = threading.Event()
        self.start()

    def on_partitions_assigned(self, assigned: Any) -> None:
        for each in assigned:
            self.stint[each.partition] = self.stint.get(each.partition, 0) + 1
            self.mine.add(each.partition)

    def on_partitions_revoked(self, revoked: Any) -> None:
        self.mine -= {each.partition for each in revoked}

    def on_partitions_lost(self, lost: Any) -> None:
        self.on_partitions_revoked(lost)

    def run(self) -> None:
        request = self.request
        assignor = CooperativeStickyAssignor if request.get("cooperative") else RangePartitionAssignor
        consumer = KafkaConsumer(
            bootstrap_servers=request["at"].split(","), group_id=request["group"], auto_offset_reset="earliest",
            group_instance_id=request.get("instance") or None, partition_assignment_strategy=[assignor],
            session_timeout_ms=request.get("session_ms", 10_000), heartbeat_interval_ms=300, fetch_max_wait_ms=100,
            auto_commit_interval_ms=200, **BACKOFF,
        )  # fmt: skip
        consumer.subscribe([request["topic"]], listener=self)
        while not self.ended.is_set():
            try:
                take(consumer.poll(50, max_records=500), self.told, self.stint)
            except Exception as error:
                self.error = repr(error)
                time.sleep(0.05)
        consumer.close()


class KafkaPython:
    """Requests by name."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.members: dict[str, Member] = {}

    def version(self, _: Request) -> dict[str, Any]:
        return {"client": "kafka-python", "version": kafka.__version__}

    def produce(self, request: Request) -> dict[str, Any]:
        records = set_of(request)
        codec = None if request["codec"] == "none" else request["codec"]
        more = {"max_request_size": request["request_max"]} if request.get("request_max") else {}
        producer = KafkaProducer(
            bootstrap_servers=request["at"].split(","), acks="all", compression_type=codec, linger_ms=5,
            enable_idempotence=request["idempotent"], delivery_timeout_ms=120_000, batch_size=65_536, **BACKOFF, **more,
        )  # fmt: skip
        told = Told(records)
        began, per_s, sent = time.monotonic(), request.get("per_s", 0), []
        try:
            for number, index in enumerate(range(request["first"], request["first"] + request["count"])):
                if per_s and number % 50 == 0:
                    time.sleep(max(0.0, began + number / per_s - time.monotonic()))
                sent.append(
                    producer.send(
                        request["topic"], records.value(index), records.key(index), records.headers(index),
                        index % records.partitions, records.time_ms + index,
                    )
                )  # fmt: skip
                if len(sent) >= SENT_AT_ONCE:
                    _acknowledged(sent, told)
                    sent = []
            producer.flush(120)
            _acknowledged(sent, told)
        finally:
            producer.close(5)
        return told.to_json()

    def send(self, request: Request) -> dict[str, Any]:
        more = {"max_request_size": request["request_max"]} if request.get("request_max") else {}
        producer = KafkaProducer(
            bootstrap_servers=request["at"].split(","), max_block_ms=3_000, delivery_timeout_ms=4_000,
            request_timeout_ms=3_000, **more,
        )  # fmt: skip
        try:
            future = producer.send(request["topic"], bytes(request["bytes"]), partition=request.get("partition", 0))
            return {"offset": future.get(10).offset}
        finally:
            producer.close(1)

    def open(self, request: Request) -> dict[str, Any]:
        self.readers[request["reader"]] = Reader(request)
        return {}

    def seek(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        for partition, offset in request["offsets"].items():
            reader.stint[int(partition)] += 1
            reader.consumer.seek(TopicPartition(reader.topic, int(partition)), offset)
        return {}

    def read(self, request: Request) -> dict[str, Any]:
        return self.readers[request["reader"]].read(request["count"], request.get("timeout_s", WAIT_S))

    def pause(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        reader.consumer.pause(*(TopicPartition(reader.topic, each) for each in request["partitions"]))
        return {}

    def resume(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        reader.consumer.resume(*(TopicPartition(reader.topic, each) for each in request["partitions"]))
        return {}

    def close(self, request: Request) -> dict[str, Any]:
        self.readers.pop(request["reader"]).consumer.close()
        return {}

    def times(self, request: Request) -> dict[str, int]:
        consumer = KafkaConsumer(bootstrap_servers=request["at"].split(","))
        asked = {TopicPartition(request["topic"], int(each)): ms for each, ms in request["times"].items()}
        found = consumer.offsets_for_times(asked)
        consumer.close()
        return {str(each.partition): -1 if answer is None else answer.offset for each, answer in found.items()}

    def ends(self, request: Request) -> dict[str, list[int]]:
        consumer = KafkaConsumer(bootstrap_servers=request["at"].split(","))
        asked = [TopicPartition(request["topic"], each) for each in range(request["partitions"])]
        first, end = consumer.beginning_offsets(asked), consumer.end_offsets(asked)
        consumer.close()
        return {str(each.partition): [first[each], end[each]] for each in asked}

    def join(self, request: Request) -> dict[str, Any]:
        self.members[request["member"]] = Member(request)
        return {}

    def owned(self, request: Request) -> dict[str, Any]:
        member = self.members[request["member"]]
        return {"owned": sorted(member.mine), "count": member.told.count, "error": member.error}

    def leave(self, request: Request) -> dict[str, Any]:
        member = self.members.pop(request["member"])
        member.ended.set()
        member.join(WAIT_S)
        return member.told.to_json() | {"error": member.error}

    @staticmethod
    def _admin(request: Request) -> Any:
        return KafkaAdminClient(bootstrap_servers=request["at"].split(","))

    def admin_create(self, request: Request) -> None:
        options = {
            "num_partitions": request["partitions"],
            "replication_factor": 1,
            "configs": request.get("configs", {}),
        }
        self._admin(request).create_topics({request["topic"]: options})

    def admin_partitions(self, request: Request) -> int:
        [topic] = self._admin(request).describe_topics([request["topic"]])
        if topic.get("error_code"):
            raise kafka.errors.for_code(topic["error_code"])
        return len(topic["partitions"])

    def admin_grow(self, request: Request) -> None:
        self._admin(request).create_partitions({request["topic"]: request["partitions"]})

    def admin_alter(self, request: Request) -> None:
        configs = {request["key"]: (AlterConfigOp.SET, request["value"])}
        resource = ConfigResource(ConfigResourceType.TOPIC, request["topic"], configs)
        self._admin(request).alter_configs([resource], raise_on_unknown=False)

    def admin_config(self, request: Request) -> str:
        resource = ConfigResource(ConfigResourceType.TOPIC, request["topic"])
        found = self._admin(request).describe_configs([resource], config_filter="all")
        value: str = next(iter(found.values()))[request["topic"]][request["key"]]["value"]
        return value

    def admin_delete(self, request: Request) -> None:
        self._admin(request).delete_topics([request["topic"]])

    def admin_groups(self, request: Request) -> bool:
        return request["group"] in {each["group_id"] for each in self._admin(request).list_groups()}

    def admin_committed(self, request: Request) -> dict[str, int]:
        found = self._admin(request).list_group_offsets({request["group"]: None})[request["group"]]
        return {str(each.partition): committed.offset for each, committed in found.items()}

    def admin_delete_group(self, request: Request) -> None:
        answer = self._admin(request).delete_groups([request["group"]])
        [(_, error)] = answer.items() if isinstance(answer, dict) else answer
        if error is not None and error is not kafka.errors.NoError and error != "OK":
            raise error if isinstance(error, Exception) else ClientError(str(error), None, str(error))

    def admin_truncate(self, request: Request) -> None:
        self._admin(request).delete_records({TopicPartition(request["topic"], request["partition"]): request["offset"]})


def _acknowledged(sent: list[Any], told: Told) -> None:
    for future in sent:
        done = future.get(120)
        told.place(done.partition, 0, done.offset, done.timestamp - told.records.time_ms)


if __name__ == "__main__":
    serve(KafkaPython(), translated)
