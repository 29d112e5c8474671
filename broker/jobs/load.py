"""How much clients need the CPU, as the process that runs jobs sees it, and as the agent beside it tells.

The machine says how busy it is with others than jobs: jobs run niced, and the kernel counts the time of niced processes
apart (`/proc/stat`, proc(5); elsewhere than on Linux this part is 0). The agent says how late its event loop is; one that
has fallen silent is taken for overloaded. Where no agent ever spoke, there is none beside this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from broker.jobs.pace import load_of, mostly_ms
from broker.jobs.port import Load
from broker.services import Clock

LOOK_S = 0.05
"""The agent looks this often how late its loop is."""
TELL_S = 0.25
SILENT_S = 2.0
STAT = Path("/proc/stat")


class CpuTimes(NamedTuple):
    """CPU time since the start of the machine, in ticks of all its CPUs."""

    busy: int
    idle: int
    niced: int

    @classmethod
    def parsed(cls, text: str) -> CpuTimes | None:
        """From /proc/stat; None where it says something else."""
        name, *fields = text.partition("\n")[0].split()[:9] or [""]
        if name != "cpu" or len(fields) < 8 or not all(field.isdecimal() for field in fields):
            return None
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields)
        return cls(user + system + irq + softirq + steal, idle + iowait, nice)


def read_cpu_times() -> CpuTimes | None:
    """As of now; None where the system doesn't say."""
    try:
        return CpuTimes.parsed(STAT.read_text())
    except OSError:
        return None


def busy_between(before: CpuTimes, after: CpuTimes) -> float:
    """Share of the CPU that was taken by what isn't niced, 0 to 1."""
    busy, total = after.busy - before.busy, sum(after) - sum(before)
    return min(max(busy / total, 0.0), 1.0) if total > 0 else 0.0


class ToldLoad:
    """broker.jobs.port.LoadSignal of the process that runs jobs. `heard` takes the agent's lines."""

    def __init__(self, clock: Clock, cpu_times: Callable[[], CpuTimes | None] = read_cpu_times) -> None:
        self._clock = clock
        self._cpu_times = cpu_times
        self._times = cpu_times()
        self._looked_s = clock.monotonic()
        self._busy = 0.0
        self._late_ms = 0.0
        self._heard_s: float | None = None

    def heard(self, line: bytes) -> None:
        """How late the agent's loop is, in ms. What isn't a number is no news."""
        try:
            self._late_ms = max(float(line), 0.0)
        except ValueError:
            return
        self._heard_s = self._clock.monotonic()

    def load(self) -> Load:
        """As of now."""
        now_s = self._clock.monotonic()
        if self._heard_s is not None and now_s - self._heard_s >= SILENT_S:
            return Load(1.0)
        if now_s - self._looked_s >= TELL_S:
            times, before = self._cpu_times(), self._times
            self._busy = busy_between(before, times) if before is not None and times is not None else 0.0
            self._times, self._looked_s = times, now_s
        return load_of(self._busy, self._late_ms)


async def tell_lateness(tell: Callable[[bytes], None]) -> None:
    """For ever: say how late this loop is, a line at a time."""
    loop = asyncio.get_running_loop()
    while True:
        lags_ms = []
        for _ in range(round(TELL_S / LOOK_S)):
            due_s = loop.time() + LOOK_S
            await asyncio.sleep(LOOK_S)
            lags_ms.append((loop.time() - due_s) * 1000)
        tell(b"%.1f\n" % mostly_ms(lags_ms))
