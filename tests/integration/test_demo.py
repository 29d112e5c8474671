"""The demo as a newcomer runs it, on fewer flights: equal counts, and nothing left behind however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("confluent_kafka")


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONSAFEPATH": "1", "TMPDIR": str(folder)}
    argv = [sys.executable, "-m", "neve", "demo", "--rows", "5000", *arguments]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_the_counts_are_equal_and_nothing_is_left_behind(tmp_path: Path) -> None:
    running = demo(tmp_path, "--json")
    out, err = running.communicate(timeout=110)
    assert running.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["ok"]
    assert (result["produced"], result["consumed"], result["table_rows"]) == (5000, 5000, 5000)
    assert result["latest_keys"] == result["planes"]["keys"] > 3000
    assert err == ""
    assert not list(tmp_path.glob("neve-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_kept_demo_serves_until_it_is_ended_and_takes_everything_along(
    tmp_path: Path, number: signal.Signals
) -> None:
    running = demo(tmp_path, "--keep")
    assert running.stdout is not None
    told = []
    for line in running.stdout:
        told.append(line)
        if "neve verify" in line:
            break
    text = "".join(told)
    assert re.search(r"flights +5000 +5000 +5000 +yes", text), text
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) == 3, "an agent, its exporter and its jobs"
    running.send_signal(number)
    running.communicate(timeout=40)
    deadline = time.monotonic() + 10
    while any(child.is_running() for child in children):
        assert time.monotonic() < deadline, "processes were left behind"
        time.sleep(0.05)
    assert not list(tmp_path.glob("neve-*"))
