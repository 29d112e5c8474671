"""aiokafka behind the line protocol of protocol.md; its loop runs in a thread beside the one that reads requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import for_code

from tests.clients.records import Told, set_of
from tests.clients.serve import ClientError, NoSuchCall, Request, serve

T = TypeVar("T")
WAIT_S = 60.0
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
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=request["at"], group_id=None, enable_auto_commit=False, fetch_max_wait_ms=100,
            auto_offset_reset=request.get("reset", "earliest"), **more,
        )  # fmt: skip

    async def start(self) -> None:
        await self.consumer.start()
        self.consumer.assign([TopicPartition(self.topic, each) for each in self.stint])

    async def read(self, count: int, timeout_s: float) -> dict[str, Any]:
        """At least `count` records."""
        deadline = time.monotonic() + timeout_s
        while self.told.count < count:
            if time.monotonic() > deadline:
                raise ClientError("Timeout", None, f"{self.told.count} of {count} records came")
            polled = await self.consumer.getmany(timeout_ms=200, max_records=min(5000, count - self.told.count))
            take(polled, self.told, self.stint)
        return self.told.to_json()


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a group, until it leaves."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.told = Told(set_of(request))
        self.stint: dict[int, int] = {}
        self.mine: set[int] = set()
        self.error = ""
        self.ended = False

    def on_partitions_assigned(self, assigned: Any) -> None:
        for each in assigned:
            self.stint[each.partition] = self.stint.get(each.partition, 0) + 1
            self.mine.add(each.partition)

    def on_partitions_revoked(self, revoked: Any) -> None:
        self.mine -= {each.partition for each in revoked}

    async def run(self) -> None:
        request = self.request
        consumer = AIOKafkaConsumer(
            bootstrap_servers=request["at"], group_id=request["group"], auto_offset_reset="earliest",
            group_instance_id=request.get("instance") or None, partition_assignment_strategy=[RangePartitionAssignor],
            session_timeout_ms=request.get("session_ms", 10_000), heartbeat_interval_ms=300, fetch_max_wait_ms=100,
            auto_commit_interval_ms=200,
        )  # fmt: skip
        consumer.subscribe([request["topic"]], listener=self)
        try:
            await consumer.start()
            while not self.ended:
                try:
                    take(await consumer.getmany(timeout_ms=50, max_records=500), self.told, self.stint)
                except Exception as error:
                    self.error = repr(error)
                    await asyncio.sleep(0.05)
        except Exception as error:
            self.error = repr(error)
        finally:
            await consumer.stop()


class Aiokafka:
    """Requests by name."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.readers: dict[str, Reader] = {}
        self.members: dict[str, tuple[Member, Any]] = {}

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def version(self, _: Request) -> dict[str, Any]:
        return {"client": "aiokafka", "version": aiokafka.__version__}

    def produce(self, request: Request) -> dict[str, Any]:
        return self._run(self._produce(request))

    async def _produce(self, request: Request) -> dict[str, Any]:
        records = set_of(request)
        codec = None if request["codec"] == "none" else request["codec"]
        more = {"max_request_size": request["request_max"]} if request.get("request_max") else {}
        producer = AIOKafkaProducer(
            bootstrap_servers=request["at"], acks="all", compression_type=codec, linger_ms=5, max_batch_size=65_536,
            enable_idempotence=request["idempotent"], request_timeout_ms=60_000, **more,
        )  # fmt: skip
        await producer.start()
        told, sent = Told(records), []
        began, per_s = time.monotonic(), request.get("per_s", 0)
        try:
            for number, index in enumerate(range(request["first"], request["first"] + request["count"])):
                if per_s and number % 50 == 0:
                    await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
                future = await producer.send(
                    request["topic"], records.value(index), records.key(index), index % records.partitions,
                    records.time_ms + index, records.headers(index),
                )  # fmt: skip
                sent.append((index, future))
                if len(sent) >= SENT_AT_ONCE:
                    await _acknowledged(sent, told)
                    sent = []
            await _acknowledged(sent, told)
        finally:
            await producer.stop()
        return told.to_json()

    def send(self, request: Request) -> dict[str, Any]:
        return self._run(self._send(request))

    async def _send(self, request: Request) -> dict[str, Any]:
        more = {"max_request_size": request["request_max"]} if request.get("request_max") else {}
        producer = AIOKafkaProducer(bootstrap_servers=request["at"], request_timeout_ms=4_000, **more)
        await producer.start()
        try:
            sent = producer.send_and_wait(request["topic"], bytes(request["bytes"]), partition=request.get("partition"))
            return {"offset": (await asyncio.wait_for(sent, 10)).offset}
        finally:
            await producer.stop()

    def open(self, request: Request) -> dict[str, Any]:
        reader = self._run(self._open(request))
        self.readers[request["reader"]] = reader
        return {}

    @staticmethod
    async def _open(request: Request) -> Reader:
        reader = Reader(request)
        await reader.start()
        return reader

    def seek(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]

        async def seek() -> None:
            for partition, offset in request["offsets"].items():
                reader.stint[int(partition)] += 1
                reader.consumer.seek(TopicPartition(reader.topic, int(partition)), offset)

        self._run(seek())
        return {}

    def read(self, request: Request) -> dict[str, Any]:
        return self._run(self.readers[request["reader"]].read(request["count"], request.get("timeout_s", WAIT_S)))

    def pause(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        self._call(reader.consumer.pause, *(TopicPartition(reader.topic, each) for each in request["partitions"]))
        return {}

    def resume(self, request: Request) -> dict[str, Any]:
        reader = self.readers[request["reader"]]
        self._call(reader.consumer.resume, *(TopicPartition(reader.topic, each) for each in request["partitions"]))
        return {}

    def _call(self, what: Any, *arguments: Any) -> None:
        async def call() -> None:
            what(*arguments)

        self._run(call())

    def close(self, request: Request) -> dict[str, Any]:
        self._run(self.readers.pop(request["reader"]).consumer.stop())
        return {}

    def times(self, request: Request) -> dict[str, int]:
        async def ask(consumer: Any) -> dict[str, int]:
            asked = {TopicPartition(request["topic"], int(each)): ms for each, ms in request["times"].items()}
            found = await consumer.offsets_for_times(asked)
            return {str(each.partition): -1 if answer is None else answer.offset for each, answer in found.items()}

        return self._run(self._asking(request, ask))

    def ends(self, request: Request) -> dict[str, list[int]]:
        async def ask(consumer: Any) -> dict[str, list[int]]:
            asked = [TopicPartition(request["topic"], each) for each in range(request["partitions"])]
            first, end = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
            return {str(each.partition): [first[each], end[each]] for each in asked}

        return self._run(self._asking(request, ask))

    @staticmethod
    async def _asking(request: Request, ask: Any) -> Any:
        consumer = AIOKafkaConsumer(bootstrap_servers=request["at"])
        await consumer.start()
        try:
            return await ask(consumer)
        finally:
            await consumer.stop()

    def join(self, request: Request) -> dict[str, Any]:
        if request.get("cooperative"):
            raise NoSuchCall("cooperative assignment")
        member = Member(request)
        self.members[request["member"]] = (member, asyncio.run_coroutine_threadsafe(member.run(), self.loop))
        return {}

    def owned(self, request: Request) -> dict[str, Any]:
        member, _ = self.members[request["member"]]
        return {"owned": sorted(member.mine), "count": member.told.count, "error": member.error}

    def leave(self, request: Request) -> dict[str, Any]:
        member, running = self.members.pop(request["member"])
        member.ended = True
        running.result(WAIT_S)
        return member.told.to_json() | {"error": member.error}

    def _admin(self, request: Request, ask: Any) -> Any:
        async def run() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=request["at"])
            await admin.start()
            try:
                return await ask(admin)
            finally:
                await admin.close()

        return self._run(run())

    def admin_create(self, request: Request) -> None:
        topic = NewTopic(request["topic"], request["partitions"], 1, topic_configs=request.get("configs", {}))
        answer = self._admin(request, lambda admin: admin.create_topics([topic]))
        _refuse(answer.topic_errors[0][1])

    def admin_partitions(self, request: Request) -> int:
        [topic] = self._admin(request, lambda admin: admin.describe_topics([request["topic"]]))
        _refuse(topic["error_code"])
        return len(topic["partitions"])

    def admin_grow(self, request: Request) -> None:
        grown = {request["topic"]: NewPartitions(request["partitions"])}
        answer = self._admin(request, lambda admin: admin.create_partitions(grown))
        _refuse(answer.topic_errors[0][1])

    def admin_alter(self, request: Request) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, request["topic"], {request["key"]: request["value"]})
        [answer] = self._admin(request, lambda admin: admin.alter_configs([resource]))
        _refuse(answer.resources[0][0])

    def admin_config(self, request: Request) -> str:
        resource = ConfigResource(ConfigResourceType.TOPIC, request["topic"])
        [answer] = self._admin(request, lambda admin: admin.describe_configs([resource]))
        error, _, _, _, entries = answer.resources[0][:5]
        _refuse(error)
        found: str = next(entry[1] for entry in entries if entry[0] == request["key"])
        return found

    def admin_delete(self, request: Request) -> None:
        answer = self._admin(request, lambda admin: admin.delete_topics([request["topic"]]))
        _refuse(answer.topic_error_codes[0][1])

    def admin_groups(self, request: Request) -> bool:
        listed = self._admin(request, lambda admin: admin.list_consumer_groups())
        return request["group"] in {each[0] for each in listed}

    def admin_committed(self, request: Request) -> dict[str, int]:
        found = self._admin(request, lambda admin: admin.list_consumer_group_offsets(request["group"]))
        return {str(each.partition): committed.offset for each, committed in found.items()}

    def admin_truncate(self, request: Request) -> None:
        asked = {TopicPartition(request["topic"], request["partition"]): RecordsToDelete(request["offset"])}
        self._admin(request, lambda admin: admin.delete_records(asked))


def _refuse(code: int) -> None:
    if code:
        raise for_code(code)


async def _acknowledged(sent: list[tuple[int, Any]], told: Told) -> None:
    """Wait for all. The index is ours: its answers carry the time of a batch, not of a record."""
    answers = await asyncio.wait_for(asyncio.gather(*(future for _, future in sent)), 120)
    for (index, _), done in zip(sent, answers, strict=True):
        told.place(done.partition, 0, done.offset, index)


if __name__ == "__main__":
    serve(Aiokafka(), translated)
