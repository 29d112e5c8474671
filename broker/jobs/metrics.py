"""What the process that runs jobs tells its parent: rows of all jobs, and its metrics as text, in one JSON document."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from broker.jobs.port import Measured
from broker.jobs.runner import JobRunner
from catalog.jobs import JobRow


class JobCollector(Collector):
    """What this process has done, and what its jobs say of themselves."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner

    def collect(self) -> Iterable[Metric]:
        """All families, in a fixed order."""
        counts = [(key.lease, count) for key, count in self._runner.counts.items()]
        for name, text, values in (
            ("neve_job_turns", "Turns of a job in this agent's process.", [one.turns for _, one in counts]),
            ("neve_job_failures", "Turns that failed.", [one.failures for _, one in counts]),
            ("neve_job_losses", "Turns that ended because the lease was lost.", [one.losses for _, one in counts]),
            ("neve_job_worked_seconds", "Time that a job worked.", [one.worked_s for _, one in counts]),
            ("neve_job_rested_seconds", "Time that it gave way to clients.", [one.rested_s for _, one in counts]),
        ):
            family = CounterMetricFamily(name, text, labels=["job"])
            for (job, _), value in zip(counts, values, strict=True):
                family.add_metric([job], value)
            yield family
        held = GaugeMetricFamily("neve_job_held", "1 where this agent's process holds the job.", labels=["job"])
        for key in self._runner.counts:
            held.add_metric([key.lease], float(self._runner.holds(key)))
        yield held
        for measured in self._runner.jobs.values():
            if isinstance(measured, Measured):
                yield from measured.metrics()


def state_of(runner: JobRunner) -> dict[str, Any]:
    """The document. Ages are by the database's clock, as of `written_s` (Unix seconds of this machine)."""
    registry = CollectorRegistry()
    registry.register(JobCollector(runner))
    return {
        "written_s": time.time(),
        "jobs": [job_facts(row, runner.seen_ms) for row in runner.rows.values()],
        "metrics": generate_latest(registry).decode(),
    }


def job_facts(row: JobRow, now_ms: int) -> dict[str, Any]:
    """One job in words that people and programs read; ages and waits in seconds, None where there is none."""
    return {
        "job": row.key.name,
        "scope": row.key.scope,
        "holder": row.holder if row.lease_until_ms > now_ms else None,
        "last_holder": row.holder or None,
        "epoch": row.epoch,
        "progress": row.progress,
        "success_age_s": None if row.last_success_ms is None else max(0, now_ms - row.last_success_ms) / 1000,
        "due_in_s": max(0, row.next_due_ms - now_ms) / 1000,
        "failures": row.failures,
        "error": row.last_error,
    }
