"""The services below agents go away for seconds under load: nothing acknowledged is lost, nothing hangs, no agent dies.

PostgreSQL is restarted as after a crash, the S3 server is killed and started again, and stopped in its tracks, and the
SQLite file of an embedded agent is locked by another process. Two producers (one per agent) go on all the while and must
see every record through; afterwards both logs are judged as after kills.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.agents import AgentProcess, agent_on_folder, agent_on_servers, started
from tests.counterparts import S3Server, answers_http, postgres, stop, versitygw
from tests.integration.test_kills import PARTITIONS, TOPIC, Writer, consume, create, high_watermark

Event = Callable[[], None]


class OwnWriter(Writer):
    """A producer whose values differ from those of the others; it may end before its client library gives up."""

    def __init__(self, bootstrap: str, name: str) -> None:
        super().__init__(bootstrap)
        self.name = name

    def run(self) -> None:
        while not self._end.is_set():
            if len(self.producer) < 500:
                partition = self.sent % PARTITIONS
                value = f"{self.name}:{partition}:{self.sent:09d}".encode()
                self.producer.produce(TOPIC, value, partition=partition, on_delivery=self.delivered)
                self.sent += 1
            self.producer.poll(0.002)
        self.producer.flush(60)


def judge(writers: list[OwnWriter], found: dict[int, dict[int, bytes]]) -> None:
    """Everything acknowledged is at its offset, once; each producer's records are in its order."""
    for partition, log in found.items():
        assert sorted(log) == list(range(len(log))), "offsets are not contiguous"
        values = [log[offset] for offset in sorted(log)]
        assert len(set(values)) == len(values), "duplicates"
        for writer in writers:
            own = [value for value in values if value.startswith(f"{writer.name}:".encode())]
            assert own == sorted(own), "reordered"
            for offset, value in writer.acknowledged[partition]:
                assert log[offset] == value, f"partition {partition} offset {offset} lost or moved"


def under_load(agents: list[AgentProcess], *events: Event, quiet_s: float = 0.5) -> None:
    """Produce through every agent while the events happen, then judge."""
    asyncio.run(create(agents[0].kafka))
    writers = [OwnWriter(agent.kafka, f"w{n}") for n, agent in enumerate(agents)]
    for writer in writers:
        writer.start()
    time.sleep(quiet_s)
    for event in events:
        before = [writer.count for writer in writers]
        event()
        deadline = time.monotonic() + 45
        while any(writer.count <= at for writer, at in zip(writers, before, strict=True)):
            assert time.monotonic() < deadline, "a producer got nothing acknowledged any more"
            time.sleep(0.05)
        time.sleep(quiet_s)
    for writer in writers:
        writer.finish()
    for writer in writers:
        assert not writer.failed, writer.failed[0]
        assert writer.count == writer.sent
    count = asyncio.run(high_watermark(agents[0].kafka))
    assert count == sum(writer.count for writer in writers)
    for agent in agents:
        judge(writers, consume(agent.kafka, count))
    for agent in agents:
        assert agent.terminate() == 0


@pytest.mark.timeout(150)
def test_postgresql_restarts(tmp_path: Path, versitygw_server: S3Server) -> None:
    with postgres() as server:
        bucket = versitygw_server.create_bucket("restarts-pg")
        uri = server.create_database("restarts")
        agents = [agent_on_servers(tmp_path, bucket, versitygw_server, uri) for _ in range(2)]
        with started(*agents):
            under_load(agents, lambda: server.restart("immediate"), lambda: server.restart("fast"))


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    with versitygw() as server:
        yield server


@pytest.mark.timeout(150)
def test_the_s3_server_restarts_and_stalls(tmp_path: Path, own_s3: S3Server) -> None:
    process = psutil.Process(own_s3.pid)
    argv, env = process.cmdline(), process.environ()
    started_again: list[subprocess.Popen[bytes]] = []

    def restart() -> None:
        os.kill(own_s3.pid, signal.SIGKILL)
        time.sleep(2)
        with (tmp_path / "s3.log").open("wb") as out:
            started_again.append(subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL))
        while not answers_http(own_s3.endpoint):
            time.sleep(0.05)

    def stall() -> None:
        os.kill(started_again[0].pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(started_again[0].pid, signal.SIGCONT)

    bucket = own_s3.create_bucket("restarts-s3")
    settings = {"NEVE_OBJECT_TIMEOUT_MS": "1500"}
    try:
        with postgres() as server:
            uri = server.create_database("restarts")
            agents = [agent_on_servers(tmp_path, bucket, own_s3, uri, settings=settings) for _ in range(2)]
            with started(*agents):
                under_load(agents, restart, stall)
    finally:
        for child in started_again:
            stop(child)


@pytest.mark.timeout(150)
def test_another_process_holds_the_sqlite_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {"NEVE_DATABASE_BUSY_TIMEOUT_MS": "1000", "NEVE_EPOCH_LEASE_MS": "3000"}
    agents = [agent_on_folder(tmp_path, data, settings=settings) for _ in range(2)]

    def hold(seconds: float) -> None:
        with sqlite3.connect(data / "neve.db", isolation_level=None) as held:
            held.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            held.execute("ROLLBACK")
        held.close()

    with started(*agents):
        under_load(agents, lambda: hold(0.5), lambda: hold(4))
