"""An agent without the role broker: its child processes and an HTTP port, no Kafka clients, in no list of brokers.

Owns: while it lives it holds a lease for each of its roles, by which others know that there is somebody who does that work
(retention waits for the export of records only where somebody exports).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from broker.agent import CHECK_TIMEOUT_MS, HTTP_DRAIN_MS, split_address
from broker.http.app import Check, make_app
from broker.http.server import HttpServer
from broker.rounds import repeat
from catalog.database import Database
from catalog.leases import Lease, LeaseStore, role_lease
from catalog.open import open_database
from neve.children import Children
from neve.http_jobs import job_routes
from schemas.settings import Settings

log = structlog.get_logger(__name__)


class RoleLeases:
    """The leases of this process's roles."""

    def __init__(self, store: LeaseStore, settings: Settings, roles: Sequence[str], instance: str) -> None:
        self._store = store
        self._settings = settings
        self._names = [role_lease(role, instance) for role in roles]
        self._instance = instance
        self._held: list[Lease] = []

    async def keep(self) -> None:
        """Take or prolong them. Raises DatabaseError."""
        lease_ms = self._settings.agent_lease_ms
        self._held = list((await self._store.renew_all(self._held, lease_ms)).values())
        held = {lease.name for lease in self._held}
        for name in self._names:
            if name not in held:
                lease = await self._store.acquire(name, self._instance, lease_ms, resume=True)
                assert lease is not None, "the name is this process's own"
                self._held.append(lease)

    async def run(self) -> None:
        """Keep them for ever."""
        interval_s = self._settings.agent_lease_ms / 3000
        await repeat(self.keep, interval_s=interval_s, failure="leases of roles could not be renewed, trying again")

    async def release(self) -> None:
        """Give them back. Raises DatabaseError."""
        for lease in self._held:
            await self._store.release(lease)


class Worker:
    """See the module."""

    def __init__(self, settings: Settings, roles: Sequence[str]) -> None:
        self._settings = settings
        self._roles = roles
        self.registry = CollectorRegistry()
        self._children = Children(settings, roles, self.registry)
        self._database: Database | None = None
        self.http_address: tuple[str, int] = ("", 0)

    async def run(self, ready: asyncio.Event) -> int:
        """Start, work until SIGTERM or SIGINT, stop. Returns 0. Raises DatabaseError, OSError, ValueError."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        async with contextlib.AsyncExitStack() as stack:
            self._database = await open_database(self._settings)
            stack.push_async_callback(self._database.close)
            leases = RoleLeases(LeaseStore(self._database), self._settings, self._roles, os.urandom(8).hex())
            await leases.keep()
            stack.push_async_callback(leases.release)
            keeping = loop.create_task(leases.run())
            stack.callback(keeping.cancel)
            mounts = {"/v1": Starlette(routes=job_routes(self._open_database))}
            app = make_app(self.checks(), self.registry, check_timeout_ms=CHECK_TIMEOUT_MS, mounts=mounts)
            http = HttpServer(app, drain_ms=min(self._settings.drain_ms, HTTP_DRAIN_MS))
            self.http_address = await http.start(*split_address(self._settings.http))
            stack.push_async_callback(http.stop)
            await self._children.start()
            stack.push_async_callback(self._children.stop)
            ready.set()
            log.info("agent without Kafka clients is ready", roles=",".join(self._roles), http=self.http_address)
            ending = loop.create_task(ended.wait())
            await asyncio.wait({ending, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
        return 0

    def checks(self) -> Mapping[str, Check]:
        """What `/readyz` asks."""

        async def metadata() -> str | None:
            await self._open_database().snapshot(lambda tx: tx.fetch("SELECT cluster_id FROM cluster"))
            return None

        async def children() -> str | None:
            missing = self._children.missing()
            return f"no process for the role {', '.join(missing)} at the moment: see the log" if missing else None

        return {"metadata": metadata, "children": children}

    def _open_database(self) -> Database:
        assert self._database is not None
        return self._database
