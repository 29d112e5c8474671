"""The simulated metadata database: the production SQL on `InlineDatabase`, behind a connection that can fail.

One transaction runs at one virtual instant, on no host: a commit of an agent that was killed, paused or gave up can still
land. Invariants that must hold at every commit are kept by triggers in the database itself, out of the product's reach:
no object under an epoch that is dead at that moment, no condemned object, no watermark that goes back, no lost extent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Literal, TypeVar

from catalog.database import CommitUnknown, Transaction, Unreachable
from catalog.inline import InlineDatabase
from catalog.sqlite_statements import drive
from neve.simulation.group_watches import GROUP_RECORD, GROUP_WATCHES
from neve.simulation.hosts import HOST, Host
from neve.simulation.slot_locks import SlotLocks, is_group_write
from neve.simulation.store import World

T = TypeVar("T")
LATENCY_S = (0.0005, 0.006)
SLOW_S = (0.5, 6.0)
LATE_S = (0.2, 8.0)

WATCHES = {
    "dead_epoch": (
        "AFTER INSERT ON main.objects",
        "NOT EXISTS (SELECT 1 FROM main.epochs WHERE epoch = NEW.object_id >> 32 AND retired = 0"
        " AND lease_until_ms > neve_now_ms())",
        "'object ' || NEW.name || ' was committed under a dead epoch'",
    ),
    "condemned": (
        "AFTER INSERT ON main.objects",
        "EXISTS (SELECT 1 FROM main.condemned WHERE object_id = NEW.object_id)",
        "'object ' || NEW.name || ' was committed and is condemned'",
    ),
    "watermark_lowered": (
        "AFTER UPDATE ON main.shards",
        "NEW.high_watermark < OLD.high_watermark OR NEW.log_start < OLD.log_start",
        "'shard ' || NEW.topic || '/' || NEW.shard || ': ' || OLD.high_watermark || ' to ' || NEW.high_watermark",
    ),
    "epoch_revived": (
        "AFTER UPDATE ON main.epochs",
        "OLD.retired <> 0 AND NEW.retired = 0",
        "'epoch ' || NEW.epoch || ' was retired'",
    ),
    "start_beyond_end": (
        "AFTER UPDATE ON main.shards",
        "NEW.log_start > NEW.high_watermark",
        "'shard ' || NEW.topic || '/' || NEW.shard || ': ' || NEW.log_start || ' beyond ' || NEW.high_watermark",
    ),
    "extent_removed": (
        "AFTER DELETE ON main.extents",
        "EXISTS (SELECT 1 FROM main.shards s JOIN main.topics t ON t.topic = s.topic WHERE s.topic = OLD.topic"
        " AND s.shard = OLD.shard AND t.deleted_ms IS NULL AND s.log_start < OLD.offset_next)"
        " AND NOT EXISTS (SELECT 1 FROM main.extents WHERE topic = OLD.topic AND shard = OLD.shard"
        " AND offset_first <= OLD.offset_first AND offset_next >= OLD.offset_next)",
        "'shard ' || OLD.topic || '/' || OLD.shard || ' up to ' || OLD.offset_next || ' is above the log start'",
    ),
    "extent_shrunk": (
        "AFTER UPDATE ON main.extents",
        "NEW.topic <> OLD.topic OR NEW.shard <> OLD.shard OR NEW.offset_next <> OLD.offset_next"
        " OR NEW.offset_first > OLD.offset_first",
        "'shard ' || OLD.topic || '/' || OLD.shard || ' up to ' || OLD.offset_next || ' covers less than it did'",
    ),
    "extent_overlaps": (
        "AFTER INSERT ON main.extents",
        "EXISTS (SELECT 1 FROM main.extents WHERE topic = NEW.topic AND shard = NEW.shard"
        " AND offset_first < NEW.offset_next AND offset_next > NEW.offset_first AND offset_next <> NEW.offset_next)",
        "'shard ' || NEW.topic || '/' || NEW.shard || ' offsets ' || NEW.offset_first || ' to ' || NEW.offset_next",
    ),
}
"""Name of a watch: (event, condition that must never hold, what to say)."""


class _RolledBackError(Exception):
    """Ends a transaction without a commit."""


class DatabaseServer:
    """The one database of a run."""

    def __init__(self, world: World, now_ms: Callable[[], int]) -> None:
        self.inline = InlineDatabase(now_ms)
        self.listeners: list[tuple[Host | None, str, Callable[[str], None]]] = []
        self.world = world
        self.locks = SlotLocks(self, world.loop.time)
        self._stopped_until = 0.0

    def watch(self) -> None:
        """Set the triggers; call once, after the migrations."""

        async def body(tx: Transaction) -> None:
            await tx.execute("CREATE TEMP TABLE violations (kind TEXT, what TEXT)")
            await tx.execute("CREATE TEMP TABLE watched (kind TEXT)")
            for statement in GROUP_RECORD:
                await tx.execute(statement)
            for name, (event, never, what) in (WATCHES | GROUP_WATCHES).items():
                judge = f"INSERT INTO watched VALUES ('{name}');"
                report = f"INSERT INTO violations SELECT '{name}', {what} WHERE {never};"
                await tx.execute(f"CREATE TEMP TRIGGER watch_{name} {event} BEGIN {judge} {report} END")

        drive(self.inline.transact(body))

    def read(self, sql: str, *args: object) -> list[tuple[object, ...]]:
        """Rows of one query, outside of virtual time: for the checks at the end."""

        async def body(tx: Transaction) -> list[tuple[object, ...]]:
            return [tuple(row) for row in await tx.fetch(sql, *args)]

        return drive(self.inline.snapshot(body))

    def write(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """One transaction at this instant: for the nemesis."""
        return drive(self.inline.transact(body))

    def note(self, kind: str, violations: list[str]) -> None:
        """One fact was judged elsewhere, with these findings: for the checks at the end."""

        async def body(tx: Transaction) -> None:
            await tx.execute("INSERT INTO watched VALUES ($1)", kind)
            for what in violations:
                await tx.execute("INSERT INTO violations VALUES ($1, $2)", kind, what)

        self.write(body)

    def run_and_roll_back(self, body: Callable[[Transaction], Awaitable[T]]) -> None:
        """Every statement runs, the COMMIT is lost."""

        async def lost(tx: Transaction) -> None:
            await body(tx)
            raise _RolledBackError

        try:
            self.write(lost)
        except _RolledBackError:
            pass

    def stop(self, seconds: float) -> None:
        """Let every operation wait for this long (a failover, a checkpoint, a full disk)."""
        self._stopped_until = max(self._stopped_until, self.world.loop.time() + seconds)

    def wait_s(self) -> float:
        """Seconds until the database runs again."""
        return max(0.0, self._stopped_until - self.world.loop.time())


class SimDatabase:
    """The database port of one agent. It says PostgreSQL: there are hints, and several agents, as there."""

    dialect: Literal["sqlite", "postgresql"] = "postgresql"

    def __init__(self, server: DatabaseServer) -> None:
        self._server = server
        self._world = server.world

    def _delays(self) -> tuple[float, float]:
        there, back = self._world.uniform(LATENCY_S), self._world.uniform(LATENCY_S)
        if self._world.faults.take("db_slow"):
            if self._world.rng.random() < 0.5:
                there += self._world.uniform(SLOW_S)
            else:
                back += self._world.uniform(SLOW_S)
        return there + self._server.wait_s(), back

    async def transact(self, body: Callable[[Transaction], Awaitable[T]], *, small: bool = False) -> T:
        """See the port."""
        take = self._world.faults.take
        there, back = self._delays()

        def run() -> T:
            return drive(self._server.inline.transact(body))

        if take("db_refused"):
            await asyncio.sleep(back)
            raise Unreachable("simulated: the database refused")
        if take("db_request_lost"):
            await self._world.ask(lambda: self._server.run_and_roll_back(body), there, back)
            raise CommitUnknown("simulated: the connection was lost while committing, nothing was committed")
        if is_group_write(body) and take("zombie_write"):
            there += self._world.stand_still(HOST.get())
        now_s = self._world.loop.time()
        there = self._server.locks.arrival_s(body, now_s + there) - now_s
        if take("db_landed_late"):
            late_s = there + self._world.uniform(LATE_S)
            self._server.locks.hold(body, now_s + late_s)
            self._world.at_some_time(run, late_s)
            await asyncio.sleep(there)
            raise CommitUnknown("simulated: the connection was lost, the commit lands later")
        lost = take("db_reply_lost")
        result = await self._world.ask(run, there, back, write=True)
        if lost:
            raise CommitUnknown("simulated: the commit landed and its reply was lost")
        return result

    async def snapshot(self, body: Callable[[Transaction], Awaitable[T]]) -> T:
        """See the port."""
        there, back = self._delays()
        if self._world.faults.take("db_refused"):
            await asyncio.sleep(back)
            raise Unreachable("simulated: the database refused")
        return await self._world.ask(lambda: drive(self._server.inline.snapshot(body)), there, back)

    def version(self) -> Hashable | None:
        """See the port: not without asking."""
        return None

    async def notify(self, channel: str, payload: str) -> None:
        """See the port: hints may be lost, and some are."""
        await asyncio.sleep(self._world.uniform(LATENCY_S))
        for host, wanted, on_payload in self._server.listeners:
            if wanted == channel and (host is None or host.alive) and self._world.rng.random() < 0.8:
                self._world.loop.call_later(
                    self._world.uniform(LATENCY_S),
                    self._hand,
                    host,
                    on_payload,
                    payload,
                    context=self._world.loop.world,
                )

    def _hand(self, host: Host | None, on_payload: Callable[[str], None], payload: str) -> None:
        token = HOST.set(host)
        try:
            self._world.loop.call_soon(on_payload, payload)
        finally:
            HOST.reset(token)

    async def listen(self, channel: str, on_payload: Callable[[str], None]) -> None:
        """See the port."""
        self._server.listeners.append((HOST.get(), channel, on_payload))

    async def close(self) -> None:
        """The data stays for the others."""
