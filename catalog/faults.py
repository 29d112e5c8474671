"""Fault rules as they are stored: what every agent of a staging cluster lets strike, until when by the database's clock.

Invariants: a rule never changes; numbers are never used again; a rule whose time is over is never read.
"""

from __future__ import annotations

from typing import NamedTuple

from catalog.counters import take
from catalog.database import Database, Transaction
from schemas.fault_points import FaultRule, WrongFault

_COUNTER = "fault"


class StoredFault(NamedTuple):
    """A rule and the milliseconds it has left; None where it has no end."""

    rule: FaultRule
    left_ms: int | None


class FaultStore:
    """The table `faults`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def read(self) -> list[StoredFault]:
        """The rules in force, by number."""

        async def body(tx: Transaction) -> list[StoredFault]:
            now_ms = await tx.now_ms()
            rows = await tx.fetch(
                "SELECT fault, point, rate, pattern, delay_ms, times, until_ms FROM faults"
                " WHERE until_ms IS NULL OR until_ms > $1 ORDER BY fault",
                now_ms,
            )
            return [
                StoredFault(
                    FaultRule(str(point), float(rate), str(pattern), int(delay_ms), times, int(number)),
                    None if until_ms is None else int(until_ms) - now_ms,
                )
                for number, point, rate, pattern, delay_ms, times, until_ms in rows
            ]

        return await self._db.snapshot(body)

    async def add(self, rule: FaultRule, for_ms: int | None, *, rules_max: int) -> int:
        """Store a rule, which ends by itself after `for_ms`; returns its number. Raises WrongFault where there are too many."""

        async def body(tx: Transaction) -> int:
            number = await take(tx, _COUNTER)  # held to the end: adds run one after the other
            now_ms = await tx.now_ms()
            await tx.execute("DELETE FROM faults WHERE until_ms <= $1", now_ms)
            [(count,)] = await tx.fetch("SELECT count(*) FROM faults")
            if count >= rules_max:
                raise WrongFault(f"{count} faults are set, {rules_max} may be (faults_max): remove some")
            await tx.execute(
                "INSERT INTO faults (fault, point, rate, pattern, delay_ms, times, until_ms)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7)",
                number,
                rule.point,
                rule.rate,
                rule.pattern,
                rule.delay_ms,
                rule.times,
                None if for_ms is None else now_ms + for_ms,
            )
            return number

        return await self._db.transact(body)

    async def remove(self, number: int | None) -> int:
        """Remove one rule, or all; returns how many there were."""

        async def body(tx: Transaction) -> int:
            if number is None:
                return await tx.execute("DELETE FROM faults")
            return await tx.execute("DELETE FROM faults WHERE fault = $1", number)

        return await self._db.transact(body)
