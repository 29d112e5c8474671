"""`neve workload` against real agents: nothing is found over faults that `neve fault` lets loose on the running system, nor over
a load spike with an agent added in the middle of it; an object that vanishes after it was acknowledged is found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agents import AgentProcess, agent_on_folder, started

FAULTS = {
    "put_refused": 0.1,
    "put_landed_unknown": 0.1,
    "put_lost_unknown": 0.05,
    "put_landed_late": 0.05,
    "get_refused": 0.1,
    "get_flipped": 0.1,
    "db_reply_lost": 0.05,
    "db_request_lost": 0.03,
    "db_refused": 0.03,
    "connection_cut": 0.02,
    "reply_lost": 0.02,
    "reply_delayed": 0.05,
    "hint_lost": 0.5,
}
STAGING = {
    "NEVE_PROFILE": "staging",
    "NEVE_FAULT_POLL_INTERVAL_MS": "100",
    # caches that forget soon, so that what is read was in the store
    "NEVE_CACHE_BLOCK_BYTES": "4096",
    "NEVE_CACHE_BYTES": "65536",
    "NEVE_COLD_CACHE_BYTES": "65536",
}
RUN_SECONDS = 120


def begun(agent: AgentProcess, *arguments: str) -> subprocess.Popen[str]:
    """A `neve` command under way."""
    env = os.environ | {"PYTHONSAFEPATH": "1", "NEVE_HTTP": agent.http}
    argv = [sys.executable, "-m", "neve", *arguments]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
        out, err = command.communicate(timeout=RUN_SECONDS)
    finally:
        command.kill()
        command.wait()
    return command.returncode, out, err


def stopped(command: subprocess.Popen[str], *, after_s: float) -> tuple[int, str, str]:
    """The same, of a workload that is told to come to its end after a while."""
    time.sleep(after_s)
    command.send_signal(signal.SIGINT)
    return ended(command)


def wait_for(holds: Callable[[], bool]) -> None:
    """Until something holds."""
    until_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.1)


def neve(agent: AgentProcess, *arguments: str) -> str:
    """Run a command that must succeed."""
    code, out, err = ended(begun(agent, *arguments))
    assert code == 0, err
    return out


def set_fault(agent: AgentProcess, point: str, rate: float) -> None:
    """As `neve fault add` does, without a process for each."""
    body = json.dumps({"point": point, "rate": rate, "delay_ms": 300}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(agent.http + "/v1/faults", body, headers), timeout=10) as answer:
        assert answer.status == 201


def fired(agent: AgentProcess) -> dict[str, float]:
    """Strikes by point, from the agent's metrics."""
    with urllib.request.urlopen(agent.http + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.split() for line in lines if line.startswith("neve_faults_total{")]
    return {name.split('"')[1]: float(value) for name, value in found}


def workload(agent: AgentProcess, *arguments: str) -> subprocess.Popen[str]:
    return begun(agent, "workload", "--round", "4", "--rate", "600", "--seed", "7", "--json", *arguments)


def test_nothing_is_found_over_faults_on_the_running_system(tmp_path: Path) -> None:
    one, two = (agent_on_folder(tmp_path, tmp_path / "data", settings=STAGING) for _ in range(2))
    with started(one, two):
        assert "fault 1: put_slow" in neve(one, "fault", "add", "put_slow", "--rate", "0.1", "--for", "60")
        for point, rate in FAULTS.items():
            set_fault(one, point, rate)
        rows = json.loads(neve(two, "fault", "list", "-o", "json"))
        assert [row["point"] for row in rows] == ["put_slow", *FAULTS]
        code, out, err = ended(workload(one, "--seconds", "10", "--settle", "60"))
        outcome: dict[str, Any] = json.loads(out)
        assert outcome["findings"] == []
        assert code == 0, err
        assert outcome["agents_seen"] == 2
        assert outcome["acked"] > 3000
        assert outcome["audited"] >= outcome["acked"]
        assert outcome["rounds"] >= 4
        for rule in ("lost_write", "unseen", "duplicate", "poll_skip", "sequence_hole", "unconsumed", "two_owners"):
            assert outcome["judged"][rule], f"{rule} judged nothing"
        strikes = [fired(one), fired(two)]
        assert all(sum(each.values()) > 20 for each in strikes)
        never = [point for point in FAULTS if not sum(each[point] for each in strikes)]
        assert len(never) <= 2, f"faults that never fired: {never}"
        assert "removed 14 faults" in neve(two, "fault", "remove", "--all")


def test_an_acknowledged_object_that_vanished_is_found(tmp_path: Path) -> None:
    settings = STAGING | {"NEVE_CACHE_BYTES": "1"}  # an agent remembers the segment that it wrote last, and no other
    one, two = (agent_on_folder(tmp_path, tmp_path / "data", settings=settings) for _ in range(2))
    with started(one, two):
        running = workload(one, "--seconds", "60", "--settle", "5", "--members", "0", "--readers", "3")
        time.sleep(3)
        neve(one, "fault", "add", "put_vanished", "--times", "1", "--pattern", "*/segments/*")
        wait_for(lambda: sum(each["put_vanished"] for each in map(fired, (one, two))) >= 1)
        code, out, err = stopped(running, after_s=3.0)
        assert code == 1, err
        found = json.loads(out)["findings"]
        assert {rule for rule, _ in found} & {"stuck", "lost_write", "unseen"}, found


def test_a_load_spike_with_an_agent_added_in_the_middle(tmp_path: Path) -> None:
    one, two = (agent_on_folder(tmp_path, tmp_path / "data") for _ in range(2))
    with started(one):
        spike = ("--spike", "3", "--spike-at", "2", "--spike-for", "60")
        running = workload(one, "--seconds", "60", "--settle", "60", *spike)
        time.sleep(3)
        with started(two):
            code, out, err = stopped(running, after_s=5.0)
            outcome = json.loads(out)
            assert outcome["findings"] == []
            assert code == 0, err
            assert outcome["agents_seen"] == 2
            assert outcome["acked"] > 1000  # how much more a spike is stands in tests/unit/test_workload.py
            code, _, err = ended(begun(one, "fault", "add", "put_refused"))  # the profile is production here
            assert code == 1
            assert "profile is production" in err
