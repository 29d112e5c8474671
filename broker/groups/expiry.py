"""Removes committed offsets that have run out, empty groups that have none left, and the rows of deleted topics.

A group that anything was written to since its offsets were read is left for the next round: an offset is never removed
together with one that was committed after the look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from broker.groups.retention import expired
from broker.groups.running import Running
from broker.groups.states import State
from broker.rounds import repeat
from catalog.groups import GroupStore, GroupWrite
from schemas.settings import Settings

log = structlog.get_logger(__name__)

MINUTE_MS = 60_000
Submit = Callable[[Running, GroupWrite], Awaitable[int]]


class Expiry:
    """See the module. `forget` removes a group."""

    def __init__(self, store: GroupStore, settings: Settings, forget: Callable[[Running], Awaitable[int]]) -> None:
        self._store = store
        self._settings = settings
        self._forget = forget

    async def run(self, all_running: Callable[[], list[Running]], submit: Submit) -> None:
        """Look every `offsets_retention_check_interval_ms`, for ever."""

        async def look() -> None:
            await self._store.prune_deleted_topics()
            for running in all_running():
                await self.check(running, submit)

        interval_s = self._settings.offsets_retention_check_interval_ms / 1000
        await repeat(look, interval_s=interval_s, failure="committed offsets could not be checked for their age")

    async def check(self, running: Running, submit: Submit) -> None:
        """One group. Raises DatabaseError."""
        group = running.machine.group
        writes = running.commits
        if running.outstanding:
            return
        now_ms, offsets = await self._store.offsets_now(group.group_id)
        if running.outstanding or running.commits != writes or group.state is State.DEAD:
            return
        gone = expired(group, offsets, self._settings.offsets_retention_minutes * MINUTE_MS, now_ms)
        if len(gone) == len(offsets) and group.state is State.EMPTY and running.idle:
            error = await self._forget(running)
        elif gone:
            keys = tuple((offset.topic, offset.shard) for offset in gone)
            held = running.held
            error = await submit(running, GroupWrite(held.slot, held.epoch, group.group_id, offsets_gone=keys))
        else:
            return
        log.info("committed offsets have run out", group=group.group_id, offsets=len(gone), error=error)
