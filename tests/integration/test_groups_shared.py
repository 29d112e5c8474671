"""Groups whose members are different clients, cooperative groups under churn, and static members that restart."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.agents import AgentProcess, agent_on_folder, started
from tests.conftest import found
from tests.counterparts import kafka_jars
from tests.integration.groups import SETTINGS, TIMEOUT_S, fill, look, settled, spread

PARTITIONS = 8
SESSION_MS = 10_000
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[AgentProcess]]:
    folder = tmp_path_factory.mktemp("shared")
    pair = [agent_on_folder(folder, folder / "data", settings=SETTINGS) for _ in range(2)]
    with started(*pair):
        yield pair


def bootstrap_of(agents: list[AgentProcess]) -> str:
    return ",".join(agent.kafka for agent in agents)


def wait_for(what: Callable[[], bool], message: str, seconds: float = TIMEOUT_S) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, message
        time.sleep(0.05)


class Reader(Protocol):
    """A client that is in the group until it is stopped."""

    got: list[str]

    def stop(self) -> None:
        """Leave the group."""
        ...


class PythonReader(threading.Thread):
    """A client of Python in a thread of its own, which reads until `ended`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        self.arguments = (bootstrap, topic)
        self.got: list[str] = []
        self.ended = threading.Event()
        self.start()

    def stop(self) -> None:
        """Leave the group."""
        self.ended.set()
        self.join(TIMEOUT_S)


class ConfluentReader(PythonReader):
    """confluent-kafka, with what it was assigned and what was taken away from it."""

    def __init__(self, bootstrap: str, topic: str, strategy: str = "range", instance: str | None = None) -> None:
        config = {
            "bootstrap.servers": bootstrap,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 300,
            "auto.commit.interval.ms": 200,
            "log_level": 0,
        }
        self.consumer = Consumer(config | ({"group.instance.id": instance} if instance else {}))
        self.owned: set[int] = set()
        self.assignments = 0
        self.revoked: list[int] = []
        self.consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        super().__init__(bootstrap, topic)

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.assignments += 1
        self.owned |= {partition.partition for partition in partitions}

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.revoked += [partition.partition for partition in partitions]
        self.owned -= {partition.partition for partition in partitions}

    def run(self) -> None:
        while not self.ended.is_set():
            for message in self.consumer.consume(100, 0.1):
                if message.error() is None:
                    self.got.append((message.value() or b"").decode())
        self.consumer.close()


class KafkaPythonReader(PythonReader):
    def run(self) -> None:
        from kafka import KafkaConsumer
        from kafka.coordinator.assignors.range import RangePartitionAssignor

        bootstrap, topic = self.arguments
        consumer = KafkaConsumer(
            topic, bootstrap_servers=bootstrap.split(","), group_id=topic, auto_offset_reset="earliest",
            partition_assignment_strategy=[RangePartitionAssignor], session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=300,
        )  # fmt: skip
        while not self.ended.is_set():
            self.got += [m.value.decode() for messages in consumer.poll(100).values() for m in messages]
        consumer.close()


class AiokafkaReader(PythonReader):
    def run(self) -> None:
        asyncio.run(self._read(*self.arguments))

    async def _read(self, bootstrap: str, topic: str) -> None:
        from aiokafka import AIOKafkaConsumer
        from aiokafka.coordinator.assignors.range import RangePartitionAssignor

        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=topic, auto_offset_reset="earliest",
            partition_assignment_strategy=[RangePartitionAssignor], session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=300,
        )  # fmt: skip
        await consumer.start()
        try:
            while not self.ended.is_set():
                polled = await consumer.getmany(timeout_ms=100)
                self.got += [(m.value or b"").decode() for messages in polled.values() for m in messages]
        finally:
            await consumer.stop()


class JavaReader(threading.Thread):
    """The console consumer, with Java's default assignors: range, then cooperative-sticky."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        argv = found(kafka_jars).command(
            CONSOLE, "--bootstrap-server", bootstrap, "--topic", topic, "--group", topic, "--from-beginning",
            "--consumer-property", f"session.timeout.ms={SESSION_MS}",
            "--consumer-property", "heartbeat.interval.ms=300",
        )  # fmt: skip
        self.child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.got: list[str] = []
        self.start()

    def run(self) -> None:
        assert self.child.stdout is not None
        self.got.extend(line for raw in self.child.stdout if (line := raw.strip()).startswith("value-"))

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait(TIMEOUT_S)
        self.join(TIMEOUT_S)
        assert self.child.stdout is not None
        self.child.stdout.close()


@pytest.mark.timeout(120)
def test_clients_of_every_kind_share_a_group(agents: list[AgentProcess]) -> None:
    bootstrap = bootstrap_of(agents)
    fill(bootstrap, "shared", [], PARTITIONS)
    makers: list[Callable[[str, str], Any]] = [JavaReader, ConfluentReader, KafkaPythonReader, AiokafkaReader]
    readers: list[Reader] = [make(bootstrap, "shared") for make in makers]
    everybody = list(readers)
    sent: list[str] = []

    def produce(name: str) -> None:
        values = [f"value-{name}-{number}" for number in range(2_000)]
        spread(bootstrap, "shared", values, PARTITIONS)
        sent.extend(values)

    def read() -> list[str]:
        return sorted(value for reader in everybody for value in reader.got)

    settled(agents, "shared", 4, PARTITIONS)
    produce("four")
    wait_for(lambda: len(read()) >= len(sent), "records are missing")
    assert read() == sorted(sent), "each once"
    assert all(reader.got for reader in readers), "everybody has its part"
    for count in (3, 2, 1):  # the leader leaves too, so that each kind of client assigns for the others
        time.sleep(0.5)  # what was read is committed
        readers.pop(0).stop()
        settled(agents, "shared", count, PARTITIONS)
        produce(f"left-{count}")
        wait_for(lambda: set(read()) == set(sent), "records are missing")
    late = ConfluentReader(bootstrap, "shared")
    settled(agents, "shared", 2, PARTITIONS)
    everybody.append(late)
    produce("late")
    wait_for(lambda: set(read()) == set(sent), "records are missing")
    assert late.got
    for reader in (readers[0], late):
        reader.stop()


@pytest.mark.timeout(120)
def test_a_cooperative_group_moves_only_what_it_must(agents: list[AgentProcess]) -> None:
    bootstrap = bootstrap_of(agents)
    fill(bootstrap, "churn", [], PARTITIONS)
    stop = threading.Event()
    sent: list[str] = []

    def produce() -> None:
        while not stop.is_set():
            values = [f"value-{len(sent) + number}" for number in range(80)]
            spread(bootstrap, "churn", values, PARTITIONS)
            sent.extend(values)
            time.sleep(0.05)

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()

    def join() -> ConfluentReader:
        return ConfluentReader(bootstrap, "churn", "cooperative-sticky")

    readers = [join() for _ in range(3)]
    everybody = list(readers)
    settled(agents, "churn", 3, PARTITIONS)
    wait_for(lambda: sum(len(reader.owned) for reader in readers) == PARTITIONS, "not assigned")
    for count in (4, 3, 4, 3):
        before = {id(reader): set(reader.owned) for reader in readers}
        for reader in readers:
            reader.revoked.clear()
        if count > len(readers):
            readers.append(join())
            everybody.append(readers[-1])
        else:
            readers.pop(0).stop()
        settled(agents, "churn", count, PARTITIONS)
        wait_for(lambda: sum(len(reader.owned) for reader in readers) == PARTITIONS, "not assigned")
        for reader in readers:
            kept = before.get(id(reader), set()) & reader.owned
            assert len(kept) >= min(2, len(before.get(id(reader), ()))), "a member keeps what it needn't give away"
            assert not kept & set(reader.revoked), "and isn't interrupted in it"
    stop.set()
    producer.join(TIMEOUT_S)
    wait_for(lambda: {value for reader in everybody for value in reader.got} == set(sent), "records are missing")
    for reader in readers:
        reader.stop()


@pytest.mark.timeout(120)
def test_a_static_member_that_restarts_keeps_its_assignment(agents: list[AgentProcess]) -> None:
    bootstrap = bootstrap_of(agents)
    fill(bootstrap, "static", [f"value-{number}" for number in range(80)], PARTITIONS)
    readers = {name: ConfluentReader(bootstrap, "static", instance=name) for name in ("one", "two", "three")}
    settled(agents, "static", 3, PARTITIONS)
    wait_for(lambda: sum(len(reader.owned) for reader in readers.values()) == PARTITIONS, "not assigned")
    owned = {name: set(reader.owned) for name, reader in readers.items()}
    assignments = {name: reader.assignments for name, reader in readers.items()}
    for name in readers:  # the leader too
        readers[name].stop()
        seen = look(agents, "static")
        assert seen is not None
        assert (seen.state, seen.members) == ("Stable", 3), "closing a static member is no leaving"
        readers[name] = ConfluentReader(bootstrap, "static", instance=name)
        assignments[name] = 1
        wait_for(lambda name=name: readers[name].owned == owned[name], "it isn't given what it had")  # type: ignore[misc]
    time.sleep(1)  # more than a heartbeat
    assert {name: reader.owned for name, reader in readers.items()} == owned
    assert {name: reader.assignments for name, reader in readers.items()} == assignments, "nobody else was interrupted"
    for reader in readers.values():
        reader.stop()
