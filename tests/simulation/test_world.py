"""The simulated store and database do what each fault says, and effects don't depend on the fate of who asked for them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from broker.objects.memory import MemoryStore
from broker.objects.port import Corrupt, NotFound, OutcomeUnknown, Unavailable
from catalog.database import CommitUnknown, Transaction, Unreachable
from catalog.epochs import EpochStore
from catalog.migrate import migrate
from catalog.sqlite_statements import drive
from neve.simulation.clock import SimClock
from neve.simulation.database import DatabaseServer, SimDatabase
from neve.simulation.faults import Faults
from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop
from neve.simulation.store import SimStore, World


class Bench:
    """One host with a store and a database."""

    def __init__(self, seed: int = 1) -> None:
        self.loop = SimLoop(seed)
        self.clock = SimClock(self.loop)
        self.faults = Faults(random.Random(seed))
        self.world = World(self.loop, random.Random(seed), self.faults)
        self.shared = MemoryStore(self.clock.now_ms)
        self.store = SimStore(self.world, self.shared)
        self.server = DatabaseServer(self.world, self.clock.now_ms)
        drive(migrate(self.server.inline))
        self.server.watch()
        self.database = SimDatabase(self.server)
        self.host = Host("agent-0")

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        token = HOST.set(self.host)
        try:
            return self.loop.run_until_complete(work())
        finally:
            HOST.reset(token)
            self.loop.close()
            assert self.loop.errors == []


@pytest.mark.parametrize(
    ("kind", "error", "stored"),
    [
        ("put_refused", Unavailable, None),
        ("put_lost_unknown", OutcomeUnknown, None),
        ("put_landed_unknown", OutcomeUnknown, b"whole body"),
        ("put_landed_late", OutcomeUnknown, b"whole body"),
    ],
)
def test_what_a_failed_put_leaves(kind: str, error: type[Exception], stored: bytes | None) -> None:
    bench = Bench()

    async def work() -> None:
        bench.faults.arm(kind)
        with pytest.raises(error):
            await bench.store.put("a/b", [b"whole ", b"body"])
        if kind == "put_landed_late":
            with pytest.raises(NotFound):
                await bench.shared.head("a/b")
        await asyncio.sleep(60)
        if stored is None:
            with pytest.raises(NotFound):
                await bench.store.get("a/b")
        else:
            assert await bench.store.get("a/b") == stored

    bench.run(work)
    assert bench.faults.fired[kind] == 1


def test_a_torn_put_leaves_something_else_under_the_name() -> None:
    bench = Bench()

    async def work() -> None:
        bench.faults.arm("put_torn")
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await bench.store.put("a/b", [b"whole body"])
        assert b"whole body".startswith(await bench.store.get("a/b"))
        assert await bench.store.get("a/b") != b"whole body"

    bench.run(work)


def test_bad_reads() -> None:
    bench = Bench()

    async def work() -> None:
        await bench.store.put("a/b", [bytes(100)])
        bench.faults.arm("get_truncated")
        with pytest.raises(Corrupt):
            await bench.store.get("a/b")
        bench.faults.arm("get_flipped")
        flipped = await bench.store.get("a/b")
        assert sum(byte.bit_count() for byte in flipped) == 1
        assert await bench.store.get("a/b", 10, 5) == bytes(5)

    bench.run(work)


def test_a_buffer_that_changes_under_a_put_is_noticed() -> None:
    bench = Bench()
    buffer = bytearray(b"first")

    async def work() -> None:
        put = asyncio.get_running_loop().create_task(bench.store.put("a/b", [buffer]))
        await asyncio.sleep(0.0001)
        buffer[:] = b"other"
        with pytest.raises(AssertionError, match="changed a buffer"):
            await put

    bench.run(work)


async def insert(tx: Transaction) -> None:
    await tx.execute("INSERT INTO counters (name, next) VALUES ('probe', 1)")


@pytest.mark.parametrize(
    ("kind", "error", "rows"),
    [
        ("db_refused", Unreachable, 0),
        ("db_request_lost", CommitUnknown, 0),
        ("db_reply_lost", CommitUnknown, 1),
        ("db_landed_late", CommitUnknown, 1),
    ],
)
def test_what_a_failed_transaction_leaves(kind: str, error: type[Exception], rows: int) -> None:
    bench = Bench()
    count = "SELECT count(*) FROM counters WHERE name = 'probe'"

    async def work() -> None:
        bench.faults.arm(kind)
        with pytest.raises(error):
            await bench.database.transact(insert)
        await asyncio.sleep(30)
        assert bench.server.read(count) == [(rows,)]

    bench.run(work)


def test_what_a_dead_host_asked_for_still_happens() -> None:
    bench = Bench()

    async def work() -> None:
        victim = Host("agent-1")
        HOST.set(victim)
        loop = asyncio.get_running_loop()
        asked = [
            loop.create_task(bench.store.put("a/b", [b"x"])),
            loop.create_task(bench.database.transact(insert)),
        ]
        HOST.set(bench.host)
        await asyncio.sleep(0.0001)
        bench.loop.kill(victim)
        await asyncio.sleep(10)
        assert await bench.store.get("a/b") == b"x"
        assert bench.server.read("SELECT count(*) FROM counters WHERE name = 'probe'") == [(1,)]
        assert not any(task.done() for task in asked)

    bench.run(work)


def test_a_commit_under_a_dead_epoch_is_seen_by_the_watch() -> None:
    bench = Bench()
    row = "INSERT INTO objects (object_id, name, bytes, committed_ms, outcome) VALUES ($1, 'n', 1, 1, NULL)"

    async def work() -> None:
        live = await EpochStore(bench.database).issue("i", 5000)
        await bench.database.transact(lambda tx: tx.execute(row, live.epoch << 32))
        assert bench.server.read("SELECT kind FROM violations") == []
        await asyncio.sleep(6)
        await bench.database.transact(lambda tx: tx.execute(row, live.epoch << 32 | 1))
        assert bench.server.read("SELECT kind FROM violations") == [("dead_epoch",)]

    bench.run(work)


def test_hints_reach_the_listener_on_its_own_host() -> None:
    bench = Bench()
    heard: list[tuple[str, str]] = []

    async def work() -> None:
        other = Host("agent-1")
        HOST.set(other)
        await bench.database.listen("commits", lambda payload: heard.append((payload, str(HOST.get()))))
        HOST.set(bench.host)
        for number in range(50):
            await bench.database.notify("commits", str(number))
        await asyncio.sleep(1)

    bench.run(work)
    assert 20 < len(heard) < 50, "some are lost, most arrive"
    assert {host for _payload, host in heard} == {"<Host agent-1 up>"}
