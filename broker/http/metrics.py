"""Prometheus samples of the Kafka listener, made from its plain counters when they are asked for.

The counters themselves (`broker.kafka.statistics`) cost a request a fraction of a microsecond; this collector costs the
scrape. Names are part of the interface: `neve_` first, base units, `_total` on counters.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.kafka.statistics import LATENCY_BOUNDS_SECONDS, ApiStatistics, FrontStatistics


class FrontCollector(Collector):
    """Register one with the agent's registry: `registry.register(FrontCollector(listener.statistics))`."""

    def __init__(self, statistics: FrontStatistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[Metric]:
        """All families, in a fixed order."""
        statistics = self._statistics
        yield _requests(statistics)
        yield _durations(statistics)
        yield _counter(
            "neve_produced_bytes", "Bytes of record batches taken over from producers.", statistics.produced_bytes
        )
        yield _counter(
            "neve_produced_batches", "Record batches taken over from producers.", statistics.produced_batches
        )
        yield _counter("neve_produced_records", "Records taken over from producers.", statistics.produced_records)
        yield _counter("neve_fetched_bytes", "Bytes of record batches sent to consumers.", statistics.fetched_bytes)
        yield _counter("neve_fetched_records", "Records sent to consumers.", statistics.fetched_records)
        yield GaugeMetricFamily("neve_connections", "Kafka connections open.", value=statistics.connections_open)
        yield _counter("neve_connections_accepted", "Kafka connections accepted.", statistics.connections_accepted)
        yield _counter(
            "neve_connections_refused", "Kafka connections refused by a limit.", statistics.connections_refused
        )
        yield _closed(statistics)
        yield _counter(
            "neve_request_failures", "Requests that failed for a reason that is a bug.", statistics.handler_failures
        )


def _counter(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _apis(statistics: FrontStatistics) -> list[ApiStatistics]:
    return list(statistics.apis.values())


def _requests(statistics: FrontStatistics) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "neve_requests",
        "Kafka requests by API and outcome: ok, error (answered with an error code), dropped (not answered).",
        labels=["api", "outcome"],
    )
    for api in _apis(statistics):
        for outcome, value in (("ok", api.ok), ("error", api.error), ("dropped", api.dropped)):
            family.add_metric([api.api, outcome], value)
    return family


def _durations(statistics: FrontStatistics) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "neve_request_duration_seconds", "From receiving a Kafka request to having its reply.", labels=["api"]
    )
    bounds = [*(str(bound) for bound in LATENCY_BOUNDS_SECONDS), "+Inf"]
    for api in _apis(statistics):
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip(bounds, api.latency_counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([api.api], buckets, api.latency_sum_seconds)
    return family


def _closed(statistics: FrontStatistics) -> CounterMetricFamily:
    family = CounterMetricFamily(
        "neve_connections_closed", "Kafka connections closed by the agent, by reason.", labels=["reason"]
    )
    family.add_metric(["idle"], statistics.connections_closed_idle)
    family.add_metric(["malformed"], statistics.connections_closed_malformed)
    return family
