"""How each table of a topic stands, written to the database when it changes: for `neve table list` and for the next holder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from catalog.exports import ExportStatus, ExportStore
from lakehouse.export_plan import TableKind
from lakehouse.export_tables import OpenTable
from lakehouse.export_world import CONFIG_ISSUE


@dataclass(slots=True)
class StatusBoard:
    """The statuses of one topic's tables. `said` is what stands in the database."""

    exports: ExportStore
    topic: int
    said: dict[TableKind, ExportStatus] = field(default_factory=dict)

    async def read(self) -> None:
        """Begin with what the database has."""
        self.said = {one.kind: one for one in await self.exports.statuses(self.topic)}

    async def say(self, opened: OpenTable, status: str, message: str = "") -> None:
        """The status of an open table, with its watermark."""
        offsets = opened.state.watermark.offsets
        uuid = str(opened.state.uuid)
        await self._put(
            ExportStatus(self.topic, opened.kind, opened.name, uuid, status, message, offsets, opened.committed_ms)
        )

    async def refuse(self, kind: TableKind, name: str, message: str) -> None:
        """A table that can't be written to before a person acts."""
        await self.say_all([(kind, name)], CONFIG_ISSUE, message)

    async def say_all(self, tables: Iterable[tuple[TableKind, str]], status: str, message: str) -> None:
        """One status for tables of these kinds and names, keeping what else is known of them."""
        for kind, name in tables:
            said = self.said.get(kind) or ExportStatus(self.topic, kind, name, None, status, message, {}, None)
            await self._put(replace(said, status=status, message=message))

    async def _put(self, status: ExportStatus) -> None:
        if self.said.get(status.kind) != status:
            await self.exports.put_status(status)
            self.said[status.kind] = status
