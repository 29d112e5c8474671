"""The process that runs jobs: `python -m broker.jobs.process`, with its settings in the environment.

It ends by itself when its parent is gone, and on SIGTERM in the middle of a turn. Killing it at any moment loses nothing:
every step of a job can be done twice, and rows say where to go on. It is niced, so that agents and clients on this machine
have the CPU first, and listens to its parent, which tells how late its loop is.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import structlog

from broker.child_process import run_child, set_up_child_logs, state_file_of, write_state
from broker.clock import SystemClock
from broker.cluster_identity import ClusterMismatch, agree_on_cluster
from broker.config_cache import ConfigCache
from broker.jobs.jobs_of import jobs_of
from broker.jobs.load import ToldLoad
from broker.jobs.metrics import state_of
from broker.jobs.polite_database import polite
from broker.jobs.runner import JobRunner
from broker.kafka.broker_configs import broker_layers, nearest_values
from broker.objects.open import open_store
from broker.objects.port import ObjectStore, ObjectStoreError
from broker.services import BrokerView, InlineWorkers
from catalog.configs import ConfigStore
from catalog.database import Database
from catalog.open import open_database
from schemas.settings import Settings

STATE_FILE_VARIABLE = "NEVE_JOBS_STATE_FILE"
HOLDER_VARIABLE = "NEVE_JOBS_HOLDER"
"""Name in leases of all the children of one supervisor, which runs one at a time; one of its own when unset."""
STATE_INTERVAL_S = 1.0
NO_BROKER = BrokerView(-1, "", 0, "")
"""This process is none: what is set for one broker alone isn't meant for it."""

log = structlog.get_logger()


async def run(settings: Settings, stop: asyncio.Event, signal: ToldLoad, clock: SystemClock) -> None:
    """Run jobs until `stop` is set. Raises DatabaseError, ValueError."""
    rng = random.Random(int.from_bytes(os.urandom(16), "big"))
    database = polite(await open_database(settings), clock, settings.job_write_share)
    # Behind the opening: on Linux this is for the calling thread and those it starts from now on. The threads of SQLite stay as
    # they are: one that holds the write lock and gets no CPU would make agents wait.
    os.nice(settings.job_nice)
    store = open_store(settings, clock, rng)
    try:
        cluster_id = await _cluster_id(store, database, clock, rng)
        holder = os.environ.get(HOLDER_VARIABLE) or f"jobs-{rng.getrandbits(64):016x}"
        configs = ConfigCache(ConfigStore(database), settings, on_brokers=lambda: None)
        await configs.fresh()
        runner = JobRunner(
            jobs_of(
                database,
                store,
                clock,
                rng,
                settings,
                InlineWorkers(),
                cluster_id=cluster_id,
                instance=holder,
                broker_values=lambda: nearest_values(broker_layers(settings, configs, NO_BROKER)),
            ),
            database,
            clock,
            settings,
            holder=holder,
            signal=signal,
        )
        await _run_until(stop, runner, configs)
        await runner.close()
    finally:
        await store.close()
        await database.close()


async def _cluster_id(store: ObjectStore, database: Database, clock: SystemClock, rng: random.Random) -> str:
    """The cluster's id, if bucket and database agree on it: nothing is deleted from another cluster's. Raises ValueError."""
    try:
        return await agree_on_cluster(store, database, clock, rng)
    except (ClusterMismatch, ObjectStoreError) as error:
        raise ValueError(str(error)) from error


async def _run_until(stop: asyncio.Event, runner: JobRunner, configs: ConfigCache) -> None:
    """Everything at once; whatever of it ends or fails ends all."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(work) for work in (stop.wait(), runner.run(), configs.run(), _tell(runner))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(runner: JobRunner) -> None:
    """Keep the state file fresh."""
    path = state_file_of(STATE_FILE_VARIABLE)
    while True:
        if path is not None:
            await asyncio.to_thread(write_state, path, state_of(runner))
        await asyncio.sleep(STATE_INTERVAL_S)


def main() -> None:
    """Entry of the child process."""
    settings = Settings()
    set_up_child_logs(settings.log_level)
    clock = SystemClock()
    signal = ToldLoad(clock)
    state_file: Path | None = state_file_of(STATE_FILE_VARIABLE)
    sys.exit(
        asyncio.run(
            run_child(
                lambda stop: run(settings, stop, signal, clock),
                name="process that runs jobs",
                state_file=state_file,
                heard=signal.heard,
            )
        )
    )


if __name__ == "__main__":
    main()
