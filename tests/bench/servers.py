"""The two systems under measure, started alike: Apache Kafka with its shipped JVM settings, and a Neve agent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.counterparts import free_port, kafka, running, work_folder

# kafka-server-start's own heap and collector; the test recipe's light flags are overridden.
KAFKA_JVM = (
    "-Xms1g",
    "-Xmx1g",
    "-XX:-UseSerialGC",
    "-XX:+UseG1GC",
    "-XX:TieredStopAtLevel=4",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
)


@dataclass(frozen=True)
class Server:
    """One running system."""

    name: str
    bootstrap: str
    pid: int
    http: str | None = None

    def cpu_seconds(self) -> float:
        """CPU seconds of the process and everything below it so far."""
        total = 0.0
        root = psutil.Process(self.pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def resident_bytes(self) -> int:
        """Resident memory of the process and everything below it."""
        total = 0
        root = psutil.Process(self.pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total


@contextlib.contextmanager
def kafka_server(partitions: int = 16, name: str = "kafka") -> Iterator[Server]:
    """Apache Kafka, which doesn't flush to disk by default."""
    with kafka(partitions, KAFKA_JVM) as server:
        yield Server(name, server.bootstrap, server.pid)


@contextlib.contextmanager
def neve_server(
    *,
    fsync: str = "never",
    roles: str = "broker",
    partitions: int = 16,
    data: Path | None = None,
    extra: dict[str, str] | None = None,
    name: str = "neve",
) -> Iterator[Server]:
    """A Neve agent on a local folder."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(work_folder("bench"))
        where = data or folder / "data"
        port, http = free_port(), free_port()
        ready = folder / "ready.json"
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEVE_")} | {
            "NEVE_FSYNC": fsync,
            "NEVE_NUM_PARTITIONS": str(partitions),
            "NEVE_LOG_LEVEL": "warning",
            "PYTHONSAFEPATH": "1",
            **(extra or {}),
        }
        argv = [sys.executable, "-m", "neve", "agent", "--data", str(where), "--kafka", f"127.0.0.1:{port}"]
        argv += ["--http", f"127.0.0.1:{http}", "--roles", roles, "--ready-file", str(ready)]
        child = stack.enter_context(running("neve", argv, ready.exists, folder / "log", env))
        yield Server(name, f"127.0.0.1:{port}", child.pid, f"http://127.0.0.1:{http}")


def run_load(argv: list[str], timeout_s: float = 300.0) -> dict[str, float]:
    """Run a load script in a process of its own; its last line of output is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", *argv],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"{argv}: {done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def measured(server: Server, argv: list[str]) -> dict[str, float]:
    """Run a load and add the server's CPU seconds per GiB of payload."""
    before = server.cpu_seconds()
    answer = run_load(argv)
    time.sleep(0.3)
    answer["cpu_s"] = server.cpu_seconds() - before
    gib = answer["bytes"] / 2**30
    answer["cpu_s_per_gib"] = answer["cpu_s"] / gib if gib else 0.0
    answer["mb_s"] = answer["bytes"] / answer["seconds"] / 1e6
    answer["rss_mib"] = server.resident_bytes() / 2**20
    return answer


def disk_free_gib() -> float:
    """Free disk where temporary folders live."""
    return shutil.disk_usage("/tmp").free / 2**30
