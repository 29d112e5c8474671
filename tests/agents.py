"""Neve agents as real processes, for tests and benches: on a folder, or on PostgreSQL and an S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.counterparts import START_SECONDS, CounterpartFailed, S3Server, free_port, stop

STOP_SECONDS = 30.0


@dataclass
class AgentProcess:
    """One `neve agent` process, which can be killed and started again on the same ports."""

    folder: Path
    arguments: list[str]
    settings: Mapping[str, str]
    kafka: str
    http: str
    child: subprocess.Popen[bytes] | None = None
    starts: int = 0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / f"agent-{self.kafka.rpartition(':')[2]}.log"

    def start(self) -> AgentProcess:
        """Start and wait until it is ready."""
        self.begin()
        self.wait_ready()
        return self

    def begin(self) -> None:
        """Start without waiting."""
        self.starts += 1
        ready = self._ready_file()
        ready.unlink(missing_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEVE_")}
        env |= {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **self.settings}
        argv = [
            sys.executable,
            "-m",
            "neve",
            "agent",
            "--kafka",
            self.kafka,
            "--http",
            self.http.removeprefix("http://"),
        ]
        argv += [*self.arguments, "--ready-file", str(ready)]
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)

    def _ready_file(self) -> Path:
        return self.folder / f"ready-{self.kafka.rpartition(':')[2]}.json"

    def wait_ready(self) -> None:
        """Wait for the ready file."""
        assert self.child is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._ready_file().exists():
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise CounterpartFailed(f"the agent did not start: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.child is not None
        return self.child.pid

    def exporter(self) -> psutil.Process | None:
        """The export child process, when it is up."""
        return self._child_of("export_process")

    def jobs(self) -> psutil.Process | None:
        """The child process that runs jobs, when it is up."""
        return self._child_of("broker.jobs.process")

    def _child_of(self, command: str) -> psutil.Process | None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if any(command in part for part in process.cmdline()):
                        return process
        return None

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        assert self.child is not None
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def terminate(self) -> int:
        """SIGTERM: drain; returns the exit code."""
        assert self.child is not None
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def get(self, path: str) -> Any:
        """GET a JSON document from its HTTP port."""
        with urllib.request.urlopen(self.http + path, timeout=10) as answer:
            return json.load(answer)


def agent_on_folder(
    folder: Path, data: Path, *, roles: str = "broker", settings: Mapping[str, str] | None = None
) -> AgentProcess:
    """An agent on embedded defaults (not started yet)."""
    return _agent(folder, ["--data", str(data), "--roles", roles], settings or {})


def agent_on_servers(
    folder: Path,
    bucket: str,
    s3: S3Server,
    postgres_uri: str,
    *,
    roles: str = "broker",
    settings: Mapping[str, str] | None = None,
) -> AgentProcess:
    """An agent on PostgreSQL and S3 (not started yet)."""
    more = {
        "NEVE_S3_ENDPOINT": s3.endpoint,
        "NEVE_S3_REGION": s3.region,
        "NEVE_S3_ACCESS_KEY_ID": s3.access_key_id,
        "NEVE_S3_SECRET_ACCESS_KEY": s3.secret_access_key,
    }
    arguments = ["--bucket", f"s3://{bucket}/neve", "--metadata", postgres_uri, "--roles", roles]
    return _agent(folder, arguments, more | dict(settings or {}))


def _agent(folder: Path, arguments: list[str], settings: Mapping[str, str]) -> AgentProcess:
    return AgentProcess(folder, arguments, settings, f"127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}")


@contextlib.contextmanager
def started(*agents: AgentProcess) -> Iterator[None]:
    """Start agents; end them with the context."""
    try:
        for agent in agents:
            agent.start()
        yield
    finally:
        for agent in agents:
            if agent.child is not None:
                stop(agent.child)
