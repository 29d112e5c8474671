"""Periodic clean-up of rows that only matter for a while: stored outcomes and idle producers.

Outcomes are kept for at least twice the commit deadline, so that every retry of a commit still finds its answer.
"""

from __future__ import annotations

from broker.jobs.port import Turn
from catalog.commits import CommitStore
from catalog.jobs import JobKey
from schemas.settings import Settings

DEADLINES_KEPT = 4


class PruneJob:
    """See broker.jobs.port.Job. Any number of processes could do this side by side."""

    key = JobKey("prune")

    def __init__(self, commits: CommitStore, settings: Settings) -> None:
        self._commits = commits
        self._settings = settings

    @property
    def interval_ms(self) -> int:
        """How often rows are pruned."""
        return self._settings.prune_interval_ms

    async def run_once(self, turn: Turn) -> bool:
        """Prune both. Raises DatabaseError."""
        await self._commits.prune_outcomes(DEADLINES_KEPT * self._settings.commit_deadline_ms)
        await turn.breathe()
        await self._commits.prune_producers(self._settings.producer_id_expiration_ms)
        return False
