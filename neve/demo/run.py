"""Runs the demo: starts the system, replays the data, waits for the tables, compares, asks, and says what to do next."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neve.demo.client import DemoFailed, create_topics, flight_records, receive, send
from neve.demo.flights import FLIGHT_TYPES, PLANE_TYPES, columns, plane_versions, planes
from neve.demo.show import ANSWER_SQL, Show, as_json

START_TIMEOUT_S = 30.0
TABLE_TIMEOUT_S = 90.0
PARTITIONS = 4
PREFERRED_PORTS = (9092, 8080)


@dataclass(frozen=True)
class Running:
    """The demo's agent."""

    kafka: str
    http: str
    child: subprocess.Popen[bytes]


def port_like(preferred: int) -> int:
    """The preferred port when it is free, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("no free port on 127.0.0.1")


@contextlib.contextmanager
def system(folder: Path) -> Iterator[Running]:
    """One agent with all roles in a process of its own, on embedded defaults below `folder`."""
    kafka, http = (f"127.0.0.1:{port_like(port)}" for port in PREFERRED_PORTS)
    ready = folder / "ready.json"
    log = folder / "agent.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith("NEVE_")} | {"PYTHONSAFEPATH": "1"}
    argv = [sys.executable, "-m", "neve", "agent", "--data", str(folder / "data"), "--kafka", kafka, "--http", http]
    with log.open("wb") as out:
        child = subprocess.Popen(
            [*argv, "--ready-file", str(ready)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise DemoFailed(f"the agent did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.05)
        yield Running(kafka, f"http://{http}", child)
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
        child.wait()


def rows_in(http: str, sql: str) -> int:
    """The number a counting query gives; 0 while its table isn't there."""
    from lakehouse.query import QueryError, run_query

    try:
        return int(run_query(sql, http=http).column(0)[0].as_py())
    except QueryError:
        return 0


def wait_for(http: str, wanted: dict[str, int], show: Show) -> dict[str, int]:
    """Wait until each counting query gives its number, or until time runs out; returns the last counts."""
    deadline = time.monotonic() + TABLE_TIMEOUT_S
    found = dict.fromkeys(wanted, 0)
    with show.progress("rows in the tables", sum(wanted.values())) as progress:
        while True:
            for sql, count in wanted.items():
                if found[sql] != count:
                    found[sql] = rows_in(http, sql)
            progress(sum(found.values()))
            if found == wanted or time.monotonic() > deadline:
                return found
            time.sleep(0.25)


def produce_all(agent: Running, rows: int, show: Show) -> tuple[int, int]:
    """Replay flights and planes; returns how many of each were acknowledged."""
    configs = {
        "flights": (PARTITIONS, {"iceberg.mode": "json", "iceberg.columns": columns(FLIGHT_TYPES)}),
        "planes": (
            1,
            {"cleanup.policy": "compact", "iceberg.mode": "json", "iceberg.columns": columns(PLANE_TYPES)},
        ),
    }
    create_topics(agent.kafka, configs)
    flown: dict[int, Counter[str]] = {}
    with show.progress("flights acknowledged", rows) as progress:
        flights = send(agent.kafka, "flights", flight_records(rows, flown), progress)
    versions = list(plane_versions(flown))
    with show.progress("planes acknowledged", len(versions)) as progress:
        written = send(agent.kafka, "planes", versions, progress)
    return flights, written


def run_demo(folder: Path, rows: int, keep: bool, quiet: bool) -> dict[str, Any]:
    """The whole demo; returns the result that `--json` prints."""
    from lakehouse.query import run_query

    show = Show(quiet)
    started = time.monotonic()
    with system(folder) as agent:
        show.addresses(
            [
                ("Kafka", agent.kafka),
                ("Iceberg REST", f"{agent.http}/iceberg"),
                ("metrics", f"{agent.http}/metrics"),
                ("data", str(folder / "data")),
            ]
        )
        flights, written = produce_all(agent, rows, show)
        with show.progress("flights consumed", flights) as progress:
            consumed = receive(agent.kafka, "flights", flights, progress)
        with show.progress("planes consumed", written) as progress:
            planes_consumed = receive(agent.kafka, "planes", written, progress)
        keys = len({str(plane["tailnum"]) for plane in planes()})
        flights_sql = "SELECT count(*) FROM topics.flights"
        planes_sql = f"SELECT count(*) FROM topics.planes WHERE _kafka_offset >= {written - keys}"
        history_sql = "SELECT count(*) FROM topics.planes__history"
        found = wait_for(agent.http, {flights_sql: flights, planes_sql: keys, history_sql: written}, show)
        seconds = time.monotonic() - started
        flights_equal = flights == consumed == found[flights_sql]
        planes_equal = written == planes_consumed == found[history_sql] and keys == found[planes_sql]
        show.comparison(
            [
                ("flights", flights, consumed, found[flights_sql], "yes" if flights_equal else "NO"),
                ("planes (history)", written, planes_consumed, found[history_sql], "yes" if planes_equal else "NO"),
                ("planes (latest)", keys, keys, found[planes_sql], "yes" if keys == found[planes_sql] else "NO"),
            ]
        )
        if flights_equal and planes_equal:
            show.answer(run_query(ANSWER_SQL, http=agent.http))
        show.next_steps(agent.kafka, agent.http, keep)
        result = {
            "produced": flights,
            "consumed": consumed,
            "table_rows": found[flights_sql],
            "latest_keys": found[planes_sql],
            "planes": {
                "produced": written,
                "consumed": planes_consumed,
                "table_rows": found[history_sql],
                "keys": keys,
            },
            "seconds": round(seconds, 1),
            "ok": flights_equal and planes_equal,
        }
        if quiet:
            print(as_json(result), flush=True)
        if keep:
            with contextlib.suppress(KeyboardInterrupt):
                agent.child.wait()
    return result


def demo_folder(keep: bool) -> Path:
    """A temporary folder for the demo."""
    return Path(tempfile.mkdtemp(prefix="neve-demo-" if not keep else "neve-demo-kept-"))


def clean(folder: Path) -> None:
    """Remove the demo's folder."""
    shutil.rmtree(folder, ignore_errors=True)
