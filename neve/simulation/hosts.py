"""Simulated machines: what a paused or dead one is to the loop, and how code knows on which it runs."""

from __future__ import annotations

import asyncio
import contextvars


class Host:
    """One incarnation of a simulated machine. A restarted machine is a new `Host` of the same name."""

    __slots__ = ("alive", "held", "name", "paused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []

    def __repr__(self) -> str:
        state = "dead" if not self.alive else "paused" if self.paused else "up"
        return f"<Host {self.name} {state}>"


HOST: contextvars.ContextVar[Host | None] = contextvars.ContextVar("neve_simulation_host", default=None)
