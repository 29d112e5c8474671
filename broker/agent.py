"""The agent process: a core with its Kafka and HTTP listeners, from settings to SIGTERM.

Owns the order of start and end. Start: store, database (migrated), identity, registration, epoch, then the listeners.
End: accept nothing more, finish what is in flight, flush, answer, retire the epoch, deregister, close.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
from collections.abc import Mapping

import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from broker.agent_core import AgentCore, build_core
from broker.clock import SystemClock
from broker.data_metrics import DataCollector, WriteMetrics
from broker.faults.staged import StagedFaults, faults_allowed
from broker.http.app import Check, make_app
from broker.http.metrics import FrontCollector
from broker.http.server import HttpServer
from broker.kafka.connection import Connection
from broker.kafka.listener import Listener
from broker.objects.open import open_store
from broker.objects.port import NotFound
from broker.open_files import allow_connections
from broker.services import Clock
from broker.thread_workers import ThreadWorkers
from catalog.open import open_database
from schemas.settings import Settings

log = structlog.get_logger(__name__)

CHECK_TIMEOUT_MS = 5_000
ANSWER_MS = 1_000
"""After the drain's time is over: for the last answers to leave."""
HTTP_DRAIN_MS = 5_000
GC_THRESHOLD = 20_000
"""Requests make few cycles; collecting every 700 allocations costs a twentieth of the CPU."""


class Agent:
    """One agent of this process. `mounts` are ASGI applications served below paths of the HTTP port."""

    def __init__(self, settings: Settings, *, mounts: Mapping[str, ASGIApp] | None = None, version: str = "") -> None:
        self._settings = settings
        self._mounts = mounts
        self._version = version
        self._draining = False
        self._failed = asyncio.Event()
        self._end = contextlib.AsyncExitStack()
        self._listener: Listener | None = None
        self.registry = CollectorRegistry()
        self.core: AgentCore | None = None
        self.faults: StagedFaults | None = None
        self.kafka_address: tuple[str, int] = ("", 0)
        self.http_address: tuple[str, int] = ("", 0)

    async def start(self) -> None:
        """Come up; everything opened so far is closed again when something fails."""
        try:
            await self._start()
        except BaseException:
            await self._end.aclose()
            raise

    async def _start(self) -> None:
        settings = self._settings
        allow_connections(settings.max_connections)
        clock = SystemClock()
        rng = random.SystemRandom()
        faults = self.faults = self._staged(clock, rng)
        store = open_store(settings, clock, rng, self.registry, faults.wrap_store if faults else None, pooled=True)
        self._end.push_async_callback(store.close)
        database = await open_database(settings)
        if faults is not None:
            database = faults.wrap_database(database)
        self._end.push_async_callback(database.close)
        workers = ThreadWorkers(settings.record_workers, settings.record_work_max)
        self._end.push_async_callback(workers.close)
        core = await build_core(
            settings, store, database, clock, rng,
            workers=workers, observer=WriteMetrics(self.registry), version=self._version,
        )  # fmt: skip
        self.core = core
        core.supervisor.on_failure(self._failed.set)
        self.registry.register(DataCollector(core))
        listener = Listener(core.services, connection=faults.connection if faults else Connection)
        self.registry.register(FrontCollector(listener.statistics))
        host, port = split_address(settings.kafka)
        if port == 0:  # a free port is known only once it is bound; clients can't know it before either
            host, port = self.kafka_address = await listener.start(host, port)
        advertised = split_address(settings.advertise) if settings.advertise else (host, port)
        self._end.push_async_callback(core.stop)
        await core.start(advertised[0], advertised[1] or port)
        if faults is not None:
            await faults.follow()
            core.supervisor.start("faults", faults.run())
        self._end.push_async_callback(listener.stop)
        if self.kafka_address[1] == 0:
            self.kafka_address = await listener.start(host, port)
        self._listener = listener
        http = HttpServer(
            make_app(self.checks(), self.registry, check_timeout_ms=CHECK_TIMEOUT_MS, mounts=self._mounts),
            drain_ms=min(settings.drain_ms, HTTP_DRAIN_MS),
        )
        self.http_address = await http.start(*split_address(settings.http))
        self._end.push_async_callback(http.stop)
        gc.collect()
        gc.freeze()  # what the start made stays; collections look at what requests make
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        log.info(
            "agent is ready",
            kafka=f"{self.kafka_address[0]}:{self.kafka_address[1]}",
            http=f"{self.http_address[0]}:{self.http_address[1]}",
            broker_id=core.cluster.self_view.broker_id,
            cluster_id=core.cluster.cluster_id,
        )

    def _staged(self, clock: Clock, rng: random.Random) -> StagedFaults | None:
        return StagedFaults(self._settings, clock, rng, self.registry) if faults_allowed(self._settings) else None

    async def drain(self) -> None:
        """Accept nothing more, flush, answer; at most `drain_ms`. What isn't committed by then is answered with an error."""
        self._draining = True
        began_s = asyncio.get_running_loop().time()
        assert self.core is not None
        assert self._listener is not None
        self._listener.begin_drain()
        try:
            async with asyncio.timeout(self._settings.drain_ms / 1000):
                await self.core.drain()
        except TimeoutError:
            log.warning("not everything was committed within drain_ms")
            self.core.writer.fail_all()
        spent_ms = round((asyncio.get_running_loop().time() - began_s) * 1000)
        if not await self._listener.drained(max(self._settings.drain_ms - spent_ms, ANSWER_MS)):
            log.warning("connections were still open after drain_ms")
        # only now: a client that hears of agents without this one drops its connection, with the answers under way
        await self.core.cluster.leave()

    async def stop(self) -> None:
        """Close everything, in the opposite order of the start."""
        self._draining = True
        await self._end.aclose()

    async def run(self, *, ready: asyncio.Event | None = None) -> int:
        """Start, serve until SIGTERM or SIGINT, drain, stop. Returns the exit code: 0, or 1 after a failure inside."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        try:
            await self.start()
            if ready is not None:
                ready.set()
            waits = [loop.create_task(event.wait()) for event in (ended, self._failed)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
            await self.drain()
            await self.stop()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return 1 if self._failed.is_set() else 0

    def checks(self) -> dict[str, Check]:
        """What `/readyz` asks."""
        return {
            "bucket": self._check_bucket,
            "metadata": self._check_metadata,
            "tasks": self._check_tasks,
            "draining": self._check_draining,
        }

    async def _check_bucket(self) -> str | None:
        assert self.core is not None
        try:
            await self.core.store.head("cluster.json")
        except NotFound:
            return "cluster.json is gone from the bucket: is this still the right bucket and prefix?"
        return None

    async def _check_metadata(self) -> str | None:
        assert self.core is not None
        await self.core.database.snapshot(lambda tx: tx.fetch("SELECT cluster_id FROM cluster"))
        return None

    async def _check_tasks(self) -> str | None:
        assert self.core is not None
        return self.core.supervisor.failure

    async def _check_draining(self) -> str | None:
        return "the agent is shutting down" if self._draining else None


def split_address(address: str) -> tuple[str, int]:
    """HOST:PORT as a pair. Raises ValueError with the form wanted."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"address {address!r}: want HOST:PORT")
    return host.strip("[]"), int(port)
