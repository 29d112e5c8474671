"""The exporter as a child process of an agent, and its figures as metrics of this one. It is never loaded into this process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from neve.child_supervisor import ChildKind, ChildSupervisor
from schemas.settings import Settings

EXPORT = ChildKind(
    "export", (sys.executable, "-m", "lakehouse.export_process"), "NEVE_EXPORT_STATE_FILE", "NEVE_EXPORT_HOLDER"
)


class ExportSupervisor(ChildSupervisor):
    """See the module."""

    def __init__(self, settings: Settings, command: Sequence[str] | None = None) -> None:
        super().__init__(settings, EXPORT, command)

    @property
    def collector(self) -> ExportCollector:
        """The child's metrics, to be registered once."""
        return ExportCollector(self)


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
