"""The child processes of an agent, by its roles: one that runs jobs (compact), one that exports (export)."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from neve.child_supervisor import ChildSupervisor
from schemas.settings import Settings


class Children:
    """See the module. `start` once, then `stop`."""

    def __init__(self, settings: Settings, roles: Sequence[str], registry: CollectorRegistry) -> None:
        self._by_role: dict[str, ChildSupervisor] = {}
        if "compact" in roles:
            from neve.jobs_supervisor import JobsSupervisor

            jobs = JobsSupervisor(settings, tells_load="broker" in roles)
            registry.register(jobs.collector)
            self._by_role["compact"] = jobs
        if "export" in roles:
            from neve.export_supervisor import ExportSupervisor

            exporter = ExportSupervisor(settings)
            registry.register(exporter.collector)
            self._by_role["export"] = exporter

    async def start(self) -> None:
        """Start them; from now on each is started again when it ends."""
        for child in self._by_role.values():
            await child.start()

    async def stop(self) -> None:
        """Ask each to end, and wait."""
        for child in self._by_role.values():
            await child.stop()

    def missing(self) -> list[str]:
        """Roles whose process isn't there at the moment."""
        return [role for role, child in self._by_role.items() if child.pid is None]
