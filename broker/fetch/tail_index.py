"""The newest extents of each shard as this agent knows them: own commits, and what polling read from the database.

Pure. Owns: **an answer never spans a gap**. Each shard's extents are contiguous up to its known high watermark; a commit
whose first offset is not the known end means that another agent committed in between, so what was known is dropped and
the shard starts over from the new run: everything older is asked of the database. High watermark and log start never go
back.

Bounded by `extents_max` extents in all; the oldest learned leave first, from the front of their shard.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from catalog.sequence import Extent, ShardKey


class ShardTail:
    """A contiguous run of extents `[offset_first, high_watermark)` of one shard; extents before `head` have left."""

    __slots__ = ("extents", "head", "high_watermark", "live", "log_start", "nexts", "offset_first", "seen")

    def __init__(self, high_watermark: int, log_start: int, seen: int = 0) -> None:
        self.extents: list[Extent] = []
        self.nexts: list[int] = []
        self.head = 0
        self.offset_first = high_watermark
        self.high_watermark = high_watermark
        self.log_start = log_start
        self.seen = max(seen, high_watermark)
        """The highest high watermark heard of: what is answered. It is beyond the run while the run isn't up to date."""
        self.live = True

    def covers(self, offset: int) -> bool:
        """True where an answer for `offset` can be given from here; at the high watermark the answer is "nothing yet"."""
        if offset == self.high_watermark and self.seen > offset:
            return False  # there is more, and it isn't known here
        return self.offset_first <= offset <= self.high_watermark and offset >= self.log_start

    def find(self, offset: int) -> int:
        """Position in `extents` of the extent that holds `offset`; len(extents) at the high watermark."""
        return bisect_right(self.nexts, offset, self.head)

    def append(self, extent: Extent) -> None:
        """Add the next extent; it must begin where the run ends."""
        assert extent.offset_first == self.high_watermark, "the tail index never spans a gap"
        if self.head == len(self.extents):
            self.offset_first = extent.offset_first
        self.extents.append(extent)
        self.nexts.append(extent.offset_next)
        self.high_watermark = extent.offset_next
        self.seen = max(self.seen, extent.offset_next)

    def drop_first(self) -> None:
        """Forget the oldest extent."""
        self.offset_first = self.nexts[self.head]
        self.head += 1
        if self.head > 64 and self.head * 2 > len(self.extents):
            del self.extents[: self.head]
            del self.nexts[: self.head]
            self.head = 0

    def __len__(self) -> int:
        return len(self.extents) - self.head


class TailIndex:
    """The tails of all shards this agent has met."""

    def __init__(self, extents_max: int) -> None:
        self._extents_max = extents_max
        self._shards: dict[ShardKey, ShardTail] = {}
        self._order: deque[ShardTail] = deque()
        self._floors: dict[ShardKey, int] = {}
        """The highest high watermark heard of per shard: an older snapshot that arrives late must not bring an older one
        back, and what a consumer was told from the database must not be taken back from here."""
        self._starts: dict[ShardKey, int] = {}
        """The highest log start heard of per shard, where it isn't 0."""
        self.extents = 0

    def tail(self, key: ShardKey) -> ShardTail | None:
        """What is known of a shard, or None."""
        return self._shards.get(key)

    def commit(self, extent: Extent, log_start: int) -> bool:
        """Take a run this agent has just committed. False where it did not continue what was known (a gap)."""
        key = (extent.topic, extent.shard)
        log_start = self.raise_log_start(key, log_start)
        tail = self._shards.get(key)
        if tail is not None and extent.offset_next <= tail.high_watermark:
            return True  # polling was faster than the reply to our own commit
        continues = tail is None or extent.offset_first == tail.high_watermark
        if not continues:
            self.drop(key)
            tail = None
        if tail is None:
            tail = self._shards[key] = ShardTail(extent.offset_first, log_start, self._floors.get(key, 0))
        self._append(tail, extent)
        self._floors[key] = tail.seen
        return continues

    def raise_log_start(self, key: ShardKey, log_start: int) -> int:
        """Nothing below this is answered from here any more; returns the highest one heard of."""
        known = self._starts.get(key, 0)
        if log_start <= known:
            return known
        self._starts[key] = log_start
        tail = self._shards.get(key)
        if tail is not None:
            tail.log_start = log_start
        return log_start

    def learn(self, key: ShardKey, high_watermark: int, log_start: int, extents: Sequence[Extent]) -> bool:
        """Take what one database snapshot says: `extents` are contiguous. True where the known end moved.

        Where `extents` don't reach the high watermark, or don't join what is known, nothing older is kept that could
        be served across the hole: either the tail ends at the snapshot's high watermark afterwards, or its run is
        unchanged and only its `seen` moves.
        """
        log_start = self.raise_log_start(key, log_start)
        tail = self._shards.get(key)
        reach = extents[-1].offset_next if extents else high_watermark
        late = high_watermark < self._floors.get(key, 0)
        if not late:
            self._floors[key] = high_watermark
            if tail is not None:
                tail.seen = max(tail.seen, high_watermark)
        if reach != high_watermark or late:
            return False
        if tail is not None:
            if high_watermark <= tail.high_watermark:
                return False
            fresh = [extent for extent in extents if extent.offset_next > tail.high_watermark]
            if fresh and fresh[0].offset_first == tail.high_watermark:
                for extent in fresh:
                    self._append(tail, extent)
                return True
            self.drop(key)
        first = extents[0].offset_first if extents else high_watermark
        tail = self._shards[key] = ShardTail(first, log_start)
        for extent in extents:
            self._append(tail, extent)
        return True

    def seed(self, key: ShardKey, high_watermark: int, log_start: int, extents: Sequence[Extent]) -> None:
        """Like `learn`, but replaces a tail that begins later: a reader is about to walk through these extents."""
        tail = self._shards.get(key)
        if (
            tail is not None
            and extents
            and tail.high_watermark == high_watermark == extents[-1].offset_next
            and extents[0].offset_first < tail.offset_first
            and len(extents) <= self._extents_max // 2
        ):
            self.drop(key)
        self.learn(key, high_watermark, log_start, extents)

    def drop(self, key: ShardKey) -> None:
        """Forget what is known of a shard: the database is asked next."""
        tail = self._shards.pop(key, None)
        if tail is not None:
            tail.live = False
            self.extents -= len(tail)
            self._floors[key] = max(self._floors.get(key, 0), tail.seen)

    def forget(self, key: ShardKey) -> None:
        """The shard is gone for good."""
        self.drop(key)
        self._floors.pop(key, None)
        self._starts.pop(key, None)

    def _append(self, tail: ShardTail, extent: Extent) -> None:
        tail.append(extent)
        self._order.append(tail)
        self.extents += 1
        while self.extents > self._extents_max:
            oldest = self._order.popleft()
            if oldest.live:
                oldest.drop_first()
                self.extents -= 1
        if len(self._order) > 2 * self._extents_max:
            self._order = deque(tail for tail in self._order if tail.live)
