"""Everything in a run that makes something be deleted, and the watch over what is.

One client deletes records of the run's topics through DeleteRecords; another writes to topics that are deleted again, so that
their records share objects with those that stay. The watch looks at every deletion at the store at the moment it happens.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from broker.objects.memory import MemoryStore
from catalog.sqlite_statements import drive
from catalog.topics import TopicStore
from neve.simulation import batches
from neve.simulation.database import DatabaseServer
from neve.simulation.history import Deletion, History, Key
from neve.simulation.session import CONNECTION_FAILURES, Dialer
from neve.simulation.wire import DELETE_RECORDS, PRODUCE

DELETED_EARLY, DELETED_REFERENCED, GARBAGE_LEFT = "deleted_early", "deleted_referenced", "garbage_left"
DELETIONS = (DELETED_EARLY, DELETED_REFERENCED, GARBAGE_LEFT)
TIMEOUT_S = 5.0
ALL = -1


@dataclass(frozen=True)
class DeletionPlan:
    """What is deleted in a run."""

    records_gap_s: tuple[float, float] | None
    """Between two DeleteRecords; None for none at all."""
    share_max: float
    """Up to which share of what is known written the records are deleted."""
    all_share: float
    """Share of requests that ask for everything there is."""
    topics: int
    """Topics that are created, written to and deleted."""
    retention_ms: int | None
    """Of the second topic."""


class RecordDeleter:
    """Deletes records now and then, until told to stop."""

    def __init__(
        self, plan: DeletionPlan, dialer: Dialer, history: History, keys: Sequence[Key], rng: random.Random
    ) -> None:
        self._plan = plan
        self._dialer = dialer
        self._history = history
        self._keys = list(keys)
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self.stopping = False

    async def run(self) -> None:
        """One request after the other."""
        gap_s = self._plan.records_gap_s
        while gap_s is not None and not self.stopping:
            await asyncio.sleep(self._rng.uniform(*gap_s))
            keys = self._rng.sample(self._keys, self._rng.randint(1, min(2, len(self._keys))))
            wanted = [(key, self._offset(key)) for key in keys]
            try:
                await self._delete(wanted)
            except CONNECTION_FAILURES:
                self._dialer.leave_home()

    def _offset(self, key: Key) -> int:
        if self._rng.random() < self._plan.all_share:
            return ALL
        return self._rng.randint(0, int(self._history.floor(key) * self._plan.share_max))

    async def _delete(self, wanted: list[tuple[Key, int]]) -> None:
        session = await self._dialer.connect()
        floors = {key: self._history.start_floors.get(key, 0) for key, _ in wanted}
        for key, offset in wanted:
            self._history.wants_deleted(key, offset)
        try:
            body = session.codec.delete_records(wanted)
            cursor = await session.call(DELETE_RECORDS, session.codec.generation.delete_records, body, TIMEOUT_S)
            answers = session.codec.deleted(cursor)
            for key, offset in wanted:
                error, log_start = answers[key]
                if error:
                    self._history.told("delete_records", error)
                else:
                    now_s = self._loop.time()
                    self._history.deleted(Deletion(now_s, session.agent, key, offset, log_start, floors[key]))
            session.close()
        except CONNECTION_FAILURES:
            session.abort()
            raise


class PassingTopics:
    """Topics that come and go beside the others. They are created and deleted in the database, as by an agent elsewhere."""

    def __init__(self, server: DatabaseServer, rng: random.Random) -> None:
        self._topics = TopicStore(server.inline)
        self._rng = rng
        self._count = 0

    async def one(self, dialer: Dialer, name: str) -> None:
        """A topic's whole life. What becomes of its records is nobody's business."""
        topic = drive(self._topics.create(name, UUID(int=self._rng.getrandbits(128), version=4), 2, {})).topic
        for _ in range(self._rng.randint(2, 6)):
            try:
                session = await dialer.connect()
                data = batches.encode([b"passing"] * self._rng.randint(1, 5), 1000, -1, -1, -1)
                key = (name, self._rng.randrange(2))
                body = session.codec.produce([(key, bytes(data))], -1, 5000, session.topics)
                await session.call(PRODUCE, session.codec.generation.produce, body, TIMEOUT_S)
                session.close()
            except CONNECTION_FAILURES:
                dialer.leave_home()
            await asyncio.sleep(self._rng.uniform(0.05, 1.0))
        drive(self._topics.delete(topic))


class DeletionWatch:
    """Judges deletions at the store, and at the end what was left behind."""

    def __init__(self, server: DatabaseServer, store: MemoryStore, delay_ms: int) -> None:
        self._server = server
        self._store = store
        self._delay_ms = delay_ms

    def on_delete(self, keys: Sequence[str]) -> None:
        """Objects are about to be deleted."""
        there = dict.fromkeys(self._keys())
        for key in keys:
            if key not in there:
                continue
            early = self._server.read(
                "SELECT neve_now_ms() - condemned_ms FROM condemned WHERE name = $1 AND condemned_ms > neve_now_ms() - $2",
                key,
                self._delay_ms,
            )
            self._server.note(DELETED_EARLY, [f"object {key} {age} ms after it was condemned" for (age,) in early])
            used = self._server.read(
                "SELECT e.topic, e.shard, e.offset_first FROM objects o JOIN extents e ON e.object_id = o.object_id "
                "WHERE o.name = $1",
                key,
            )
            self._server.note(
                DELETED_REFERENCED, [f"object {key} holds shard {t}/{s} offset {o}" for t, s, o in used[:3]]
            )

    def _keys(self) -> list[str]:
        return drive(self._list())

    async def _list(self) -> list[str]:
        return [info.key async for page in self._store.list("") for info in page]

    def garbage(self) -> list[str]:
        """What nothing refers to and could be gone: objects of dead epochs, shards of deleted topics."""
        used = {
            str(name): None
            for (name,) in self._server.read(
                "SELECT o.name FROM objects o WHERE o.extents_live > 0 UNION ALL SELECT o.name FROM objects o "
                "JOIN epochs e ON e.epoch = o.object_id >> 32 WHERE e.retired = 0"
            )
        }
        live = {str(epoch): None for (epoch,) in self._server.read("SELECT epoch FROM epochs WHERE retired = 0")}
        left = [
            key for key in self._keys() if "/segments/" in key and key not in used and key.split("/")[-2] not in live
        ]
        left += [
            f"shard {topic}/{shard} of a deleted topic"
            for topic, shard in self._server.read(
                "SELECT s.topic, s.shard FROM shards s JOIN topics t ON t.topic = s.topic WHERE t.deleted_ms IS NOT NULL"
            )
        ]
        return left
