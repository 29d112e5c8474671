"""Outcomes of this agent's commits on their way into the bucket: in the header of a later flush, or in a journal object.

Off the hot path: a commit appends one reference here; rows are made when they are packed, some dozens at a time. Owns: an
outcome waits until an object with it is stored; one that rides on an upload which is slow is written by itself as well.
Outcomes may be in the bucket twice, never in two forms. Bounded: beyond `waiting_max` the oldest are dropped, and counted;
the next snapshot of the metadata covers them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from broker.objects.port import ObjectStore, ObjectStoreError
from broker.services import Clock
from catalog.database import Database, DatabaseError
from catalog.journal_topics import topics_since
from catalog.sequence import BatchFacts, BatchOutcome, Extent, last_sequence
from schemas.journal import Entry, ProducerRow, pack_block, pack_object
from schemas.settings import Settings

log = structlog.get_logger(__name__)

CARRIED_MAX = 64
"""Outcomes in one flush header: packing them takes a fraction of a millisecond."""
CARRIED_ROWS_MAX = 3_000
"""Rows in one flush header, about 160 KiB; larger outcomes are left to a journal object."""
CARRY_AFTER_S = 0.2
"""Fewer than that many ride along once the oldest has waited this long."""
TOPICS_S = 0.2
"""At least so long a round waits for the database."""
PACKED_AT_ONCE = 256
"""Outcomes packed before others on the loop have their turn."""


class Noted(NamedTuple):
    """One commit, not yet in the bucket. References only."""

    object_id: int
    name: str
    bytes: int
    batches: Sequence[BatchFacts]
    outcomes: Sequence[BatchOutcome]
    extents: Sequence[Extent]
    since_s: float


class Carried(NamedTuple):
    """Outcomes that ride on one upload."""

    notes: tuple[Noted, ...]
    packed: bytes


def entry_of(noted: Noted) -> Entry:
    """What is journalled of a commit: its extents, and its accepted batches of idempotent producers."""
    producers: list[ProducerRow] = [
        (
            batch.topic, batch.shard, batch.producer_id, batch.producer_epoch, batch.base_sequence,
            last_sequence(batch.base_sequence, batch.offset_count), outcome.offset, outcome.append_ms,
        )
        for batch, outcome in zip(noted.batches, noted.outcomes, strict=True)
        if batch.producer_id >= 0 and not outcome.error and not outcome.duplicate
    ]  # fmt: skip
    return Entry(noted.object_id, noted.name, noted.bytes, noted.extents, producers)


class Journal:
    """`run` belongs to the agent's supervisor. `interval_ms` 0 turns it off."""

    def __init__(
        self,
        store: ObjectStore,
        database: Database,
        clock: Clock,
        settings: Settings,
        *,
        cluster_id: str,
        instance: str,
    ) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._interval_s = settings.journal_interval_ms / 1000
        self._waiting_max = settings.journal_waiting_max
        self._prefix = f"{cluster_id}/journal/{instance}"
        self._waiting: deque[Noted] = deque()
        self._riding: dict[int, Carried] = {}
        self._numbers = 0
        self._topics_seen = 0
        self.objects = 0
        self.dropped = 0
        self.last_success_s: float | None = None
        """Monotonic time of the last round that left nothing behind."""

    @property
    def enabled(self) -> bool:
        """Is anything journalled?"""
        return self._interval_s > 0

    @property
    def oldest_s(self) -> float | None:
        """Monotonic time of the oldest outcome that is not in the bucket yet."""
        riding = [carried.notes[0].since_s for carried in self._riding.values()]
        waiting = [self._waiting[0].since_s] if self._waiting else []
        return min(riding + waiting, default=None)

    def note(
        self,
        object_id: int,
        name: str,
        bytes_: int,
        batches: Sequence[BatchFacts],
        outcomes: Sequence[BatchOutcome],
        extents: Sequence[Extent],
    ) -> None:
        """An object is committed."""
        if self._interval_s <= 0 or not extents:
            return
        self._waiting.append(Noted(object_id, name, bytes_, batches, outcomes, extents, self._clock.monotonic()))
        if len(self._waiting) > self._waiting_max:
            self._waiting.popleft()
            self.dropped += 1

    def carry(self) -> Carried | None:
        """What the next flush takes along, if there is enough or it has waited; `settled` must follow."""
        waiting = self._waiting
        if not waiting:
            return None
        if len(waiting) < CARRIED_MAX and self._clock.monotonic() - waiting[0].since_s < CARRY_AFTER_S:
            return None
        notes: list[Noted] = []
        rows = 0
        while waiting and len(notes) < CARRIED_MAX:
            rows += len(waiting[0].batches) + len(waiting[0].extents)
            if rows > CARRIED_ROWS_MAX:
                break
            notes.append(waiting.popleft())
        if not notes:
            return None
        carried = Carried(tuple(notes), pack_block([entry_of(noted) for noted in notes], self._clock.now_ms()))
        self._riding[id(carried)] = carried
        return carried

    def settled(self, carried: Carried | None, *, stored: bool) -> None:
        """The upload that carried these ended; without it being stored they wait again, in front."""
        if carried is None or self._riding.pop(id(carried), None) is None:
            return
        if not stored:
            self._waiting.extendleft(reversed(carried.notes))

    async def run(self) -> None:
        """Write what no flush has carried, for ever."""
        while True:
            await asyncio.sleep(self._interval_s or 3600.0)
            if self.enabled:
                await self.round()

    async def round(self) -> None:
        """Put what waits into the bucket; what fails is tried again by the next round."""
        try:
            while await self._write([]):
                pass
            # Behind the outcomes, and not for long: they must get out while the database is away.
            async with asyncio.timeout(max(self._interval_s, TOPICS_S)):
                topics = await topics_since(self._database, self._topics_seen)
            if topics:
                await self._write(topics)
            self.last_success_s = self._clock.monotonic()
        except (ObjectStoreError, DatabaseError, TimeoutError) as error:
            log.warning("the journal could not be written, trying again", error=str(error), waiting=len(self._waiting))

    async def close(self) -> None:
        """The last round: whatever was committed is in the bucket when this returns, if the store takes it."""
        if self.enabled and (self._waiting or self._riding):
            await self.round()

    async def _write(self, topics: list[list[object]]) -> bool:
        """One journal object with what waits; False where nothing did."""
        late_s = self._clock.monotonic() - self._interval_s
        riding = [noted for carried in self._riding.values() for noted in carried.notes if noted.since_s <= late_s]
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not waiting and not riding and not topics:
            return False
        try:
            entries: list[Entry] = []
            for at, noted in enumerate([*riding, *waiting]):
                entries.append(entry_of(noted))
                if at % PACKED_AT_ONCE == PACKED_AT_ONCE - 1:
                    await asyncio.sleep(0)
            self._numbers += 1
            body = pack_object(pack_block(entries, self._clock.now_ms()), topics)
            await self._store.put(f"{self._prefix}/{self._numbers:012d}", [body])
        except BaseException:
            self._waiting.extendleft(reversed(waiting))
            raise
        self.objects += 1
        for key in [key for key, carried in self._riding.items() if carried.notes[-1].since_s <= late_s]:
            self._riding.pop(key)  # they are in the bucket, whatever becomes of the upload
        if topics:
            self._topics_seen = max(int(str(row[-1])) for row in topics)
        return bool(self._waiting)
