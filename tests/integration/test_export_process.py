"""The exporter as a process: killed with -9 between its steps, started again, left by its parent, told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from catalog.exports import ExportStore
from catalog.topics import TopicRow, TopicStore
from neve.export_supervisor import ExportSupervisor
from neve.load_settings import as_environment
from tests.export_rig import Rig, rig_of
from tests.lake_fixtures import local_settings

ROOT = Path(__file__).resolve().parents[2]
CHILD = [sys.executable, "-m", "tests.export_crash_child"]
PLACES = ["written:2", "entered:1", "committed main:1", "marked main:2", "committed history:1"]
WAIT_S = 60.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    settings = local_settings(
        tmp_path,
        export_idle_commit_ms=50,
        export_interval_ms=20,
        export_chunk_bytes=600,
        export_lease_ms=400,
        export_retry_max_ms=100,
    )
    async with rig_of(settings) as rig:
        yield rig


def environment(rig: Rig, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **as_environment(rig.settings), "PYTHONSAFEPATH": "1", "PYTHONPATH": path, **more}


async def wait_for(rig: Rig, offsets: dict[str, dict[int, int]]) -> None:
    """Until the statuses of the topics' tables say these watermarks."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = {one.table_name: dict(one.offsets) for one in await ExportStore(rig.database).statuses()}
        if offsets.items() <= found.items():
            return
        assert time.monotonic() < deadline, f"the tables stand at {found}, not at {offsets}"
        await asyncio.sleep(0.05)


async def fill(rig: Rig) -> dict[str, dict[int, int]]:
    """Two topics with records in many small objects; answers the watermarks their tables must reach."""
    events = await rig.create("events", 2)
    state = await rig.create("state", 1, cleanup__policy="compact")
    for round_ in range(8):
        records: list[tuple[bytes | None, bytes | None]] = [
            (f"k{n}".encode(), None if n == round_ else f"v{round_}-{n}".encode() * 5) for n in range(12)
        ]
        await rig.append(events, {0: [records], 1: [records[:5]]})
        await rig.append(state, {0: [records]})
    return {"topics.events": {0: 96, 1: 40}, "topics.state": {0: 96}, "topics.state__history": {0: 96}}


async def test_killed_with_9_between_its_steps(rig: Rig) -> None:
    """Six processes in a row, five of them killed at different places; then everything is there once."""
    wanted = await fill(rig)
    for place in PLACES:
        child = await asyncio.create_subprocess_exec(
            *CHILD, stdin=asyncio.subprocess.PIPE, env=environment(rig, NEVE_TEST_KILL_AT=place)
        )
        assert await asyncio.wait_for(child.wait(), WAIT_S) == -signal.SIGKILL, place
    supervisor = ExportSupervisor(rig.settings)
    await supervisor.start()
    try:
        await wait_for(rig, wanted)
        assert supervisor.pid is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        await rig.append((await _topics(rig))["events"], {0: [[(b"after", b"the kill")]]})
        await wait_for(rig, {"topics.events": {0: 97, 1: 40}})
        assert supervisor.restarts == 1
        assert {one["topic"] for one in supervisor.state()["tables"]} <= {"events", "state"}
    finally:
        await supervisor.stop()
    assert rig.rows("events") == sorted(rig.log["events"])
    assert rig.rows("state") == rig.latest("state")
    assert rig.rows("state__history") == sorted(rig.log["state"])


async def _topics(rig: Rig) -> dict[str, TopicRow]:
    return {row.name: row for row in await TopicStore(rig.database).all()}


async def test_sigterm_ends_the_child_and_gives_its_leases_back(rig: Rig) -> None:
    wanted = await fill(rig)
    supervisor = ExportSupervisor(rig.settings.model_copy(update={"export_lease_ms": 60_000}))
    await supervisor.start()
    await wait_for(rig, wanted)
    pid = supervisor.pid
    assert pid is not None
    await supervisor.stop()
    assert not psutil.pid_exists(pid)
    held = await rig.database.snapshot(lambda tx: tx.fetch("SELECT name FROM leases WHERE lease_until_ms > 0"))
    assert list(held) == []


def test_child_leaves_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The parent is killed with -9 and can tell nobody: the pipe's end does."""
    parent = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from neve.export_supervisor import ExportSupervisor
        from schemas.settings import Settings

        async def main():
            supervisor = ExportSupervisor(Settings(data=Path(sys.argv[1])))
            await supervisor.start()
            print(supervisor.pid, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
        """
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", parent, str(tmp_path)], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        time.sleep(0.5)
        assert child.is_running()
        process.kill()
        process.wait()
    child.wait(WAIT_S)


async def test_a_child_that_keeps_ending_is_started_ever_more_slowly(tmp_path: Path) -> None:
    supervisor = ExportSupervisor(local_settings(tmp_path), command=[sys.executable, "-c", "raise SystemExit(1)"])
    await supervisor.start()
    await asyncio.sleep(2.5)
    await supervisor.stop()
    assert 1 <= supervisor.restarts <= 3


async def test_a_killed_child_is_followed_at_once_however_long_its_lease(rig: Rig) -> None:
    await fill(rig)
    supervisor = ExportSupervisor(rig.settings.model_copy(update={"export_lease_ms": 300_000}))
    await supervisor.start()
    try:
        await wait_for(rig, {"topics.state": {0: 96}})
        assert supervisor.pid is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        await rig.append((await _topics(rig))["state"], {0: [[(b"after", b"the kill")]]})
        await wait_for(rig, {"topics.state": {0: 97}})
    finally:
        await supervisor.stop()
    assert rig.rows("state") == rig.latest("state")


async def test_an_exporter_paused_past_its_lease_changes_nothing_when_it_wakes(rig: Rig) -> None:
    """Stopped at odd moments while another one works: rows come out once each, and the first lives on."""
    wanted = await fill(rig)
    children = [
        await asyncio.create_subprocess_exec(*CHILD, stdin=asyncio.subprocess.PIPE, env=environment(rig))
        for _ in range(2)
    ]
    topics = await _topics(rig)
    try:
        for round_ in range(6):
            paused = children[round_ % 2]
            paused.send_signal(signal.SIGSTOP)
            await rig.append(topics["events"], {0: [[(b"k", str(round_).encode())] * 3]})
            await rig.append(topics["state"], {0: [[(b"k1", str(round_).encode()), (b"k2", None)]]})
            await asyncio.sleep(0.55 + round_ * 0.03)
            paused.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
        wanted |= {"topics.events": {0: 114, 1: 40}, "topics.state": {0: 108}, "topics.state__history": {0: 108}}
        await wait_for(rig, wanted)
        assert [child.returncode for child in children] == [None, None]
    finally:
        for child in children:
            child.terminate()
        codes = [await asyncio.wait_for(child.wait(), WAIT_S) for child in children]
    assert codes == [0, 0]
    assert rig.rows("events") == sorted(rig.log["events"])
    assert rig.rows("state") == rig.latest("state")
    assert rig.rows("state__history") == sorted(rig.log["state"])
