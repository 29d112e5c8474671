"""Group slots: which agent coordinates which groups, leased by the database's clock under a fencing epoch.

Invariants: a slot has at most one live holder; each change of holder raises its epoch; a write that names an older epoch,
or comes after its lease ran out, is refused (`held_slots`, in the writer's transaction).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.database import Columns, Database, Transaction

_SLOT: Columns = (("slot", "integer"),)
_HELD: Columns = (("slot", "integer"), ("epoch", "bigint"))


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot as the database knows it. `live` while its lease runs; `idle_ms` since it ended; host and port are None
    where the holder isn't among the live agents any more."""

    slot: int
    holder: str
    broker_id: int
    epoch: int
    live: bool
    idle_ms: int
    host: str | None
    port: int | None
    zone: str


class GroupSlotStore:
    """The `group_slots` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def claim(self, slots: Sequence[int], instance: str, broker_id: int, lease_ms: int) -> dict[int, int]:
        """Take those of `slots` that nobody holds; slot -> epoch of those that were taken."""

        async def body(tx: Transaction) -> dict[int, int]:
            rows = [(slot,) for slot in sorted(slots)]
            await tx.execute_rows(
                "INSERT INTO group_slots (slot, holder, broker_id, epoch, lease_until_ms) "
                "SELECT r.slot, '', 0, 0, 0 FROM {rows} AS r WHERE true ON CONFLICT (slot) DO NOTHING",
                _SLOT,
                rows,
            )
            found = await _locked(tx, [slot for (slot,) in rows])
            now = await tx.now_ms()
            taken = {slot: epoch + 1 for slot, (epoch, until) in found.items() if until <= now}
            await tx.execute_rows(
                "UPDATE group_slots SET holder = $1, broker_id = $2, lease_until_ms = $3, epoch = r.epoch "
                "FROM {rows} AS r WHERE group_slots.slot = r.slot",
                _HELD,
                list(taken.items()),
                instance,
                broker_id,
                now + lease_ms,
            )
            return taken

        return await self._db.transact(body)

    async def renew(self, held: Mapping[int, int], lease_ms: int) -> frozenset[int]:
        """Prolong the leases of slot -> epoch; the slots that are lost."""

        async def body(tx: Transaction) -> frozenset[int]:
            kept = await held_slots(tx, held)
            now = await tx.now_ms()
            await tx.execute_rows(
                "UPDATE group_slots SET lease_until_ms = $1 FROM {rows} AS r WHERE group_slots.slot = r.slot",
                _SLOT,
                [(slot,) for slot in sorted(kept)],
                now + lease_ms,
            )
            return frozenset(held) - kept

        return await self._db.transact(body)

    async def release(self, held: Mapping[int, int]) -> None:
        """Give slots back at once; those that are lost already stay as they are."""

        async def body(tx: Transaction) -> None:
            kept = await held_slots(tx, held)
            await tx.execute_rows(
                "UPDATE group_slots SET lease_until_ms = {now_ms} FROM {rows} AS r WHERE group_slots.slot = r.slot",
                _SLOT,
                [(slot,) for slot in sorted(kept)],
            )

        await self._db.transact(body)

    async def all(self) -> dict[int, SlotRow]:
        """Every slot that was ever held, with its holder's address."""

        async def body(tx: Transaction) -> dict[int, SlotRow]:
            now = await tx.now_ms()
            rows = await tx.fetch(
                "SELECT s.slot, s.holder, COALESCE(a.broker_id, s.broker_id), s.epoch, s.lease_until_ms, a.host, a.port, a.zone "
                "FROM group_slots AS s LEFT JOIN agents AS a ON a.instance = s.holder AND a.lease_until_ms > $1 "
                "ORDER BY s.slot",
                now,
            )
            return {
                slot: SlotRow(slot, holder, broker_id, epoch, until > now, max(now - until, 0), host, port, zone or "")
                for slot, holder, broker_id, epoch, until, host, port, zone in rows
            }

        return await self._db.snapshot(body)


async def held_slots(tx: Transaction, held: Mapping[int, int]) -> frozenset[int]:
    """Hold the rows of these slots to the end of the transaction; those still held under their epoch (slot -> epoch)."""
    found = await _locked(tx, sorted(held))
    now = await tx.now_ms()
    return frozenset(slot for slot, (epoch, until) in found.items() if epoch == held[slot] and until > now)


async def end_leases(tx: Transaction, instance: str) -> None:
    """Free the slots of an instance that is known to be gone. Should it live after all, its writes are refused."""
    rows = await tx.fetch("SELECT slot FROM group_slots WHERE holder = $1 AND lease_until_ms > {now_ms}", instance)
    found = await _locked(tx, sorted(slot for (slot,) in rows))
    await tx.execute_rows(
        "UPDATE group_slots SET lease_until_ms = {now_ms} FROM {rows} AS r WHERE group_slots.slot = r.slot "
        "AND group_slots.epoch = r.epoch AND group_slots.holder = $1",
        _HELD,
        [(slot, epoch) for slot, (epoch, _) in found.items()],
        instance,
    )


async def _locked(tx: Transaction, slots: Sequence[int]) -> dict[int, tuple[int, int]]:
    """slot -> (epoch, lease_until_ms), locked one after the other by slot."""
    rows = await tx.fetch_rows(
        "SELECT s.slot, s.epoch, s.lease_until_ms FROM {rows} AS r JOIN group_slots AS s ON s.slot = r.slot "
        "ORDER BY s.slot {for_update:s}",
        _SLOT,
        [(slot,) for slot in slots],
    )
    return {slot: (epoch, until) for slot, epoch, until in rows}
