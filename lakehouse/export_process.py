"""The exporter's process: `python -m lakehouse.export_process`, with its settings in the environment.

It ends by itself when its parent is gone (its standard input comes to an end), and after the chunk under way on SIGTERM.
Killing it at any moment loses nothing: the tables' watermarks say where to go on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from broker.child_process import cluster_id_of, run_child, set_up_child_logs, state_file_of, write_state
from broker.clock import SystemClock
from broker.objects.open import open_store
from catalog.exports import ExportStore
from catalog.extents import ExtentStore
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import warehouse_of
from catalog.leases import LeaseStore
from catalog.open import open_database
from catalog.topics import TopicStore
from lakehouse.export_state import STATE_FILE_VARIABLE, state_of
from lakehouse.export_world import ExportWorld
from lakehouse.exporter import Exporter
from lakehouse.log_slice import LogReader, SliceLimits
from schemas.settings import Settings

HOLDER_VARIABLE = "NEVE_EXPORT_HOLDER"
"""Name in leases of all the children of one supervisor, which runs one at a time; one of its own when unset."""
STATE_INTERVAL_S = 1.0


async def run(settings: Settings, stop: asyncio.Event, checkpoint: Callable[[str], None] = lambda place: None) -> None:
    """Export until `stop` is set. `checkpoint` is for tests that end the process between two steps."""
    clock = SystemClock()
    rng = random.Random(int.from_bytes(os.urandom(16), "big"))
    database = await open_database(settings)
    store = open_store(settings, clock, rng)
    workers = ThreadPoolExecutor(1, thread_name_prefix="export")
    try:
        cluster_id = await cluster_id_of(database, stop)
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


async def _tell(exporter: Exporter, clock: SystemClock) -> None:
    """Keep the state file fresh."""
    path = state_file_of(STATE_FILE_VARIABLE)
    while path is not None:
        state = state_of(list(exporter.mirrored.values()), clock.now_ms())
        await asyncio.to_thread(write_state, path, state)
        await asyncio.sleep(STATE_INTERVAL_S)


async def main_loop(settings: Settings, checkpoint: Callable[[str], None] = lambda place: None) -> int:
    """Run with signals and the parent's pipe watched; returns the exit code."""
    return await run_child(
        lambda stop: run(settings, stop, checkpoint), name="exporter", state_file=state_file_of(STATE_FILE_VARIABLE)
    )


def main() -> None:
    """Entry of the child process."""
    settings = Settings()
    set_up_child_logs(settings.log_level)
    # It warns of every column that is written without statistics, which is on purpose.
    logging.getLogger("pyiceberg.io.pyarrow").setLevel(logging.ERROR)
    sys.exit(asyncio.run(main_loop(settings)))


if __name__ == "__main__":
    main()
