"""Runs the exporter as a child process: started again when it ends, never left behind, never loaded into this process.

The child's standard input is a pipe of which this process holds the only other end: when this process is gone, however it
ended, the child reads its end and leaves. Restarts wait longer and longer while the child keeps failing. Killing the child
loses nothing; producers and consumers don't notice.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from neve.load_settings import as_environment
from schemas.settings import Settings

COMMAND = (sys.executable, "-m", "lakehouse.export_process")
STATE_FILE_VARIABLE = "NEVE_EXPORT_STATE_FILE"
HOLDER_VARIABLE = "NEVE_EXPORT_HOLDER"
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STEADY_S = 30.0
"""A child that ran this long was well: the next restart waits the shortest time."""

log = structlog.get_logger(__name__)


class ExportSupervisor:
    """One exporter child. `start` once, then `stop`."""

    def __init__(self, settings: Settings, command: Sequence[str] = COMMAND) -> None:
        self._settings = settings
        self._command = tuple(command)
        self._folder = tempfile.TemporaryDirectory(prefix="neve-export-")
        self._state_file = Path(self._folder.name) / "state.json"
        self._task: asyncio.Task[None] | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        # One name for all children, of which one lives at a time: the next takes over the leases of one that was killed
        # without waiting for them to run out. A new agent process is a new name, and waits.
        self._holder = f"export-{os.urandom(8).hex()}"
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    @property
    def collector(self) -> ExportCollector:
        """The child's metrics, to be registered once."""
        return ExportCollector(self)

    async def start(self) -> None:
        """Start the child and keep it running. Returns when it was started."""
        assert self._task is None, "started twice"
        await self._spawn()
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Ask the child to end, wait for the chunk under way at most `drain_ms`, then kill it."""
        self._stopping = True
        child = self._child
        if child is not None and child.returncode is None:
            _send(child, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.wait(), self._settings.drain_ms / 1000)
            except TimeoutError:
                _send(child, signal.SIGKILL)
                await child.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._folder.cleanup()

    def state(self) -> dict[str, Any]:
        """What the child told last; empty before it told anything."""
        try:
            found: dict[str, Any] = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return {}
        return found

    async def _spawn(self) -> None:
        environment = os.environ | as_environment(self._settings)
        environment |= {"PYTHONSAFEPATH": "1", STATE_FILE_VARIABLE: str(self._state_file)}
        environment[HOLDER_VARIABLE] = self._holder
        # Few malloc arenas: with one per thread, freed memory of decoding stays with the process.
        environment.setdefault("MALLOC_ARENA_MAX", "2")
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, env=environment, start_new_session=True
        )

    async def _keep_running(self) -> None:
        """Start the child again whenever it ends."""
        pause_s = BACKOFF_FIRST_S
        started = time.monotonic()
        while True:
            child = self._child
            if child is not None:
                code = await child.wait()
                if self._stopping:
                    return
                pause_s = BACKOFF_FIRST_S if time.monotonic() - started >= STEADY_S else pause_s
                log.warning("the exporter ended, starting it again", code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(BACKOFF_MAX_S, pause_s * 2)
            started = time.monotonic()
            try:
                await self._spawn()
                self.restarts += 1
            except OSError as error:
                self._child = None
                log.error("the exporter can't be started", error=str(error))


class ExportCollector(Collector):
    """The exporter's figures as Prometheus metrics, read from its state file at each scrape."""

    def __init__(self, supervisor: ExportSupervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Freshness, lag, rows and success per table; whether the child runs."""
        state = self._supervisor.state()
        tables = state.get("tables", [])
        labels = ["topic", "kind"]
        freshness = GaugeMetricFamily(
            "neve_export_freshness_seconds", "How far a table may be behind acknowledged records.", labels=labels
        )
        lag = GaugeMetricFamily("neve_export_offset_lag", "Offsets of a topic that its table has not.", labels=labels)
        gaps = GaugeMetricFamily(
            "neve_export_gap_records", "Records deleted from the log before they were in the table.", labels=labels
        )
        rows = CounterMetricFamily("neve_export_rows", "Records exported since the exporter started.", labels=labels)
        rejected = CounterMetricFamily(
            "neve_export_rejected_rows", "Dead letters since the exporter started.", labels=["topic"]
        )
        age = GaugeMetricFamily(
            "neve_export_last_success_age_seconds", "Time since a table's last commit.", labels=labels
        )
        for one in tables:
            values = [one["topic"], one["kind"]]
            freshness.add_metric(values, one["freshness_seconds"])
            lag.add_metric(values, one["offset_lag"])
            gaps.add_metric(values, one["gap_records"])
            rows.add_metric(values, one["rows"])
            if one["kind"] == "dlq":
                rejected.add_metric([one["topic"]], one["rows"])
            if one["last_success_ms"] is not None:
                age.add_metric(values, max(0.0, time.time() - one["last_success_ms"] / 1000))
        yield from (freshness, lag, gaps, rows, rejected, age)
        up = GaugeMetricFamily("neve_export_up", "1 where the exporter's process runs.")
        up.add_metric([], 1.0 if self._supervisor.pid is not None else 0.0)
        yield up
        restarts = CounterMetricFamily("neve_export_restarts", "Times the exporter's process was started again.")
        restarts.add_metric([], self._supervisor.restarts)
        yield restarts


def _send(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        child.send_signal(number)
    except ProcessLookupError:
        pass  # it ended just now
