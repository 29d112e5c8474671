"""The command line against a running system: topics, records, tables, segments, several agents on one folder, settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import AgentProcess, agent_on_folder, started
from tests.counterparts import free_port

WAIT_S = 30.0


def neve(*arguments: str, stdin: str = "", code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run the command; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "neve", *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"PYTHONSAFEPATH": "1"} | (env or {}),
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def rows_of(http: str, sql: str, count: int) -> list[dict[str, Any]]:
    """Rows of a query, once there are `count` of them."""
    deadline = time.monotonic() + WAIT_S
    while True:
        done = subprocess.run(
            [sys.executable, "-m", "neve", "query", sql, "--http", http, "--format", "json"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        found = [json.loads(line) for line in done.stdout.splitlines()]
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count, done.stdout + done.stderr
            return found
        time.sleep(0.2)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("cli")
    process = agent_on_folder(folder, folder / "data", roles="broker,export")
    with started(process):
        yield process


def test_a_topic_from_creation_to_deletion(agent: AgentProcess) -> None:
    http = ["--http", agent.http]
    columns = "user string, page string, details.ms long as ms"
    assert "2 partitions" in neve(
        "topic",
        "create",
        "clicks",
        "-p",
        "2",
        "--config",
        "iceberg.mode=json",
        "--config",
        f"iceberg.columns={columns}",
        *http,
    )
    assert "already exists" in neve("topic", "create", "clicks", *http, code=1)
    lines = [json.dumps({"user": f"u{n % 3}", "page": "/", "details": {"ms": n}}) for n in range(10)]
    neve(
        "topic",
        "produce",
        "clicks",
        "--key-separator",
        "|",
        *http,
        stdin="".join(f"k{n}|{line}\n" for n, line in enumerate([*lines, "no JSON"])),
    )
    described = json.loads(neve("topic", "describe", "clicks", "-o", "json", *http))
    assert sum(p["high_watermark"] for p in described["partitions"]) == 11
    assert described["config"]["iceberg.mode"] == "json"
    assert [row["name"] for row in json.loads(neve("topic", "list", "-o", "json", *http))] == ["clicks"]
    consumed = [json.loads(line) for line in neve("topic", "consume", "clicks", "-o", "json", *http).splitlines()]
    assert sorted(record["value"] for record in consumed) == sorted([*lines, "no JSON"])
    assert len(neve("topic", "consume", "clicks", "-n", "4", *http).splitlines()) == 4
    rows = rows_of(agent.http, "SELECT user, ms, _kafka_partition FROM topics.clicks ORDER BY ms", 10)
    assert [row["ms"] for row in rows] == list(range(10))
    dead = rows_of(agent.http, "SELECT cause FROM topics.clicks__dlq", 1)
    assert dead[0]["cause"]
    report = json.loads(neve("verify", "clicks", "--json", *http))
    assert report["equal"]
    neve("topic", "alter", "clicks", "--partitions", "3", "--config", "retention.ms=5000", *http)
    neve("topic", "alter", "clicks", "--config", "segment.ms=7", "--delete-config", "iceberg.mode", *http)
    altered = json.loads(neve("topic", "describe", "clicks", "-o", "json", *http))
    assert [row["partition"] for row in altered["partitions"]] == [0, 1, 2]
    assert (altered["config"]["retention.ms"], altered["config"]["segment.ms"]) == ("5000", "7")
    assert "iceberg.mode" not in altered["config"]
    assert "would not be an increase" in neve("topic", "alter", "clicks", "--partitions", "1", *http, code=1)
    assert "Not a number" in neve("topic", "alter", "clicks", "--config", "retention.ms=soon", *http, code=1)
    assert "nothing to change" in neve("topic", "alter", "clicks", *http, code=2)
    neve("topic", "delete", "clicks", "--yes", *http)
    assert json.loads(neve("topic", "list", "-o", "json", *http)) == []
    assert len(rows_of(agent.http, "SELECT user FROM topics.clicks", 10)) == 10, "the table stays"


def test_errors_are_one_line_with_the_way_out(agent: AgentProcess) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for arguments in (
        ["topic", "list", "--http", nowhere],
        ["verify", "clicks", "--http", nowhere],
        ["query", "SELECT 1", "--http", nowhere],
        ["topic", "describe", "nothing", "--http", agent.http],
        ["topic", "create", "x", "--config", "no-such=1", "--http", agent.http],
        ["query", "SELEKT 1", "--http", agent.http],
        ["query", "", "--http", agent.http],
        ["agent"],
    ):
        said = neve(*arguments, code=1)
        assert said.startswith("neve: "), said
        assert "Traceback" not in said


def test_segment_show(agent: AgentProcess) -> None:
    neve("topic", "create", "shown", "--http", agent.http)
    neve("topic", "produce", "shown", "--http", agent.http, stdin="one\ntwo\n")
    objects = agent.folder / "data" / "objects"
    newest = max(
        (p for p in objects.rglob("*") if p.is_file() and "segments" in p.parts), key=lambda p: p.stat().st_mtime_ns
    )
    shown = json.loads(neve("segment", "show", str(newest), "-o", "json"))
    assert shown["runs"]
    damaged = agent.folder / "damaged"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    assert "neve: " in neve("segment", "show", str(damaged), code=1)


def test_settings_tell_value_and_source(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in json.loads(neve("settings", "-o", "json", env={"NEVE_FLUSH_BYTES": "1048576"}))}
    assert rows["flush_bytes"]["value"] == 1048576
    assert rows["flush_bytes"]["source"] == "environment"
    assert rows["kafka"]["source"] == "default"


def test_several_agents_on_one_folder_drain_together(tmp_path: Path) -> None:
    process = agent_on_folder(tmp_path, tmp_path / "data")
    process.arguments += ["--agents", "2"]
    process.kafka, process.http = "127.0.0.1:0", "http://127.0.0.1:0"
    process.start()
    try:
        (ready,) = tmp_path.glob("ready-*.json")
        one, two = json.loads(ready.read_text())
        http = [f"http://{each['http']}" for each in (one, two)]
        neve("topic", "create", "both", "--http", http[0])
        neve("topic", "produce", "both", "--http", http[0], stdin="here\n")
        neve("topic", "produce", "both", "--http", http[1], stdin="there\n")
        assert neve("topic", "consume", "both", "--http", http[0]).split() == ["here", "there"]
        assert neve("topic", "consume", "both", "--http", http[1]).split() == ["here", "there"]
        assert process.child is not None
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 0
    finally:
        process.terminate()
