"""Jobs of a fleet as real processes: agents without Kafka clients take them, killed holders are followed, one at a time."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from typer.testing import CliRunner

from neve.cli.app import app
from tests.agents import AgentProcess, agent_on_folder, agent_on_servers, started
from tests.counterparts import S3Server

LEASE_S = 2.0
SETTINGS = {
    "NEVE_FSYNC": "never",
    "NEVE_FLUSH_INTERVAL_MS": "5",
    "NEVE_FLUSH_INTERVAL_MIN_MS": "0",
    "NEVE_JOB_LEASE_MS": str(round(LEASE_S * 1000)),
    "NEVE_JOB_POLL_MS": "100",
    "NEVE_JOB_WRITE_SHARE": "1",
    "NEVE_JOB_SHARE_MIN": "1",  # whatever else runs on this machine
    "NEVE_DELETION_INTERVAL_MS": "200",
    # a turn removes one extent: there is time to kill its holder
    "NEVE_DELETION_ROWS_MAX": "1",
    "NEVE_DELETION_STEPS_MAX": "1",
    "NEVE_COMPACTION_ENABLE": "false",
    "NEVE_SNAPSHOT_INTERVAL_MS": "0",  # what a snapshot refers to stays until the next one
    "NEVE_KEY_COMPACTION_ENABLE": "false",
    "NEVE_OBJECT_DELETE_DELAY_MS": "400",
    "NEVE_FETCH_READ_MS": "200",
    "NEVE_TOPIC_POLL_INTERVAL_MS": "200",
}
RECORDS = 60
KEPT = 3


def until(condition: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def deletion(agent: AgentProcess) -> dict[str, Any] | None:
    """The job as the database has it; None before anybody took it."""
    return next((job for job in agent.get("/v1/jobs") if job["job"] == "deletion"), None)


def metric(agent: AgentProcess, name: str) -> float | None:
    with urllib.request.urlopen(agent.http + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)


def fill_and_delete(agent: AgentProcess) -> None:
    """Many small objects, of which all but a few are below the log start."""
    admin = AdminClient({"bootstrap.servers": agent.kafka})
    admin.create_topics([NewTopic("t", 1)])["t"].result(20)
    producer = Producer({"bootstrap.servers": agent.kafka, "linger.ms": 0, "enable.idempotence": True})
    for at in range(RECORDS):
        producer.produce("t", b"%d" % at, partition=0)
        producer.flush(20)
    [future] = admin.delete_records([TopicPartition("t", 0, RECORDS - KEPT)]).values()
    assert future.result(20).low_watermark == RECORDS - KEPT


def read(agent: AgentProcess) -> list[bytes | None]:
    consumer = Consumer(
        {
            "bootstrap.servers": agent.kafka,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition("t", 0, RECORDS - KEPT)])
    found: list[bytes | None] = []
    try:
        while (message := consumer.poll(20)) is not None and not message.error():
            found.append(message.value())
    finally:
        consumer.close()
    return found


def holder_of(worker: AgentProcess) -> str:
    """The name in leases of the process that runs jobs for this agent."""
    child = worker.jobs()
    assert child is not None
    return str(child.environ()["NEVE_JOBS_HOLDER"])


def paused(worker: AgentProcess, number: signal.Signals) -> None:
    child = worker.jobs()
    assert child is not None
    os.kill(child.pid, number)


def caught_in_the_act(front: AgentProcess, workers: list[AgentProcess]) -> dict[str, Any]:
    """The job while somebody holds it; all who could go on or end it stand still."""

    def held() -> dict[str, Any] | None:
        for worker in workers:
            paused(worker, signal.SIGSTOP)
        job = deletion(front)
        if job is not None and job["holder"]:
            return job
        for worker in workers:
            paused(worker, signal.SIGCONT)
        return None

    found: dict[str, Any] = until(held, "nobody took the job")
    return found


def kill_with_child(agent: AgentProcess) -> None:
    """SIGKILL both; the parent first, or it would start the child again."""
    child = agent.jobs()
    agent.kill()
    if child is not None:
        os.kill(child.pid, signal.SIGKILL)


def test_a_killed_holder_is_followed_by_another_agent(
    tmp_path: Path, versitygw_server: S3Server, postgres_uri: str
) -> None:
    bucket = versitygw_server.create_bucket("jobs")

    def made(roles: str) -> AgentProcess:
        return agent_on_servers(tmp_path, bucket, versitygw_server, postgres_uri, roles=roles, settings=SETTINGS)

    front, one, two = made("broker"), made("compact"), made("compact")
    with started(front, one, two):
        workers = [one, two]
        fill_and_delete(front)
        names = {holder_of(worker): worker for worker in workers}
        held = caught_in_the_act(front, workers)
        holder = names.pop(held["holder"])
        [(heirs_name, heir)] = names.items()
        kill_with_child(holder)
        paused(heir, signal.SIGCONT)
        until(
            lambda: (job := deletion(front)) and job["epoch"] > held["epoch"] and job["last_holder"] == heirs_name,
            "nobody followed the killed holder",
        )
        until(lambda: (metric(heir, "neve_deletion_extents_total") or 0) > 0, "the heir does nothing")
        until(lambda: (job := deletion(front)) and not job["holder"] and not job["failures"], "it doesn't end")
        until(lambda: metric(heir, "neve_deletion_waiting_objects") == 0, "the objects stay")
        assert read(front) == [b"%d" % at for at in range(RECORDS - KEPT, RECORDS)]
        brokers = front.get("/v1/cluster")["agents"]
        assert len(brokers) == 1, "clients are told of no agent without the role broker"
        assert heir.terminate() == 0


def test_a_killed_child_is_started_again_and_goes_on_at_once(tmp_path: Path) -> None:
    settings = SETTINGS | {"NEVE_JOB_LEASE_MS": "600000"}
    agent = agent_on_folder(tmp_path, tmp_path / "data", roles="broker,compact", settings=settings)
    with started(agent):
        child = until(agent.jobs, "no process for jobs")
        until(lambda: child.nice() >= min(os.nice(0) + 10, 19), "it is not niced")
        fill_and_delete(agent)
        held = until(lambda: (job := deletion(agent)) and job["holder"] and job, "nobody took the job")
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: (job := deletion(agent)) and job["epoch"] > held["epoch"], "nobody went on", 20)
        until(lambda: (metric(agent, "neve_deletion_objects_total") or 0) > 0, "the objects stay")
        assert (metric(agent, "neve_jobs_restarts_total") or 0) >= 1
        shown = CliRunner().invoke(app, ["jobs", "list", "-o", "json", "--http", agent.http])
        assert shown.exit_code == 0, shown.output
        assert {job["job"] for job in json.loads(shown.stdout)} >= {"deletion", "prune"}
        hurried = CliRunner().invoke(app, ["jobs", "run", "prune", "--http", agent.http])
        assert hurried.exit_code == 0, hurried.output
        until(
            lambda: any(job["job"] == "prune" and job["due_in_s"] > 100 for job in agent.get("/v1/jobs")),
            "it was not done",
        )
        table = CliRunner().invoke(app, ["jobs", "list", "--http", agent.http])
        assert "last success" in table.output
        child = until(agent.jobs, "no process for jobs")
        assert agent.terminate() == 0
        assert not child.is_running()
