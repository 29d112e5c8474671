"""Which job has the next turn, and how long one that failed waits. Pure.

Every job has a clock of its own that runs while it works; the one whose clock is furthest behind has the next turn. A job
that comes back after a pause starts where the others are, so it has no claim to the time it didn't want. So as long as a job
wants turns, each other one can work at most one turn beyond the time that the job itself had since then: none starves,
however long others' turns are and however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence

from catalog.jobs import JobKey


class Shares:
    """The clocks of all jobs of a process, in ms of work."""

    def __init__(self) -> None:
        self._worked: dict[JobKey, float] = {}
        self._wanted: frozenset[JobKey] = frozenset()
        self._now = 0.0
        """Where the jobs that want turns are: never goes back."""

    def pick(self, wanting: Sequence[JobKey]) -> JobKey:
        """Whose turn it is among those that want one, at least one. Equal ones go by name."""
        assert wanting, "nobody wants a turn"
        for key in wanting:
            if key not in self._wanted:
                self._worked[key] = max(self._worked.get(key, 0.0), self._now)
        self._wanted = frozenset(wanting)
        picked = min(wanting, key=lambda key: (self._worked[key], key))
        self._now = max(self._now, self._worked[picked])
        return picked

    def worked(self, key: JobKey, ms: float) -> None:
        """The job's turn took so long. Turns too short to be measured count as a moment, so that they go around too."""
        self._worked[key] = self._worked.get(key, self._now) + max(ms, 0.1)


def retry_ms(failures: int, first_ms: int, longest_ms: int) -> int:
    """Wait of a job that has failed so many times in a row, at least once: twice as long each time."""
    assert failures > 0
    return int(min(longest_ms, first_ms * 2 ** min(failures - 1, 30)))
