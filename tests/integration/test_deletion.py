"""Deletion with a real client and real processes: the disk is freed, kill -9 in the middle costs nothing, and everybody
agrees on the log start."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from neve.cli.app import app
from tests.agents import AgentProcess, agent_on_folder, started

SETTINGS = {
    "NEVE_DELETION_INTERVAL_MS": "150",
    "NEVE_JOB_LEASE_MS": "1000",
    "NEVE_SNAPSHOT_INTERVAL_MS": "0",
    "NEVE_JOB_POLL_MS": "100",
    "NEVE_JOB_WRITE_SHARE": "1",
    "NEVE_JOB_SHARE_MIN": "1",
    "NEVE_DELETION_ROWS_MAX": "5",
    "NEVE_OBJECT_DELETE_MAX": "3",
    "NEVE_OBJECT_DELETE_DELAY_MS": "600",
    "NEVE_FETCH_READ_MS": "300",
    "NEVE_TOPIC_POLL_INTERVAL_MS": "200",
    "NEVE_LOG_RETENTION_CHECK_INTERVAL_MS": "150",
    "NEVE_FSYNC": "never",
}
KILLS = 3
VALUE = b"x" * 20_000


def segment_bytes(data: Path) -> int:
    """What the segments of a data folder take."""
    return sum(
        path.stat().st_size for path in (data / "objects").rglob("*") if path.is_file() and "segments" in str(path)
    )


def until(condition: Callable[[], bool], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def produce(agent: AgentProcess, topic: str, count: int, first: int = 0, partition: int = 0) -> None:
    """One record in each object, nearly."""
    producer = Producer({"bootstrap.servers": agent.kafka, "acks": "all", "linger.ms": 0, "enable.idempotence": True})
    for at in range(first, first + count):
        producer.produce(topic, b"%06d" % at + VALUE, partition=partition)
        producer.flush(60)


def consumer(agent: AgentProcess, reset: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": agent.kafka,
            "group.id": "not used",
            "auto.offset.reset": reset,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )


def read(agent: AgentProcess, topic: str, offset: int, reset: str = "earliest") -> list[tuple[int, bytes]]:
    """(offset, first bytes) of everything from an offset on."""
    client = consumer(agent, reset)
    client.assign([TopicPartition(topic, 0, offset)])
    found: list[tuple[int, bytes]] = []
    try:
        while (message := client.poll(20)) is not None:
            if message.error():
                break  # the end
            found.append((message.offset(), message.value()[:6]))
    finally:
        client.close()
    return found


def delete(agent: AgentProcess, topic: str, offset: int) -> int:
    admin = AdminClient({"bootstrap.servers": agent.kafka})
    [future] = admin.delete_records([TopicPartition(topic, 0, offset)]).values()
    return int(future.result(20).low_watermark)


def create(agent: AgentProcess, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": agent.kafka})
    new = NewTopic(topic, 1, config={name.replace("_", "."): value for name, value in config.items()})
    admin.create_topics([new])[topic].result(20)


def test_kills_while_sweeping_free_the_disk_and_lose_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    agent = agent_on_folder(tmp_path, data, roles="broker,compact", settings=SETTINGS)
    with started(agent):
        create(agent, "kept")
        create(agent, "passing")
        for at in range(KILLS):
            produce(agent, "kept", 10, 10 * at)
            produce(agent, "passing", 10, 10 * at)
            low = delete(agent, "kept", 10 * at + 5)
            assert low == 10 * at + 5
            assert delete(agent, "passing", -1) == 10 * (at + 1)
            time.sleep(0.2 + 0.4 * at)  # while things wait, are deleted, and are confirmed
            agent.kill()
            agent.start()
            kept = read(agent, "kept", 0)
            assert kept == [(n, b"%06d" % n) for n in range(low, 10 * (at + 1))]
        admin = AdminClient({"bootstrap.servers": agent.kafka})
        admin.delete_topics(["passing"])["passing"].result(20)
        record = len(VALUE)
        until(lambda: segment_bytes(data) < 7 * record, "the disk is not freed")
        assert segment_bytes(data) > 5 * record, "five records are left"
        assert read(agent, "kept", 0) == [(n, b"%06d" % n) for n in range(10 * KILLS - 5, 10 * KILLS)]


def test_clients_start_over_and_everybody_agrees_on_the_log_start(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    data = tmp_path / "data"
    agent = agent_on_folder(tmp_path, data, roles="broker,compact", settings=SETTINGS)
    with started(agent):
        create(agent, "old", retention_ms="1")
        create(agent, "short")
        produce(agent, "old", 5)
        produce(agent, "short", 10)
        assert delete(agent, "short", 4) == 4
        assert [at for at, _ in read(agent, "short", 1)] == list(range(4, 10)), "earliest"
        assert read(agent, "short", 1, "latest") == []
        watcher = consumer(agent, "error")
        until(lambda: watcher.get_watermark_offsets(TopicPartition("old", 0), cached=False)[0] == 5, "retention")
        watcher.close()
        produce(agent, "old", 1, 5)
        shown = CliRunner().invoke(app, ["topic", "describe", "short", "-o", "json", "--http", agent.http])
        assert shown.exit_code == 0, shown.output
        [partition] = json.loads(shown.stdout)["partitions"]
        assert (partition["log_start"], partition["high_watermark"]) == (4, 10)
        [state] = agent.get("/v1/cluster?topic=short")["topics"]
        assert state["partitions"] == [{"partition": 0, "log_start": 4, "high_watermark": 10}]
        client = consumer(agent, "error")
        assert client.get_watermark_offsets(TopicPartition("short", 0)) == (4, 10)
        assert client.get_watermark_offsets(TopicPartition("old", 0))[1] == 6
        client.close()
