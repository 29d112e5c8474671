"""Log starts as this agent sees them: raised for DeleteRecords, and followed where others raise them.

Owns: once DeleteRecords is answered this agent serves nothing below the new log start; others learn of it by the next poll.
The database alone says "out of range", so an agent that is behind serves old records for that long, and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.rounds import repeat
from broker.services import Clock
from catalog.log_starts import LogStartStore, Raised
from catalog.sequence import ShardKey
from schemas.settings import Settings

CHANGES_MAX = 1_000
"""Changes read at once."""


class LogStarts:
    """Implements services.RecordDeletion. `on_raised` hears of every log start that was raised, here or elsewhere."""

    def __init__(
        self, store: LogStartStore, clock: Clock, settings: Settings, *, on_raised: Callable[[ShardKey, int], object]
    ) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._on_raised = on_raised
        self._seen = 0
        self.last_success_s: float | None = None
        """Monotonic time of the last poll that went through."""

    async def delete_records(self, wanted: Mapping[ShardKey, int]) -> Mapping[ShardKey, Raised]:
        """See services.RecordDeletion. Raises DatabaseError."""
        answers = await self._store.delete_records(wanted)
        for key, answer in answers.items():
            if not answer.error:
                self._on_raised(key, answer.log_start)
        return answers

    async def start(self) -> None:
        """Begin with what is so now: nothing is known yet that could be behind it. Raises DatabaseError."""
        self._seen = await self._store.newest_change()

    async def run(self) -> None:
        """Follow for ever."""
        interval_s = self._settings.topic_poll_interval_ms / 1000
        await repeat(self._follow_all, interval_s=interval_s, failure="log starts could not be polled")

    async def _follow_all(self) -> None:
        while await self.follow() == CHANGES_MAX:
            pass
        self.last_success_s = self._clock.monotonic()

    async def follow(self) -> int:
        """Take in what changed since the last look; returns how many shards did. Raises DatabaseError."""
        changes = await self._store.changed_since(self._seen, CHANGES_MAX)
        for change in changes:
            self._on_raised((change.topic, change.shard), change.log_start)
            self._seen = max(self._seen, change.changed)
        return len(changes)
