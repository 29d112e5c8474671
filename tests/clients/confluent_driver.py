"""confluent-kafka (librdkafka) behind the line protocol of protocol.md."""

from __future__ import annotations

import threading
import time
from typing import Any

import confluent_kafka
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.clients.records import Told, set_of
from tests.clients.serve import ClientError, Request, serve

WAIT_S = 60.0
QUIET: dict[str, Any] = {
    "log_level": 0,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 20,
}


def translated(error: Exception) -> ClientError:
    """Any error of the library."""
    inner = error.args[0] if error.args else error
    if isinstance(inner, KafkaError):
        return ClientError(inner.name(), inner.code() if inner.code() > 0 else None, inner.str())
    return ClientError(type(error).__name__, None, str(error))


class Reader:
    """A consumer that assigns itself partitions."""

    def __init__(self, request: Request) -> None:
        records = set_of(request)
        self.told = Told(records)
        self.topic = request["topic"]
        self.stint = dict.fromkeys(range(records.partitions), 0)
        reset = request.get("reset", "earliest")
        config = QUIET | {
            "bootstrap.servers": request["at"],
            "group.id": f"reader-{self.topic}",
            "enable.auto.commit": False,
            "auto.offset.reset": {"none": "error"}.get(reset, reset),
            "fetch.wait.max.ms": 100,
            "allow.auto.create.topics": False,
        }
        if request.get("bytes_max"):
            config["max.partition.fetch.bytes"] = request["bytes_max"]
        self.consumer = Consumer(config)
        start = OFFSET_END if reset == "latest" else OFFSET_BEGINNING
        self.consumer.assign([TopicPartition(self.topic, partition, start) for partition in self.stint])

    def read(self, count: int, timeout_s: float) -> dict[str, Any]:
        """At least `count` records."""
        deadline = time.monotonic() + timeout_s
        while self.told.count < count:
            if time.monotonic() > deadline:
                raise ClientError("Timeout", None, f"{self.told.count} of {count} records came")
            take(self.consumer.consume(min(5000, count - self.told.count), 0.2), self.told, self.stint)
        return self.told.to_json()


def take(messages: list[Any], told: Told, stint: dict[int, int]) -> None:
    """Check and note what came."""
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
        partition = message.partition()
        told.read(
            partition, stint[partition], message.offset(), message.timestamp()[1], message.key(), message.value(),
            message.headers() or [],
        )  # fmt: skip


class Member(threading.Thread):
    """A member of a group, until it leaves."""

    def __init__(self, request: Request) -> None:
        super().__init__(daemon=True)
        self.told = Told(set_of(request))
        self.stint: dict[int, int] = {}
        self.owned: set[int] = set()
        self.error = ""
        self.ended = threading.Event()
        config = QUIET | {
            "bootstrap.servers": request["at"],
            "group.id": request["group"],
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky" if request.get("cooperative") else "range",
            "session.timeout.ms": request.get("session_ms", 10_000),
            "heartbeat.interval.ms": 300,
            "auto.commit.interval.ms": 200,
        }
        if request.get("instance"):
            config["group.instance.id"] = request["instance"]
        self.consumer = Consumer(config)
        self.consumer.subscribe(
            [request["topic"]], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )
        self.start()

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self.stint[each.partition] = self.stint.get(each.partition, 0) + 1
            self.owned.add(each.partition)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.owned -= {each.partition for each in partitions}

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                messages = self.consumer.consume(500, 0.05)
                take([each for each in messages if each.error() is None], self.told, self.stint)
            except Exception as error:
                self.error = repr(error)
        self.consumer.close()


class Confluent:
    """Requests by name."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.members: dict[str, Member] = {}

    def version(self, _: Request) -> dict[str, Any]:
        version = f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"
        return {"client": "confluent-kafka", "version": version}

    def produce(self, request: Request) -> dict[str, Any]:
        records = set_of(request)
        config = QUIET | {
            "bootstrap.servers": request["at"],
            "enable.idempotence": request["idempotent"],
            "acks": "all",
            "compression.type": request["codec"],
            "linger.ms": 5,
            "message.timeout.ms": 120_000,
            "queue.buffering.max.messages": 20_000,
        }
        if request.get("request_max"):
            config["message.max.bytes"] = request["request_max"]
        producer = Producer(config)
        told, failed = Told(records), []

        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                failed.append(error)
            else:
                told.place(message.partition(), 0, message.offset(), message.timestamp()[1] - records.time_ms)

        began, per_s = time.monotonic(), request.get("per_s", 0)
        for number, index in enumerate(range(request["first"], request["first"] + request["count"])):
            if per_s and number % 50 == 0:
                producer.poll(max(0.0, began + number / per_s - time.monotonic()))
            while True:
                try:
                    producer.produce(
                        request["topic"], records.value(index), records.key(index), index % records.partitions,
                        delivered, timestamp=records.time_ms + index, headers=records.headers(index),
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.05)
            if number % 1000 == 0:
                producer.poll(0)
        left = producer.flush(120)
        if failed or left:
            raise KafkaException(failed[0]) if failed else ClientError("Timeout", None, f"{left} not acknowledged")
        return told.to_json()

    def send(self, request: Request) -> dict[str, Any]:
        config = QUIET | {
            "bootstrap.servers": request["at"],
            "message.timeout.ms": 4_000,
            "topic.metadata.propagation.max.ms": 1_000,
        }
        if request.get("request_max"):
            config["message.max.bytes"] = request["request_max"]
        producer = Producer(config)
        done: list[Any] = []
        producer.produce(
            request["topic"],
            bytes(request["bytes"]),
            partition=request.get("partition", 0),
            on_delivery=lambda error, message: done.append((error, message)),
        )
        producer.flush(10)
        if not done:
            raise ClientError("Timeout", None, "no delivery report")
        error, message = done[0]
        if error is not None:
            raise KafkaException(error)
        return {"offset": message.offset()}

    def open(self, request: Request) -> dict[str, Any]:
        self.readers[request["reader"]] = Reader(request)
        return {}

    def seek(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        for partition, offset in request["offsets"].items():
            reader.stint[int(partition)] += 1
            reader.consumer.seek(TopicPartition(reader.topic, int(partition), offset))
        return {}

    def read(self, request: Request) -> dict[str, Any]:
        return self.readers[request["reader"]].read(request["count"], request.get("timeout_s", WAIT_S))

    def pause(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        reader.consumer.pause([TopicPartition(reader.topic, each) for each in request["partitions"]])
        return {}

    def resume(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        reader.consumer.resume([TopicPartition(reader.topic, each) for each in request["partitions"]])
        return {}

    def close(self, request: Request) -> dict[str, Any]:
        self.readers.pop(request["reader"]).consumer.close()
        return {}

    def times(self, request: Request) -> dict[str, int]:
        consumer = Consumer(QUIET | {"bootstrap.servers": request["at"], "group.id": "times"})
        asked = [TopicPartition(request["topic"], int(each), ms) for each, ms in request["times"].items()]
        found = consumer.offsets_for_times(asked, WAIT_S)
        consumer.close()
        return {str(each.partition): each.offset if each.offset >= 0 else -1 for each in found}

    def ends(self, request: Request) -> dict[str, list[int]]:
        consumer = Consumer(QUIET | {"bootstrap.servers": request["at"], "group.id": "ends"})
        found = {
            str(each): list(consumer.get_watermark_offsets(TopicPartition(request["topic"], each), WAIT_S))
            for each in range(request["partitions"])
        }
        consumer.close()
        return found

    def join(self, request: Request) -> dict[str, Any]:
        self.members[request["member"]] = Member(request)
        return {}

    def owned(self, request: Request) -> dict[str, Any]:
        member = self.members[request["member"]]
        return {"owned": sorted(member.owned), "count": member.told.count, "error": member.error}

    def leave(self, request: Request) -> dict[str, Any]:
        member = self.members.pop(request["member"])
        member.ended.set()
        member.join(WAIT_S)
        return member.told.to_json() | {"error": member.error}

    def _admin(self, request: Request) -> AdminClient:
        self.admin = AdminClient(QUIET | {"bootstrap.servers": request["at"]})  # what it is asked for ends with it
        return self.admin

    def admin_create(self, request: Request) -> None:
        topic = NewTopic(request["topic"], request["partitions"], 1, config=request.get("configs", {}))
        self._admin(request).create_topics([topic])[request["topic"]].result(WAIT_S)

    def admin_partitions(self, request: Request) -> int:
        topics = self._admin(request).list_topics(request["topic"], WAIT_S).topics[request["topic"]]
        if topics.error is not None:
            raise KafkaException(topics.error)
        return len(topics.partitions)

    def admin_grow(self, request: Request) -> None:
        grown = NewPartitions(request["topic"], request["partitions"])
        self._admin(request).create_partitions([grown])[request["topic"]].result(WAIT_S)

    def admin_alter(self, request: Request) -> None:
        entry = ConfigEntry(request["key"], request["value"], incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, request["topic"], incremental_configs=[entry])
        self._admin(request).incremental_alter_configs([resource])[resource].result(WAIT_S)

    def admin_config(self, request: Request) -> str:
        resource = ConfigResource(ConfigResource.Type.TOPIC, request["topic"])
        found: str = self._admin(request).describe_configs([resource])[resource].result(WAIT_S)[request["key"]].value
        return found

    def admin_delete(self, request: Request) -> None:
        self._admin(request).delete_topics([request["topic"]])[request["topic"]].result(WAIT_S)

    def admin_groups(self, request: Request) -> bool:
        listed = self._admin(request).list_consumer_groups().result(WAIT_S)
        return request["group"] in {each.group_id for each in listed.valid}

    def admin_committed(self, request: Request) -> dict[str, int]:
        asked = ConsumerGroupTopicPartitions(
            request["group"], [TopicPartition(request["topic"], each) for each in range(request["partitions"])]
        )
        found = self._admin(request).list_consumer_group_offsets([asked])[request["group"]].result(WAIT_S)
        return {str(each.partition): each.offset for each in found.topic_partitions}

    def admin_delete_group(self, request: Request) -> None:
        self._admin(request).delete_consumer_groups([request["group"]])[request["group"]].result(WAIT_S)

    def admin_truncate(self, request: Request) -> None:
        asked = TopicPartition(request["topic"], request["partition"], request["offset"])
        self._admin(request).delete_records([asked])[asked].result(WAIT_S)


if __name__ == "__main__":
    serve(Confluent(), translated)
