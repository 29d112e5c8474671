"""Who is there: one row per broker id, kept alive by heartbeats.

Invariant: a broker id belongs to one instance until its lease has run out by the database's clock, it left, or a process
that starts succeeds it at its address. Two processes can't listen at one address, so an agent that starts where another is
entered is that agent's next process, and a broker keeps its id over a restart, however soon: clients such as kafkajs send
nothing more once one address stands under two ids. Agents behind one address of a load balancer look just the same: each
start then takes the id of one of them, which enters again under a free id; it succeeds nobody, so they never take turns.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.counters import take
from catalog.database import Database, DatabaseError, Transaction
from catalog.group_slots import end_leases

BROKER_ID_FIRST = 1


class BrokerIdTaken(DatabaseError):
    """The broker id asked for belongs to a live agent: choose another, or wait until its lease has run out."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What an agent says of itself. `instance` is unique per process start."""

    instance: str
    host: str
    port: int
    zone: str
    roles: str
    version: str


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One live agent."""

    broker_id: int
    facts: AgentFacts
    lease_until_ms: int


class AgentStore:
    """The `agents` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def register(
        self, facts: AgentFacts, lease_ms: int, broker_id: int | None = None, *, succeeds: bool = False
    ) -> int:
        """Enter under `broker_id`, or the lowest free one; an instance keeps the id it has. Raises BrokerIdTaken.

        With `succeeds`, which is for a process that starts, it takes over at once the id that is entered under its address
        (of several the one silent for longest), and the group slots of the process that is gone are free.
        """

        async def body(tx: Transaction) -> int:
            await take(tx, "agent_change")  # held to the end: registrations run one after the other
            now = await tx.now_ms()
            rows = await tx.fetch(
                "SELECT broker_id, instance, lease_until_ms, host, port FROM agents ORDER BY lease_until_ms, broker_id"
            )
            before = {row[0]: row[1] for row in rows if succeeds and tuple(row[3:]) == (facts.host, facts.port)}
            own = next((row[0] for row in rows if row[1] == facts.instance), None)
            taken = {row[0] for row in rows if row[2] > now and row[1] != facts.instance}
            chosen = broker_id if broker_id is not None else own
            if chosen is None:
                chosen = next(iter(before), None)
            if chosen in before and chosen != own:
                taken.discard(chosen)
                await end_leases(tx, before[chosen])
            if chosen is None:
                chosen = next(n for n in range(BROKER_ID_FIRST, BROKER_ID_FIRST + len(taken) + 1) if n not in taken)
            if chosen in taken:
                raise BrokerIdTaken(
                    f"broker id {chosen} belongs to a live agent; leave broker_id unset or choose another"
                )
            await tx.execute("DELETE FROM agents WHERE broker_id = $1 OR instance = $2", chosen, facts.instance)
            await tx.execute(
                "INSERT INTO agents (broker_id, instance, host, port, zone, roles, version, lease_until_ms) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                chosen,
                facts.instance,
                facts.host,
                facts.port,
                facts.zone,
                facts.roles,
                facts.version,
                now + lease_ms,
            )
            return chosen

        return await self._db.transact(body)

    async def heartbeat(self, broker_id: int, instance: str, lease_ms: int) -> bool:
        """Prolong the lease; False where the id has been taken over: register again."""
        changed = await self._db.transact(
            lambda tx: tx.execute(
                "UPDATE agents SET lease_until_ms = {now_ms} + $3 WHERE broker_id = $1 AND instance = $2",
                broker_id,
                instance,
                lease_ms,
            )
        )
        return changed == 1

    async def leave(self, broker_id: int, instance: str) -> None:
        """Give the id back at once."""
        await self._db.transact(
            lambda tx: tx.execute("DELETE FROM agents WHERE broker_id = $1 AND instance = $2", broker_id, instance)
        )

    async def live(self) -> list[AgentRow]:
        """Live agents by broker id."""
        rows = await self._db.snapshot(
            lambda tx: tx.fetch(
                "SELECT broker_id, lease_until_ms, instance, host, port, zone, roles, version FROM agents "
                "WHERE lease_until_ms > {now_ms} ORDER BY broker_id"
            )
        )
        return [AgentRow(row[0], AgentFacts(*row[2:]), row[1]) for row in rows]
