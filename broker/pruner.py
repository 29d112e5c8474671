"""Periodic clean-up of rows that only matter for a while: stored outcomes and idle producers.

Outcomes are kept for at least twice the commit deadline, so that every retry of a commit still finds its answer.
"""

from __future__ import annotations

from broker.rounds import repeat
from broker.services import Clock
from catalog.commits import CommitStore
from schemas.settings import Settings

DEADLINES_KEPT = 4


class Pruner:
    """`run` belongs to the agent's supervisor. Any number of agents may do this side by side."""

    def __init__(self, commits: CommitStore, clock: Clock, settings: Settings) -> None:
        self._commits = commits
        self._clock = clock
        self._settings = settings
        self.last_success_s: float | None = None
        """Monotonic time of the last round that went through."""

    async def run(self) -> None:
        """Prune for ever."""
        interval_s = self._settings.prune_interval_ms / 1000
        await repeat(self._prune, interval_s=interval_s, failure="old rows could not be pruned")

    async def _prune(self) -> None:
        await self._commits.prune_outcomes(DEADLINES_KEPT * self._settings.commit_deadline_ms)
        await self._commits.prune_producers(self._settings.producer_id_expiration_ms)
        self.last_success_s = self._clock.monotonic()
