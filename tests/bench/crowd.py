"""Runs `tests.bench.crowd_load` against a server and looks at the server's memory and CPU between its phases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.bench.servers import Server

SETTLE_S = 1.0


@dataclass(frozen=True)
class Crowd:
    """What many connections cost. Bytes are resident memory of the server's processes."""

    idle: int
    idle_bytes_each: float
    idle_seconds: float
    """To open all of them, 50 at a time."""
    idle_cpu_share: float
    """Of one core, while nothing happens."""
    active: int
    active_bytes_each: float
    produce_per_s: float
    fetch_per_s: float
    p50_ms: float
    p99_ms: float
    churn_per_s: float
    churn_left_bytes: float
    """Resident bytes that were there after the churn and not before."""


def crowd(server: Server, topic: str, *, idle: int, active: int, churn: int, seconds: float) -> Crowd:
    """Run all phases. The load ends by itself where the server refuses it."""
    argv = [sys.executable, "-m", "tests.bench.crowd_load", server.bootstrap, topic]
    argv += ["--idle", str(idle), "--active", str(active), "--churn", str(churn), "--seconds", str(seconds)]
    env = os.environ | {"PYTHONSAFEPATH": "1"}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as load:
        assert load.stdin is not None
        assert load.stdout is not None

        def phase() -> dict[str, float]:
            assert load.stdout is not None
            line = load.stdout.readline()
            if not line:
                raise RuntimeError(f"the load ended with {load.wait()}")
            time.sleep(SETTLE_S)
            answer: dict[str, float] = json.loads(line)
            return answer

        def go() -> None:
            assert load.stdin is not None
            load.stdin.write("\n")
            load.stdin.flush()

        phase()
        before = server.resident_bytes()
        go()
        opened = phase()
        with_idle = server.resident_bytes()
        cpu = server.cpu_seconds()
        time.sleep(2.0)
        share = (server.cpu_seconds() - cpu) / 2.0
        go()
        worked = phase()
        with_active = server.resident_bytes()
        go()
        churned = phase()
        after = server.resident_bytes()
        go()
        phase()
    return Crowd(
        idle=idle,
        idle_bytes_each=(with_idle - before) / idle,
        idle_seconds=opened["seconds"],
        idle_cpu_share=share,
        active=active,
        active_bytes_each=(with_active - with_idle) / active,
        produce_per_s=worked["produce_per_s"],
        fetch_per_s=worked["fetch_per_s"],
        p50_ms=worked["p50_ms"],
        p99_ms=worked["p99_ms"],
        churn_per_s=churned["per_s"],
        churn_left_bytes=after - with_active,
    )
