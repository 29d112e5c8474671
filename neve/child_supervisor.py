"""Runs a child process of an agent: started again when it ends, never left behind.

The child's standard input is a pipe of which this process holds the only other end: when this process is gone, however it
ended, the child reads its end and leaves. Restarts wait longer and longer while the child keeps failing. Killing the child
loses nothing; producers and consumers don't notice.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from neve.load_settings import as_environment
from schemas.settings import Settings

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STEADY_S = 30.0
"""A child that ran this long was well: the next restart waits the shortest time."""
UNREAD_BYTES_MAX = 4096
"""What a child that doesn't read is told no more."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildKind:
    """What differs from child to child: its name for logs, leases and folders, its command and its variables."""

    name: str
    command: tuple[str, ...]
    state_file_variable: str
    holder_variable: str


class ChildSupervisor:
    """One child. `start` once, then `stop`."""

    def __init__(self, settings: Settings, kind: ChildKind, command: Sequence[str] | None = None) -> None:
        self._settings = settings
        self._kind = kind
        self._command = tuple(command or kind.command)
        self._folder = tempfile.TemporaryDirectory(prefix=f"neve-{kind.name}-")
        self._state_file = Path(self._folder.name) / "state.json"
        self._task: asyncio.Task[None] | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = False
        # One name for all children, of which one lives at a time: the next takes over the leases of one that was killed
        # without waiting for them to run out. A new agent process is a new name, and waits.
        self._holder = f"{kind.name}-{os.urandom(8).hex()}"
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    async def start(self) -> None:
        """Start the child and keep it running. Returns when it was started."""
        assert self._task is None, "started twice"
        await self._spawn()
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Ask the child to end, wait for what is under way at most `drain_ms`, then kill it."""
        self._stopping = True
        child = self._child
        if child is not None and child.returncode is None:
            _send(child, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.wait(), self._settings.drain_ms / 1000)
            except TimeoutError:
                _send(child, signal.SIGKILL)
                await child.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._folder.cleanup()

    def state(self) -> dict[str, Any]:
        """What the child told last; empty before it told anything."""
        try:
            found: dict[str, Any] = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return {}
        return found

    def tell(self, line: bytes) -> None:
        """Write a line to the child. News that it doesn't come to read are dropped."""
        child = self._child
        if child is None or child.returncode is not None or child.stdin is None:
            return
        if child.stdin.transport.get_write_buffer_size() < UNREAD_BYTES_MAX:
            child.stdin.write(line)

    async def _spawn(self) -> None:
        environment = os.environ | as_environment(self._settings)
        environment |= {"PYTHONSAFEPATH": "1", self._kind.state_file_variable: str(self._state_file)}
        environment[self._kind.holder_variable] = self._holder
        # Few malloc arenas: with one per thread, freed memory of decoding stays with the process.
        environment.setdefault("MALLOC_ARENA_MAX", "2")
        self._child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, env=environment, start_new_session=True
        )

    async def _keep_running(self) -> None:
        """Start the child again whenever it ends."""
        pause_s = BACKOFF_FIRST_S
        started = time.monotonic()
        while True:
            child = self._child
            if child is not None:
                code = await child.wait()
                if self._stopping:
                    return
                pause_s = BACKOFF_FIRST_S if time.monotonic() - started >= STEADY_S else pause_s
                log.warning(
                    "a child process ended, starting it again", child=self._kind.name, code=code, pause_s=pause_s
                )
            await asyncio.sleep(pause_s)
            pause_s = min(BACKOFF_MAX_S, pause_s * 2)
            started = time.monotonic()
            try:
                await self._spawn()
                self.restarts += 1
            except OSError as error:
                self._child = None
                log.error("a child process can't be started", child=self._kind.name, error=str(error))


def _send(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        child.send_signal(number)
    except ProcessLookupError:
        pass  # it ended just now
