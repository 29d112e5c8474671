"""What the child processes of an agent have in common: they end with their parent, and on SIGTERM; logs; the cluster's id.

Owns: a child whose parent is gone leaves at once, as if killed; what is under way is done again by whoever follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from catalog.cluster import ClusterStore
from catalog.database import Database, DatabaseError

EXIT_ORPHANED = 3
CLUSTER_WAIT_S = 0.2
LINE_BYTES_MAX = 1024

log = structlog.get_logger()


async def run_child(
    work: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    *,
    name: str,
    state_file: Path | None,
    heard: Callable[[bytes], None] = lambda line: None,
) -> int:
    """Run `work` until it ends, which it does soon after its event is set; returns the exit code.

    `heard` gets the lines that the parent writes to standard input.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    working = loop.create_task(work(stop))
    orphaned = loop.create_task(_until_orphaned(heard))
    done, _ = await asyncio.wait({working, orphaned}, return_when=asyncio.FIRST_COMPLETED)
    if working not in done:
        # Without a parent nobody supervises this process.
        if state_file is not None:
            remove_state(state_file)
        os._exit(EXIT_ORPHANED)
    orphaned.cancel()
    try:
        working.result()
    except (DatabaseError, OSError, ValueError) as error:
        log.error(f"the {name} can't run", error=str(error))
        return 1
    return 0


async def _until_orphaned(heard: Callable[[bytes], None]) -> None:
    """Returns when the parent's end of standard input is closed."""
    reader = asyncio.StreamReader(LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        heard(line)


async def cluster_id_of(database: Database, stop: asyncio.Event) -> str | None:
    """The cluster's id, which the first agent writes; waits for it, or for `stop`."""
    while not stop.is_set():
        found = await ClusterStore(database).get()
        if found is not None:
            return found
        await asyncio.sleep(CLUSTER_WAIT_S)
    return None


def state_file_of(variable: str) -> Path | None:
    """Where the parent wants to read this child's state: as this variable of the environment says."""
    path = os.environ.get(variable)
    return Path(path) if path else None


def write_state(path: Path, state: Any) -> None:
    """Replace the state file in one step: the parent finds it whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(state))
    partial.replace(path)


def remove_state(path: Path) -> None:
    """Remove the state file and its folder, which the parent made and can't remove any more."""
    with contextlib.suppress(OSError):  # a folder with something else in it stays
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def set_up_child_logs(level: str) -> None:
    """JSON lines to stderr, which is the parent's."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
