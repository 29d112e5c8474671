"""What a job is, and what it is given: a turn, under a lease, that it checks again and again.

A job does a bounded piece of work per turn and says whether there is more. Everything it writes names the turn's lease, so
that a holder that was paused past it changes nothing (`catalog.leases.check` inside of the write's transaction). Between two
pieces of a turn it awaits `breathe`: that is where it gives way to clients, and where it hears that its lease is lost.

    class Compaction:
        key = JobKey("compaction")

        async def run_once(self, turn: Turn) -> bool:
            for plan in await self._plans(after=turn.progress):
                await self._rewrite(plan, turn.lease)        # its transaction calls check(tx, lease.name, lease.epoch)
                await turn.save(plan.name)                   # where the next turn, of whoever has it, goes on
                await turn.breathe()
                if turn.over:
                    return True                              # more to do: the next turn comes after the other jobs' turns
            await turn.save("")
            return False                                     # due again after `interval_ms`
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from prometheus_client.core import Metric

from catalog.jobs import JobKey
from catalog.leases import Lease


class Turn(Protocol):
    """One turn of a job."""

    @property
    def lease(self) -> Lease:
        """Name it in every write of the turn. Prolonged behind the job's back; the epoch stays."""
        ...

    @property
    def progress(self) -> str:
        """What was saved last, by whoever held the job; empty at first."""
        ...

    @property
    def over(self) -> bool:
        """The turn has worked for as long as it may: come to an end, and return True if there is more."""
        ...

    async def breathe(self) -> None:
        """Let others run; longer while clients need the CPU. Raises LeaseLost where the job is no longer this process's."""
        ...

    async def save(self, progress: str) -> None:
        """Keep how far the job is, in words of its own. Raises LeaseLost, DatabaseError."""
        ...


class Job(Protocol):
    """One job. It may remember things between turns as long as `turn.lease.epoch` is the same: else others worked meanwhile."""

    @property
    def key(self) -> JobKey:
        """Its name, unique with its scope."""
        ...

    @property
    def interval_ms(self) -> int:
        """It is due again this long after a turn with nothing more to do."""
        ...

    async def run_once(self, turn: Turn) -> bool:
        """One turn; True where there is more to do. Whatever it raises is noted, and it is tried again after a pause that grows."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A job with figures of its own: they show up in `/metrics` of the agent that its process belongs to."""

    def metrics(self) -> Iterable[Metric]:
        """Families with names that no other job or part of an agent has."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """How much clients need the CPU of this machine."""

    busy: float
    """0: not at all, 1: all of it."""


class LoadSignal(Protocol):
    """Where the load is read from."""

    def load(self) -> Load:
        """As of now. Never waits."""
        ...


class Idle:
    """No clients here, or none that anybody knows of."""

    def load(self) -> Load:
        """Nothing."""
        return Load(0.0)
