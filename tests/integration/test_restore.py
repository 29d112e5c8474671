"""The metadata database is dropped under load and built again from the bucket: real clients, two agents, PostgreSQL and S3.

The agents are killed in the same moment, so what was acknowledged in their last second may be gone. Everything before stands at
its offset, nothing else ever stands at an offset that was told, and producers and consumer groups go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from neve.kafka_client import KafkaClient
from tests.agents import AgentProcess, agent_on_servers, started
from tests.counterparts import S3Server, postgres
from tests.integration.test_kills import PARTITIONS, TOPIC, Writer, create

RECOVERY_POINT_S = 2.0
"""What is journalled within a second by default; and a second for a busy machine."""
SETTINGS = {"NEVE_SNAPSHOT_INTERVAL_MS": "700", "NEVE_JOB_POLL_MS": "200"}


class TimedWriter(Writer):
    """A producer that remembers when it was told of each record."""

    def __init__(self, bootstrap: str, name: str) -> None:
        super().__init__(bootstrap)
        self.name = name
        self.told: dict[tuple[int, int], tuple[bytes, float]] = {}
        self.abandoned = False

    def delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))
        else:
            self.told[message.partition(), message.offset()] = (message.value(), time.monotonic())

    def run(self) -> None:
        while not self._end.is_set():
            if len(self.producer) < 500:
                partition = self.sent % PARTITIONS
                value = f"{self.name}:{partition}:{self.sent:09d}".encode()
                self.producer.produce(TOPIC, value, partition=partition, on_delivery=self.delivered)
                self.sent += 1
            self.producer.poll(0.002)
        if self.abandoned:
            self.producer.purge()
        self.producer.flush(1 if self.abandoned else 60)


def neve(agent: AgentProcess, command: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """Run `neve COMMAND --json` on the agent's bucket and database."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("NEVE_")} | dict(agent.settings)
    argv = [sys.executable, "-m", "neve", command, *agent.arguments[:4], "--json", *more]
    answer = subprocess.run(
        argv, env=env | {"PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False, timeout=60
    )
    return answer.returncode, json.loads(answer.stdout) if answer.stdout else {}, answer.stderr


def group(agent: AgentProcess, reset: str) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": agent.kafka,
            "group.id": "readers",
            "auto.offset.reset": reset,
            "log_level": 0,
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([TOPIC])
    return consumer


def read_some(consumer: Consumer, count: int) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    deadline = time.monotonic() + 40
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} records came"
        for message in consumer.consume(500, 0.5):
            assert message.error() is None, message.error()
            found.append((message.partition(), message.offset(), message.value()))
    return found


async def highs(bootstrap: str) -> dict[int, int]:
    async with await KafkaClient.connect(bootstrap) as client:
        return dict(await client.offsets(TOPIC, range(PARTITIONS), -1))


def read_all(bootstrap: str, ends: dict[int, int]) -> dict[tuple[int, int], bytes]:
    """Every record below these offsets; offsets may have gaps."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in ends])
    found: dict[tuple[int, int], bytes] = {}
    at_end: set[int] = set()
    deadline = time.monotonic() + 60
    while len(at_end) < len(ends):
        assert time.monotonic() < deadline, "a consumer never got to the end"
        for message in consumer.consume(1000, 0.5):
            if message.error():
                at_end.add(message.partition())
            else:
                assert (message.partition(), message.offset()) not in found
                found[message.partition(), message.offset()] = message.value()
    consumer.close()
    return found


@pytest.mark.timeout(300)
def test_a_database_dropped_under_load_is_restored(tmp_path: Path, versitygw_server: S3Server) -> None:
    with postgres() as server:
        bucket = versitygw_server.create_bucket("restore")
        uri = server.create_database("lost")
        agents = [
            agent_on_servers(tmp_path, bucket, versitygw_server, uri, roles=roles, settings=SETTINGS)
            for roles in ("broker,compact", "broker")
        ]
        with started(*agents):
            asyncio.run(create(agents[0].kafka))
            writers = [TimedWriter(agent.kafka, f"w{n}") for n, agent in enumerate(agents)]
            for writer in writers:
                writer.start()
            time.sleep(3)
            consumer = group(agents[0], "earliest")
            began: set[int] = set()
            while len(began) < PARTITIONS:
                began |= {partition for partition, _, _ in read_some(consumer, 1)}
            consumer.commit(asynchronous=False)
            consumer.close()
            time.sleep(3)  # a snapshot has the group's offsets, and some of the log is in the journal alone
            server.drop_database("lost")
            dropped_s = time.monotonic()
            for agent in agents:
                agent.kill()
            for writer in writers:
                writer.abandoned = True
                writer.finish()

        server.create_database("lost")
        again = agent_on_servers(tmp_path, bucket, versitygw_server, uri, settings=SETTINGS)
        again.begin()
        assert again.child is not None
        assert again.child.wait(30) != 0, "an empty database beside a full prefix is refused"
        assert "neve restore" in again.log.read_text()
        code, restored, error = neve(again, "restore")
        assert code == 0, error
        assert restored["snapshot"] is not None
        assert restored["counts"]["objects_replayed"] > 0
        code, _, error = neve(again, "restore")
        assert code == 2
        assert "Nothing was changed" in error
        code, found, error = neve(again, "fsck", "--deep", "--no-tables")
        assert code == 0, (found, error)
        assert any("on hold" in note for note in found["notes"])
        code, found, error = neve(again, "fsck", "--repair", "--no-tables")
        assert code == 0, (found, error)
        assert any("lifted" in note for note in found["notes"])

        told = {place: one for writer in writers for place, one in writer.told.items()}
        with started(again):
            ends = asyncio.run(highs(again.kafka))
            for partition, offset in told:
                assert offset < ends[partition], "an offset that was told would be given again"
            log = read_all(again.kafka, ends)
            certain = {place: value for place, (value, at_s) in told.items() if at_s < dropped_s - RECOVERY_POINT_S}
            assert len(certain) > 200
            for place, value in certain.items():
                assert log.get(place) == value, f"{place} was acknowledged before the recovery point and is lost"
            for place, (value, _) in told.items():
                assert log.get(place, value) == value, f"{place} holds another record than was told"
            assert len(set(log.values())) == len(log), "duplicates"
            consumer = group(again, "error")  # its offsets were restored, or this fails
            after = TimedWriter(again.kafka, "after")
            after.start()
            time.sleep(1)
            after.finish()
            assert not after.failed
            fresh = set(after.told)
            assert all(offset >= ends[partition] for partition, offset in fresh)
            seen: set[tuple[int, int]] = set()
            deadline = time.monotonic() + 40
            while not fresh <= seen:
                assert time.monotonic() < deadline, "the group doesn't go on"
                seen |= {(partition, offset) for partition, offset, _ in read_some(consumer, 1)}
            consumer.close()
            assert again.terminate() == 0
