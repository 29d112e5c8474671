"""One group in its coordinator: the machine, its timer on the loop, and what is known of its row in the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from broker.groups.classic import ClassicGroup
from broker.groups.slot_keeper import Held


@dataclass(slots=True)
class Running:
    """A group that this agent coordinates."""

    machine: ClassicGroup
    held: Held
    stored: bool
    """True once a row of it was submitted."""
    commits: int = 0
    """Writes submitted since it was taken over."""
    outstanding: int = 0
    """Writes without an answer yet."""
    wake: asyncio.TimerHandle | None = None
    wake_ms: int = 0

    @property
    def idle(self) -> bool:
        """Nobody is in it or on the way into it, and nothing of it is being written."""
        group = self.machine.group
        return not group.members and not group.pending and not self.outstanding

    def sleep_no_more(self) -> None:
        """Cancel the timer."""
        if self.wake is not None:
            self.wake.cancel()
            self.wake = None


@dataclass(slots=True)
class RunningSlot:
    """The groups of a slot; `groups` is None until they are loaded."""

    held: Held
    groups: dict[str, Running] | None = None
    loading: asyncio.Task[None] | None = field(default=None, repr=False)
