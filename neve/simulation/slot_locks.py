"""Row locks of group slots, as PostgreSQL holds them while a commit is on its way.

A transaction that lands late has run its statements and waits for its COMMIT to arrive: meanwhile its rows are locked, and
others that want them wait. For objects that makes no difference (a commit is recognised by its object), so only slots
are locked here. Which slots a transaction locks is found by running it and rolling it back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from catalog.database import Columns, Row, Transaction

if TYPE_CHECKING:
    from neve.simulation.database import DatabaseServer

AFTER_S = 0.001
Body = Callable[[Transaction], Awaitable[Any]]


def is_group_write(body: Body) -> bool:
    """Is this a coordinator's write of states and offsets?"""
    return getattr(body, "__qualname__", "").startswith("GroupStore.apply.")


class SlotLocks:
    """The locks of one database."""

    def __init__(self, server: DatabaseServer, now_s: Callable[[], float]) -> None:
        self._server = server
        self._now_s = now_s
        self._until_s: dict[int, float] = {}

    def hold(self, body: Body, until_s: float) -> None:
        """`body` lands at `until_s`: lock its slots until then."""
        for slot in self._slots(body):
            self._until_s[slot] = max(self._until_s.get(slot, 0.0), until_s)

    def arrival_s(self, body: Body, arrival_s: float) -> float:
        """When a transaction takes effect that arrives at `arrival_s`."""
        now_s = self._now_s()
        self._until_s = {slot: until_s for slot, until_s in self._until_s.items() if until_s >= now_s}
        if not self._until_s:
            return arrival_s
        held = [self._until_s[slot] for slot in self._slots(body) if slot in self._until_s]
        return max(arrival_s, *(until_s + AFTER_S for until_s in held)) if held else arrival_s

    def _slots(self, body: Body) -> list[int]:
        spies: list[_Spy] = []

        async def spied(tx: Transaction) -> None:
            spies.append(_Spy(tx))
            await body(spies[-1])

        try:
            self._server.run_and_roll_back(spied)
        except Exception:
            return []  # it will fail in its turn
        return spies[-1].slots


class _Spy:
    """A transaction that notes which slots are locked."""

    def __init__(self, tx: Transaction) -> None:
        self.slots: list[int] = []
        self._tx = tx

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        return await self._tx.fetch(sql, *args)

    async def execute(self, sql: str, *args: Any) -> int:
        return await self._tx.execute(sql, *args)

    async def fetch_rows(self, sql: str, columns: Columns, rows: Sequence[Row], *args: Any) -> list[Row]:
        if "group_slots" in sql and "{for_update" in sql:
            self.slots += [row[0] for row in rows]
        return await self._tx.fetch_rows(sql, columns, rows, *args)

    async def execute_rows(self, sql: str, columns: Columns, rows: Sequence[Row], *args: Any) -> int:
        return await self._tx.execute_rows(sql, columns, rows, *args)

    async def now_ms(self) -> int:
        return await self._tx.now_ms()

    async def version(self) -> Any:
        return await self._tx.version()
