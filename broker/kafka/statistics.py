"""Counters of the Kafka listener: plain integers, so that a request costs well below a microsecond. No IO.

`broker.http.metrics` turns them into Prometheus samples when it is asked; nothing here knows Prometheus.
"""

from __future__ import annotations

from bisect import bisect_left

LATENCY_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ApiStatistics:
    """Requests of one API by outcome, and how long they took (receipt to reply ready, seconds)."""

    __slots__ = ("api", "dropped", "error", "latency_counts", "latency_sum_seconds", "ok")

    def __init__(self, api: str) -> None:
        self.api = api
        self.ok = 0
        self.error = 0
        """Answered with at least one error code."""
        self.dropped = 0
        """Not answered: the connection had gone, or was closed because of this request."""
        self.latency_counts = [0] * (len(LATENCY_BOUNDS_SECONDS) + 1)
        self.latency_sum_seconds = 0.0

    def answered(self, seconds: float, had_error: bool) -> None:
        """Count one answered request."""
        if had_error:
            self.error += 1
        else:
            self.ok += 1
        self.latency_counts[bisect_left(LATENCY_BOUNDS_SECONDS, seconds)] += 1
        self.latency_sum_seconds += seconds


class FrontStatistics:
    """Everything the Kafka listener counts."""

    __slots__ = (
        "apis",
        "connections_accepted",
        "connections_closed_idle",
        "connections_closed_malformed",
        "connections_open",
        "connections_refused",
        "fetched_bytes",
        "fetched_records",
        "handler_failures",
        "produced_batches",
        "produced_bytes",
        "produced_records",
    )

    def __init__(self) -> None:
        self.apis: dict[str, ApiStatistics] = {}
        self.connections_open = 0
        self.connections_accepted = 0
        self.connections_refused = 0
        self.connections_closed_idle = 0
        self.connections_closed_malformed = 0
        self.handler_failures = 0
        self.produced_bytes = 0
        self.produced_batches = 0
        self.produced_records = 0
        self.fetched_bytes = 0
        self.fetched_records = 0

    def of(self, api: str) -> ApiStatistics:
        """The counters of one API, by its name."""
        found = self.apis.get(api)
        if found is None:
            found = self.apis[api] = ApiStatistics(api)
        return found
