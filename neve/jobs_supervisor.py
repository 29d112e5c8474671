"""The process that runs jobs beside an agent, and its figures as metrics of this one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from broker.jobs.load import tell_lateness
from neve.child_supervisor import ChildKind, ChildSupervisor
from schemas.settings import Settings

JOBS = ChildKind("jobs", (sys.executable, "-m", "broker.jobs.process"), "NEVE_JOBS_STATE_FILE", "NEVE_JOBS_HOLDER")


class JobsSupervisor(ChildSupervisor):
    """See the module. With `tells_load` the child hears how late this process's loop is."""

    def __init__(self, settings: Settings, command: Sequence[str] | None = None, *, tells_load: bool = True) -> None:
        super().__init__(settings, JOBS, command)
        self._tells_load = tells_load
        self._telling: asyncio.Task[None] | None = None

    @property
    def collector(self) -> JobsCollector:
        """The child's metrics, to be registered once."""
        return JobsCollector(self)

    async def start(self) -> None:
        """Start the child, keep it running, tell it the load."""
        await super().start()
        if self._tells_load:
            self._telling = asyncio.create_task(tell_lateness(self.tell))

    async def stop(self) -> None:
        """End both."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        await super().stop()


class JobsCollector(Collector):
    """The child's figures as Prometheus metrics, read from its state file at each scrape."""

    def __init__(self, supervisor: JobsSupervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        """Ages of all jobs of the cluster; what the child did; whether it runs."""
        state = self._supervisor.state()
        since_s = max(0.0, time.time() - state.get("written_s", 0.0))
        age = GaugeMetricFamily(
            "neve_job_last_success_age_seconds", "Time since a job's last success, anywhere.", labels=["job"]
        )
        failing = GaugeMetricFamily("neve_job_failures_in_a_row", "Since a job's last success.", labels=["job"])
        for job in state.get("jobs", []):
            name = f"{job['job']}/{job['scope']}" if job["scope"] else job["job"]
            failing.add_metric([name], job["failures"])
            if job["success_age_s"] is not None:
                age.add_metric([name], job["success_age_s"] + since_s)
        yield from (age, failing)
        yield from text_string_to_metric_families(state.get("metrics", ""))
        up = GaugeMetricFamily("neve_jobs_up", "1 where the process that runs jobs is there.")
        up.add_metric([], 1.0 if self._supervisor.pid is not None else 0.0)
        yield up
        restarts = CounterMetricFamily("neve_jobs_restarts", "Times the process that runs jobs was started again.")
        restarts.add_metric([], self._supervisor.restarts)
        yield restarts
