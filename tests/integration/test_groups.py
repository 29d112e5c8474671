"""Real clients in consumer groups, Kafka's own group tool, and coordinators that are killed."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.agents import AgentProcess, agent_on_folder, started
from tests.conftest import found
from tests.counterparts import kafka_jars, kcat_binary
from tests.integration.groups import PARTITIONS, SETTINGS, TIMEOUT_S, fill, settled

RECORDS = 2_000
GROUP_COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleConsumer"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("groups")
    process = agent_on_folder(folder, folder / "data", settings=SETTINGS)
    with started(process):
        fill(process.kafka, "filled", [f"v{n}" for n in range(RECORDS)])
        yield process


WANTED = {f"v{n}" for n in range(RECORDS)}
VALUES = sorted(f"v{n}" for n in range(RECORDS))


def confluent(bootstrap: str, group: str, count: int, strategy: str = "range") -> list[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy,
            "log_level": 0,
        }
    )
    consumer.subscribe(["filled"])
    got: list[str] = []
    deadline = time.monotonic() + (TIMEOUT_S if count else 5)
    while (len(got) < count or not count) and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None, message.error()
            got.append((message.value() or b"").decode())
    consumer.close()
    return got


def cooperative(bootstrap: str, group: str, count: int) -> list[str]:
    return confluent(bootstrap, group, count, "cooperative-sticky")


def kafka_python(bootstrap: str, group: str, count: int) -> list[str]:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer("filled", bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest")
    got: list[str] = []
    deadline = time.monotonic() + (TIMEOUT_S if count else 5)
    while (len(got) < count or not count) and time.monotonic() < deadline:
        got += [m.value.decode() for messages in consumer.poll(500).values() for m in messages]
    consumer.close()
    return got


def aiokafka(bootstrap: str, group: str, count: int) -> list[str]:
    from aiokafka import AIOKafkaConsumer

    async def run() -> list[str]:
        consumer = AIOKafkaConsumer("filled", bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest")
        await consumer.start()
        got: list[str] = []
        deadline = time.monotonic() + (TIMEOUT_S if count else 5)
        try:
            while (len(got) < count or not count) and time.monotonic() < deadline:
                polled = await consumer.getmany(timeout_ms=500)
                got += [(m.value or b"").decode() for messages in polled.values() for m in messages]
        finally:
            await consumer.stop()
        return got

    return asyncio.run(run())


def kcat(bootstrap: str, group: str, count: int) -> list[str]:
    argv = [str(found(kcat_binary)), "-b", bootstrap, "-G", group, "-q", "-X", "auto.offset.reset=earliest", "-e"]
    done = subprocess.run([*argv, "filled"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def java_console(bootstrap: str, group: str, count: int) -> list[str]:
    argv = found(kafka_jars).command(
        CONSOLE, "--bootstrap-server", bootstrap, "--topic", "filled", "--group", group, "--from-beginning",
        "--timeout-ms", "8000", *(["--max-messages", str(count)] if count else []),
    )  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return [line for line in done.stdout.split() if line in WANTED]  # its log goes there too


CLIENTS = (confluent, cooperative, kafka_python, aiokafka, kcat, java_console)


@pytest.mark.parametrize("consume", CLIENTS, ids=lambda consume: consume.__name__)
def test_a_client_reads_everything_once_and_goes_on_where_it_was(
    agent: AgentProcess, consume: Callable[[str, str, int], list[str]]
) -> None:
    group = f"alone-{consume.__name__}"
    assert sorted(consume(agent.kafka, group, RECORDS)) == VALUES
    assert consume(agent.kafka, group, 0) == []


def tool(bootstrap: str, *args: str) -> str:
    argv = found(kafka_jars).command(GROUP_COMMAND, "--bootstrap-server", bootstrap, *args)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout + done.stderr


def test_kafkas_group_tool(agent: AgentProcess) -> None:
    group = "for-the-tool"
    consumer = Consumer(
        {"bootstrap.servers": agent.kafka, "group.id": group, "auto.offset.reset": "earliest", "client.id": "me"}
    )
    consumer.subscribe(["filled"])
    assert len(consumer.consume(10, TIMEOUT_S)) == 10
    consumer.commit(asynchronous=False)
    described = tool(agent.kafka, "--describe", "--group", group)
    assert described.count("me-") == PARTITIONS
    assert "/127.0.0.1" in described
    members = tool(agent.kafka, "--describe", "--group", group, "--members", "--verbose")
    assert "filled:" in members.replace("(", ":").replace("filled:0", "filled:") or "filled" in members
    assert "Stable" in tool(agent.kafka, "--describe", "--group", group, "--state")
    assert "The group is not empty" in tool(agent.kafka, "--delete", "--group", group)
    assert "subscribed to" in tool(agent.kafka, "--delete-offsets", "--group", group, "--topic", "filled")
    consumer.close()
    assert group in tool(agent.kafka, "--list").split()
    reset = tool(agent.kafka, "--group", group, "--reset-offsets", "--to-offset", "7", "--topic", "filled", "--execute")
    assert reset.count(" 7") == PARTITIONS
    assert len(confluent(agent.kafka, group, RECORDS - 7 * PARTITIONS)) == RECORDS - 7 * PARTITIONS
    assert "Successful" in tool(agent.kafka, "--delete-offsets", "--group", group, "--topic", "filled:0")
    assert "was successful" in tool(agent.kafka, "--delete", "--group", group)
    assert group not in tool(agent.kafka, "--list").split()
    assert "not found" in tool(agent.kafka, "--describe", "--group", group)


class Member(threading.Thread):
    """A consumer that reads until it is told to stop."""

    def __init__(self, bootstrap: str, strategy: str, instance: str | None = None) -> None:
        super().__init__(daemon=True)
        config = {
            "bootstrap.servers": bootstrap,
            "group.id": "killed",
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": 10_000,
            "auto.commit.interval.ms": 200,
            "reconnect.backoff.max.ms": 300,
            "log_level": 0,
        }
        self.consumer = Consumer(config | ({"group.instance.id": instance} if instance else {}))
        self.consumer.subscribe(["killed"])
        self.got: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            for message in self.consumer.consume(100, 0.2):
                if message.error() is None:
                    self.got.append((message.value() or b"").decode())
        self.consumer.close()


def produce(producer: Producer, sent: list[str], name: str) -> None:
    """Three hundred records more, acknowledged."""
    for number in range(300):
        sent.append(f"{name}-{number}")
        producer.produce("killed", sent[-1].encode(), partition=number % PARTITIONS)
    assert producer.flush(TIMEOUT_S) == 0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_no_record_is_lost_when_coordinators_are_killed(tmp_path: Path, strategy: str) -> None:
    agents = [agent_on_folder(tmp_path, tmp_path / "data", settings=SETTINGS) for _ in range(2)]
    with started(*agents):
        bootstrap = ",".join(agent.kafka for agent in agents)
        fill(bootstrap, "killed", ["first"])
        members = [Member(bootstrap, strategy), Member(bootstrap, strategy, "static"), Member(bootstrap, strategy)]
        for member in members:
            member.start()
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
        sent = ["first"]
        holder = settled(agents, "killed", len(members)).agent
        for round_ in range(2):
            produce(producer, sent, f"before-{round_}")
            holder.kill()
            produce(producer, sent, f"after-{round_}")
            began = time.monotonic()
            settled([agent for agent in agents if agent is not holder], "killed", len(members))
            assert time.monotonic() - began < 20, "the next coordinator resumes within seconds"
            holder.start()
            holder = settled(agents, "killed", len(members)).agent
        deadline = time.monotonic() + TIMEOUT_S
        missing = set(sent)
        while missing and time.monotonic() < deadline:
            time.sleep(0.2)
            missing = set(sent) - {value for member in members for value in member.got}
        assert not missing, f"{len(missing)} of {len(sent)} records never came"
        for member in members:
            member.ended.set()
        for member in members:
            member.join(TIMEOUT_S)
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        [committed] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("killed")]).values()
        ends = {p.partition: p.offset for p in committed.result(TIMEOUT_S).topic_partitions}
        asking = Consumer({"bootstrap.servers": bootstrap, "group.id": "x", "log_level": 0})
        for partition in range(PARTITIONS):
            low, high = asking.get_watermark_offsets(TopicPartition("killed", partition), TIMEOUT_S)
            assert ends[partition] == high > low
        asking.close()
