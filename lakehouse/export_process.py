"""The exporter's process: `python -m lakehouse.export_process`, with its settings in the environment.

It ends by itself when its parent is gone (its standard input comes to an end), and after the chunk under way on SIGTERM.
Killing it at any moment loses nothing: the tables' watermarks say where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from broker.clock import SystemClock
from broker.objects.open import open_store
from catalog.cluster import ClusterStore
from catalog.database import Database, DatabaseError
from catalog.exports import ExportStore
from catalog.extents import ExtentStore
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import warehouse_of
from catalog.leases import LeaseStore
from catalog.open import open_database
from catalog.topics import TopicStore
from lakehouse.export_state import STATE_FILE_VARIABLE, state_of, write_state
from lakehouse.export_world import ExportWorld
from lakehouse.exporter import Exporter
from lakehouse.log_slice import LogReader, SliceLimits
from schemas.settings import Settings

EXIT_ORPHANED = 3
HOLDER_VARIABLE = "NEVE_EXPORT_HOLDER"
"""Name in leases of all the children of one supervisor, which runs one at a time; one of its own when unset."""
STATE_INTERVAL_S = 1.0
CLUSTER_WAIT_S = 0.2

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event, checkpoint: Callable[[str], None] = lambda place: None) -> None:
    """Export until `stop` is set. `checkpoint` is for tests that end the process between two steps."""
    clock = SystemClock()
    rng = random.Random(int.from_bytes(os.urandom(16), "big"))
    database = await open_database(settings)
    store = open_store(settings, clock, rng)
    workers = ThreadPoolExecutor(1, thread_name_prefix="export")
    try:
        cluster_id = await _cluster_id(database, stop)
        if cluster_id is None:
            return
        warehouse = warehouse_of(settings, cluster_id)
        loop = asyncio.get_running_loop()

        async def blocking(function: Callable[[], Any]) -> Any:
            return await loop.run_in_executor(workers, function)

        extents = ExtentStore(database)
        limits = SliceLimits(bytes_max=settings.export_chunk_bytes, reads_max=settings.cold_reads_max)
        catalog = await blocking(lambda: catalog_of(warehouse, fsync=settings.fsync == "always"))
        try:
            world = ExportWorld(
                settings=settings,
                clock=clock,
                rng=rng,
                extents=extents,
                exports=ExportStore(database),
                log=LogReader(extents, store, limits),
                catalog=catalog,
                warehouse=warehouse.location,
                blocking=blocking,
                checkpoint=checkpoint,
            )
            named = os.environ.get(HOLDER_VARIABLE)
            holder = named or f"export-{rng.getrandbits(64):016x}"
            exporter = Exporter(world, TopicStore(database), LeaseStore(database), holder, resume=bool(named))
            telling = asyncio.create_task(_tell(exporter, clock))
            try:
                await exporter.run(stop)
            finally:
                telling.cancel()
        finally:
            await blocking(catalog.close)
    finally:
        workers.shutdown()
        await store.close()
        await database.close()


async def _cluster_id(database: Database, stop: asyncio.Event) -> str | None:
    """The cluster's id, which the first agent writes; waits for it."""
    while not stop.is_set():
        found = await ClusterStore(database).get()
        if found is not None:
            return found
        await asyncio.sleep(CLUSTER_WAIT_S)
    return None


async def _tell(exporter: Exporter, clock: SystemClock) -> None:
    """Keep the state file fresh."""
    path = os.environ.get(STATE_FILE_VARIABLE)
    while path:
        state = state_of(list(exporter.mirrored.values()), clock.now_ms())
        await asyncio.to_thread(write_state, Path(path), state)
        await asyncio.sleep(STATE_INTERVAL_S)


async def _until_orphaned() -> None:
    """Returns when the parent's end of standard input is closed."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass


async def main_loop(settings: Settings, checkpoint: Callable[[str], None] = lambda place: None) -> int:
    """Run with signals and the parent's pipe watched; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    working = asyncio.create_task(run(settings, stop, checkpoint))
    orphaned = asyncio.create_task(_until_orphaned())
    done, _ = await asyncio.wait({working, orphaned}, return_when=asyncio.FIRST_COMPLETED)
    if working in done:
        orphaned.cancel()
        try:
            working.result()
        except (DatabaseError, OSError, ValueError) as error:
            log.error("the exporter can't run", error=str(error))
            return 1
        return 0
    # Without a parent nobody supervises this process: leave at once, as if killed; what is under way is done again.
    _remove_state()
    os._exit(EXIT_ORPHANED)


def _remove_state() -> None:
    """Remove the state file and its folder, which the supervisor made and can't remove any more."""
    path = os.environ.get(STATE_FILE_VARIABLE)
    if path:
        with contextlib.suppress(OSError):  # a folder with something else in it stays
            Path(path).unlink(missing_ok=True)
            Path(path).parent.rmdir()


def _set_up_logs(level: str) -> None:
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
    # It warns of every column that is written without statistics, which is on purpose.
    logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)


def main() -> None:
    """Entry of the child process."""
    settings = Settings()
    _set_up_logs(settings.log_level)
    sys.exit(asyncio.run(main_loop(settings)))


if __name__ == "__main__":
    main()
