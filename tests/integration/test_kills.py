"""kill -9 of agent and exporter, fifty times: nothing acknowledged is lost, and `neve verify` finds log and table equal.

Each kill counts only when it hit something: an agent with unanswered requests, or an exporter with an open export (records
in the log that its table doesn't have yet). What each kill hit is printed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from tests.agents import AgentProcess, agent_on_folder, started

AGENT_KILLS = 25
EXPORTER_KILLS = 25
PARTITIONS = 3
TOPIC = "killed"


class Writer(threading.Thread):
    """An idempotent producer that knows every value it was told is stored, in order per partition."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self.failed: list[str] = []
        self.sent = 0
        self._end = threading.Event()
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 120_000,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 200,
                "retry.backoff.ms": 20,
                "log_level": 0,
            }
        )

    def delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))
        else:
            self.acknowledged[message.partition()].append((message.offset(), message.value()))

    def run(self) -> None:
        while not self._end.is_set():
            if len(self.producer) < 2000:
                partition = self.sent % PARTITIONS
                self.producer.produce(
                    TOPIC, f"{partition}:{self.sent:09d}".encode(), partition=partition, on_delivery=self.delivered
                )
                self.sent += 1
            self.producer.poll(0.0005)
        self.producer.flush(60)

    def finish(self) -> None:
        self._end.set()
        self.join(90)

    @property
    def in_flight(self) -> int:
        return len(self.producer)

    @property
    def count(self) -> int:
        return sum(len(found) for found in self.acknowledged.values())


async def create(bootstrap: str) -> None:
    async with await KafkaClient.connect(bootstrap) as client:
        await create_topic(client, TOPIC, PARTITIONS, {"iceberg.mode": "raw", "iceberg.target.lag.ms": "200"})


async def high_watermark(bootstrap: str) -> int:
    async with await KafkaClient.connect(bootstrap) as client:
        return sum((await client.offsets(TOPIC, range(PARTITIONS), -1)).values())


def kill_agent(agent: AgentProcess, writer: Writer) -> int:
    """Kill while requests are unanswered; returns how many records were."""
    deadline = time.monotonic() + 20
    while writer.in_flight == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    open_requests = writer.in_flight
    agent.kill()
    agent.start()
    return open_requests


def exported(agent: AgentProcess) -> int:
    """Records the table's watermark covers."""
    exports = agent.get("/v1/exports")
    return sum(
        sum(entry["offsets"].values()) for entry in exports if entry["topic"] == TOPIC and entry["kind"] == "main"
    )


def kill_exporter(agent: AgentProcess) -> int:
    """Kill while the table is behind the log; returns by how many records."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        process = agent.exporter()
        if process is not None:
            behind = asyncio.run(high_watermark(agent.kafka)) - exported(agent)
            if behind > 0:
                process.kill()
                return behind
        time.sleep(0.02)
    raise AssertionError("no exporter with an open export within 20 s")


def consume(bootstrap: str, count: int) -> dict[int, dict[int, bytes]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    found: dict[int, dict[int, bytes]] = {partition: {} for partition in range(PARTITIONS)}
    left = count
    while left:
        messages = consumer.consume(min(10_000, left), 10)
        assert messages, f"{left} of {count} records did not come"
        for message in messages:
            assert message.error() is None
            assert message.offset() not in found[message.partition()]
            found[message.partition()][message.offset()] = message.value()
            left -= 1
    consumer.close()
    return found


def judge(writer: Writer, found: dict[int, dict[int, bytes]]) -> None:
    """Everything acknowledged is there at its offset, once, in order, and nothing was invented."""
    for partition, log in found.items():
        assert sorted(log) == list(range(len(log))), "offsets are not contiguous"
        in_order = [log[offset] for offset in sorted(log)]
        assert len(set(in_order)) == len(in_order), "duplicates"
        assert in_order == sorted(in_order), "reordered"
        for offset, value in writer.acknowledged[partition]:
            assert log[offset] == value, f"partition {partition} offset {offset} lost or moved"
        assert all(value.startswith(f"{partition}:".encode()) for value in in_order), "invented"


@pytest.mark.timeout(400)
def test_fifty_kills_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"NEVE_EXPORT_INTERVAL_MS": "100", "NEVE_EXPORT_IDLE_COMMIT_MS": "300", "NEVE_EXPORT_LEASE_MS": "1500"}
    agent = agent_on_folder(tmp_path, tmp_path / "data", roles="broker,export", settings=settings)
    with started(agent):
        asyncio.run(create(agent.kafka))
        writer = Writer(agent.kafka)
        writer.start()
        hits: list[tuple[str, int]] = []
        for n in range(AGENT_KILLS + EXPORTER_KILLS):
            time.sleep(0.2)
            hits.append(("exporter", kill_exporter(agent)) if n % 2 else ("agent", kill_agent(agent, writer)))
        writer.finish()
        with capsys.disabled():
            print(f"\nkills and what they hit: {hits}; {writer.count} records acknowledged")
        assert all(open_work > 0 for _who, open_work in hits)
        assert not writer.failed, writer.failed[0]
        assert writer.count == writer.sent
        judge(writer, consume(agent.kafka, asyncio.run(high_watermark(agent.kafka))))
        deadline = time.monotonic() + 60
        while exported(agent) < writer.sent and time.monotonic() < deadline:
            time.sleep(0.2)
        argv = [sys.executable, "-m", "neve", "verify", TOPIC, "--json", "--http", agent.http]
        verified = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert json.loads(verified.stdout)["equal"]
