"""Runs agents: one in this process, or several as children with ports counted up; processes for other roles beside them.

Owns: SIGTERM to this process drains every agent and ends with 0; a child that dies by itself ends the others and gives 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from neve.load_settings import as_environment
from schemas.settings import Settings

if TYPE_CHECKING:
    from broker.agent import Agent
    from neve.children import Children

ROLES = ("broker", "compact", "export")
POLL_S = 0.1


class StartError(Exception):
    """The agent can't start; the message says why and what to do."""


def installed_version() -> str:
    """Neve's version."""
    try:
        return version("neve")
    except PackageNotFoundError:
        return "unknown"


def roles_of(settings: Settings) -> list[str]:
    """The roles by name. Raises StartError for one that doesn't exist."""
    roles = [role.strip() for role in settings.roles.split(",") if role.strip()]
    for role in roles:
        if role not in ROLES:
            raise StartError(f"role {role!r} doesn't exist; roles are {', '.join(ROLES)}")
    if not roles:
        raise StartError(f"no role; give --roles with some of {', '.join(ROLES)}")
    return roles


def check_places(settings: Settings) -> None:
    """Either a folder, or a bucket and a database."""
    if settings.data is None and (settings.bucket is None or settings.metadata is None):
        raise StartError(
            "say where things live: --data DIR, or --bucket s3://BUCKET/PREFIX with --metadata postgresql://..."
        )
    if settings.data is not None:
        settings.data.mkdir(parents=True, exist_ok=True)


def run_agents(settings: Settings, count: int, ready_file: Path | None) -> int:
    """Run until SIGTERM; returns the exit code."""
    roles_of(settings)
    check_places(settings)
    if count == 1:
        return run_one(settings, ready_file)
    return run_many(settings, count, ready_file)


def run_one(settings: Settings, ready_file: Path | None) -> int:
    """One agent in this process."""
    import uvloop

    from neve.logs import set_up_logs

    set_up_logs(settings.log_level)
    roles = roles_of(settings)
    return uvloop.run(serve(settings, roles, ready_file) if "broker" in roles else work(settings, roles, ready_file))


async def serve(settings: Settings, roles: Sequence[str], ready_file: Path | None) -> int:
    """Start the agent and its child processes, serve, drain, stop."""
    from broker.agent import Agent
    from broker.cluster_identity import ClusterMismatch
    from broker.objects.port import ObjectStoreError
    from catalog.database import DatabaseError
    from catalog.iceberg.rest_app import rest_app
    from catalog.iceberg.rows import open_rows
    from catalog.iceberg.warehouse import store_root_of, warehouse_of
    from neve.children import Children
    from neve.http_state import state_app

    warehouse = warehouse_of(settings, "")
    root = store_root_of(settings)
    rows = open_rows(warehouse)
    agent: Agent

    async def read_bytes(location: str) -> bytes:
        from broker.objects.port import NotFound

        assert agent.core is not None
        try:
            return bytes(await agent.core.store.get(warehouse.key_of(location, root)))
        except NotFound as error:
            raise FileNotFoundError(location) from error
        except ObjectStoreError as error:
            raise OSError(str(error)) from error

    mounts = {"/iceberg": rest_app(rows, read_bytes, warehouse.client_config), "/v1": state_app(lambda: agent)}
    agent = Agent(settings, mounts=mounts, version=installed_version())
    children = Children(settings, roles, agent.registry)
    ready = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(_when_ready(ready, agent, ready_file, children))
    try:
        return await agent.run(ready=ready)
    except (ClusterMismatch, ObjectStoreError, DatabaseError, OSError, ValueError) as error:
        raise StartError(str(error)) from error
    finally:
        waiting.cancel()
        await children.stop()
        await rows.close()


async def _when_ready(ready: asyncio.Event, agent: Agent, ready_file: Path | None, children: Children) -> None:
    await ready.wait()
    await children.start()
    if ready_file is not None:
        kafka, http = agent.kafka_address, agent.http_address
        write_ready(ready_file, {"kafka": f"{kafka[0]}:{kafka[1]}", "http": f"{http[0]}:{http[1]}"})


async def work(settings: Settings, roles: Sequence[str], ready_file: Path | None) -> int:
    """Start the child processes alone, and stop them in the end."""
    from catalog.database import DatabaseError
    from neve.worker import Worker

    worker = Worker(settings, roles)
    ready = asyncio.Event()

    async def announce() -> None:
        await ready.wait()
        if ready_file is not None:
            write_ready(ready_file, {"kafka": None, "http": "{}:{}".format(*worker.http_address)})

    announcing = asyncio.get_running_loop().create_task(announce())
    try:
        return await worker.run(ready)
    except (DatabaseError, OSError, ValueError) as error:
        raise StartError(str(error)) from error
    finally:
        announcing.cancel()


def write_ready(path: Path, addresses: object) -> None:
    """Write the addresses in one step, so that whoever waits for the file finds it whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(addresses) + "\n")
    partial.replace(path)


def counted_up(address: str, by: int) -> str:
    """HOST:PORT with the port counted up; port 0 stays."""
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + by if int(port) else 0}"


def run_many(settings: Settings, count: int, ready_file: Path | None) -> int:
    """`count` agents as children of this process, ports counted up; the other roles run beside the first."""
    children = []
    parts = [ready_file.with_name(f"{ready_file.name}.{n}") if ready_file else None for n in range(count)]
    for n in range(count):
        environment = os.environ | as_environment(settings) | {"PYTHONSAFEPATH": "1"}
        argv = [sys.executable, "-m", "neve", "agent"]
        argv += ["--kafka", counted_up(settings.kafka, n), "--http", counted_up(settings.http, n)]
        if settings.advertise:
            argv += ["--advertise", counted_up(settings.advertise, n)]
        if n and "broker" in roles_of(settings):
            argv += ["--roles", "broker"]
        if parts[n] is not None:
            argv += ["--ready-file", str(parts[n])]
        children.append(subprocess.Popen(argv, env=environment))

    ended = False

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal ended
        ended = True
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    announced = ready_file is None
    while not ended and all(child.poll() is None for child in children):
        if not announced and all(part is not None and part.exists() for part in parts):
            assert ready_file is not None
            write_ready(ready_file, [json.loads(part.read_text()) for part in parts if part is not None])
            announced = True
        time.sleep(POLL_S)
    died = not ended
    end(0, None)
    codes = [child.wait() for child in children]
    return 1 if died or any(codes) else 0
