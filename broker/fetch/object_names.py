"""Where objects are (their keys), by object id; bounded, refilled from the database.

Own commits and reads of extents fill it. Also judges age: an object this agent has learned of as new, less than
`cold_age_s` ago, is recent; all others go through the cold path.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from broker.fetch.block_cache import StoredObject
from broker.fetch.shard_reads import Question, ShardReads
from broker.objects.port import NotFound
from broker.services import Clock
from catalog.sequence import Extent


class ObjectNames:
    """See the module. The least recently added leave first."""

    def __init__(self, reads: ShardReads, clock: Clock, *, names_max: int, cold_age_s: float) -> None:
        self._reads = reads
        self._clock = clock
        self._names_max = names_max
        self._cold_age_s = cold_age_s
        self._names: OrderedDict[int, StoredObject] = OrderedDict()
        self._new_since_s: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def get(self, object_id: int) -> StoredObject | None:
        """Where an object is, if known here."""
        return self._names.get(object_id)

    def learn(self, objects: Mapping[int, StoredObject], *, new: bool = False) -> None:
        """Remember objects; `new` where they have just been committed, here or elsewhere."""
        now_s = self._clock.monotonic()
        for object_id, stored in objects.items():
            self._names[object_id] = stored
            if new:
                self._new_since_s[object_id] = now_s
        while len(self._names) > self._names_max:
            self._names.popitem(last=False)
        while self._new_since_s and next(iter(self._new_since_s.values())) < now_s - self._cold_age_s:
            self._new_since_s.popitem(last=False)

    def recent(self, object_id: int) -> bool:
        """True for the hot path."""
        since_s = self._new_since_s.get(object_id)
        return since_s is not None and self._clock.monotonic() - since_s < self._cold_age_s

    async def find(self, extent: Extent) -> StoredObject:
        """Where an extent's object is; asks the database if need be. Raises NotFound, DatabaseError."""
        stored = self._names.get(extent.object_id)
        if stored is None:
            # by its last offset: the log may begin inside the extent, and its first one be out of range
            [answer] = await self._reads.ask([Question(extent.topic, extent.shard, extent.offset_next - 1, 1)])
            if answer is not None:
                self.learn(answer.objects)
                stored = answer.objects.get(extent.object_id)
        if stored is None:
            raise NotFound(
                f"the database no longer refers to object {extent.object_id} at offset {extent.offset_first}"
            )
        return stored
