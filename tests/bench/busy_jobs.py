"""The process that runs jobs, with three in place of the real ones that never have enough: of CPU, database and store.

`agent` as an argument: an agent whose role compact starts this process (`python -m tests.bench.busy_jobs agent ARGS...`).
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from typing import Any

import broker.jobs.process
import neve.jobs_supervisor
from broker.jobs.port import Job, Turn
from broker.objects.port import ObjectStore
from catalog.database import Database, Transaction
from catalog.jobs import JobKey
from neve.child_supervisor import ChildKind

PIECE_S = 0.005
ROWS = 300
BLOCK = bytes(range(256)) * 4096 * 4


class Endless:
    """A job with more and more to do, a piece at a time."""

    interval_ms = 1

    def __init__(self, name: str, piece: Callable[[], Any]) -> None:
        self.key = JobKey(name)
        self._piece = piece

    async def run_once(self, turn: Turn) -> bool:
        """Pieces until the turn is over."""
        while not turn.over:
            await self._piece()
            await turn.breathe()
        return True


def endless_jobs(database: Database, store: ObjectStore, *_: Any, **__: Any) -> list[Job]:
    """In place of broker.jobs.jobs_of.jobs_of."""

    async def compute() -> None:
        until = time.perf_counter() + PIECE_S
        while time.perf_counter() < until:
            hashlib.sha256(BLOCK[:4096])

    async def write(tx: Transaction) -> None:
        await tx.execute("CREATE TABLE IF NOT EXISTS bench_rows (n BIGINT PRIMARY KEY, text TEXT NOT NULL)")
        await tx.execute("DELETE FROM bench_rows")
        rows = [(n, "x" * 100) for n in range(ROWS)]
        await tx.execute_rows(
            "INSERT INTO bench_rows SELECT r.n, r.text FROM {rows} AS r WHERE true",
            (("n", "bigint"), ("text", "text")),
            rows,
        )

    async def move() -> None:
        name = "bench/block"
        await store.delete([name])
        await store.put(name, [BLOCK])
        hashlib.sha256(await store.get(name))

    return [
        Endless("bench-cpu", compute),
        Endless("bench-database", lambda: database.transact(write)),
        Endless("bench-store", move),
    ]


def main() -> None:
    """The child, or the agent with this child."""
    if sys.argv[1:2] != ["agent"]:
        vars(broker.jobs.process)["jobs_of"] = endless_jobs
        broker.jobs.process.main()
        return
    kind = neve.jobs_supervisor.JOBS
    command = (sys.executable, "-m", "tests.bench.busy_jobs")
    neve.jobs_supervisor.JOBS = ChildKind(kind.name, command, kind.state_file_variable, kind.holder_variable)
    from neve.cli.app import main as neve_main

    neve_main()


if __name__ == "__main__":
    main()
