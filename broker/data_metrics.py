"""Metrics of the data path: flushes and commits as they happen, caches and queues when they are scraped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.ingest.flush_policy import Reason

if TYPE_CHECKING:
    from broker.agent_core import AgentCore

SIZE_BOUNDS = tuple(float(2**power) for power in range(12, 25, 2))
SECOND_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class WriteMetrics:
    """broker.ingest.writer.WriteObserver over Prometheus."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._flushes = Counter("neve_flushes", "Segments begun, by what made them due.", ["reason"], registry=registry)
        self._reasons = {
            reason: self._flushes.labels(reason) for reason in ("bytes", "shards", "interval", "eager", "drain")
        }
        self._bytes = Histogram(
            "neve_flush_bytes", "Record bytes of a segment.", buckets=SIZE_BOUNDS, registry=registry
        )
        self._batches = Counter("neve_committed_batches", "Record batches committed.", registry=registry)
        self._objects = Counter("neve_committed_objects", "Segments committed.", registry=registry)
        self._seconds = Histogram(
            "neve_commit_seconds", "First byte of a segment to its commit.", buckets=SECOND_BOUNDS, registry=registry
        )
        self._failed = Counter("neve_failed_batches", "Record batches refused by the write path.", registry=registry)

    def flushed(self, reason: Reason, bytes_: int, batches: int) -> None:
        """A flush began."""
        self._reasons[reason].inc()
        self._bytes.observe(bytes_)

    def committed(self, objects: int, batches: int, seconds: float) -> None:
        """A segment was committed."""
        self._objects.inc(objects)
        self._batches.inc(batches)
        self._seconds.observe(seconds)

    def failed(self, batches: int) -> None:
        """Batches were refused."""
        self._failed.inc(batches)


class DataCollector(Collector):
    """What the parts count by themselves. Register one per agent."""

    def __init__(self, core: AgentCore) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        """All families, in a fixed order."""
        core = self._core
        caches = (("hot", core.hot), ("cold", core.cold))
        for name, text, values in (
            ("neve_cache_hits", "Extents served from the cache.", [cache.hits for _, cache in caches]),
            ("neve_cache_misses", "Extents not found in the cache.", [cache.misses for _, cache in caches]),
            ("neve_cache_reads", "Blocks read from the store.", [cache.gets for _, cache in caches]),
        ):
            family = CounterMetricFamily(name, text, labels=["cache"])
            for (label, _), value in zip(caches, values, strict=True):
                family.add_metric([label], value)
            yield family
        held = GaugeMetricFamily("neve_cache_bytes", "Bytes held by the cache.", labels=["cache"])
        for label, cache in caches:
            held.add_metric([label], cache.bytes)
        yield held
        for name, text, value in (
            ("neve_commit_transactions", "Metadata transactions tried.", core.writer.commit_transactions),
            ("neve_shard_reads", "Coalesced reads of shards from the database.", core.reads.reads),
            ("neve_poll_rounds", "Polls of waiting shards.", core.poller.rounds),
            ("neve_hints", "Hints about commits sent.", core.hints.sent),
            ("neve_agent_epochs", "Agent epochs taken.", core.epochs.issued),
        ):
            yield CounterMetricFamily(name, text, value=value)
        now_s = core.services.clock.monotonic()
        jobs = (("log starts", core.log_starts.last_success_s),)
        age = GaugeMetricFamily("neve_job_success_age_seconds", "Age of a job's last success.", labels=["job"])
        for job, last_s in jobs:
            if last_s is not None:
                age.add_metric([job], now_s - last_s)
        yield age
        for name, text, amount in (
            ("neve_unflushed_bytes", "Bytes taken over and not settled.", core.writer.unflushed_bytes),
            ("neve_tail_extents", "Extents in the tail index.", core.index.extents),
            ("neve_waiting_fetches", "Long polls waiting.", core.waiters.count),
        ):
            yield GaugeMetricFamily(name, text, value=amount)
