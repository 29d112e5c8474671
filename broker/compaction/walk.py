"""In which order small-object compaction looks at shards, and from which offset on.

Topics that keep their records equally long stand together, and an object is filled from such alone: what lies in one
object then dies at about the same time, and no short-lived topic's bytes are kept by a long-lived one's.

Owns: every live shard (of its share) has its turn in every walk, and is looked at to its end; what needs no looking at again is left out,
until all of it is looked at anew (`forget_s`), because old extents may be merged over longer times than young ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from broker.compaction.plan import MergeLimits, final_until
from broker.deletion.plan import policy_of
from catalog.compaction import SettledShard
from catalog.sequence import ShardKey
from catalog.topics import TopicRow, TopicStore

Kind = tuple[int, int]
"""(retention.ms, retention.bytes) of a topic; -1 for none."""
Position = tuple[int, int, int]
"""(topic, shard, offset to look at from)."""


class Share(NamedTuple):
    """Which part of all shards a walk is over: number 0 to `of` - 1. Walks may overlap: every swap checks its inputs."""

    number: int
    of: int


class ShardWalk:
    """See the module. `broker_values` are the defaults of topics, by Kafka's names."""

    def __init__(
        self,
        topics: TopicStore,
        broker_values: Callable[[], Mapping[str, str]],
        limits: MergeLimits,
        forget_s: float,
        share: Share,
    ) -> None:
        self._store = topics
        self._broker_values = broker_values
        self._limits = limits
        self._forget_s = forget_s
        self._share = share
        self._forgot_s: float | None = None
        self._changed = 0
        self._topics: dict[int, TopicRow] = {}
        self._ahead: deque[tuple[Kind, ShardKey]] = deque()
        self._final: dict[ShardKey, int] = {}
        self._resume: dict[ShardKey, int] = {}
        self.unfinished = False
        """Something was found to merge: what comes of it may be merged again."""

    @property
    def ended(self) -> bool:
        """Every shard has had its turn, or the walk hasn't begun."""
        return not self._ahead

    async def begin(self, now_s: float) -> None:
        """Start over, with the topics there are now. Raises DatabaseError."""
        for row in await self._store.changed_since(self._changed):
            self._topics[row.topic] = row
            self._changed = max(self._changed, row.changed)
            if row.deleted_ms is not None:
                del self._topics[row.topic]
        if self._forgot_s is None or now_s - self._forgot_s >= self._forget_s:
            self._forgot_s = now_s
            self._final.clear()
        broker = self._broker_values()
        kinds = [(_kind(row, broker), row) for row in self._topics.values()]
        self._ahead = deque(
            sorted(
                (kind, (row.topic, shard))
                for kind, row in kinds
                for shard in range(row.shards)
                if (row.topic + shard) % self._share.of == self._share.number
            )
        )
        self._resume.clear()
        self.unfinished = False

    def next(self, count: int, kind: Kind | None) -> tuple[Kind | None, list[Position]]:
        """The next shards, at most `count`, all of one kind: of `kind`, of which there may be none, or of any where it is None."""
        taken: list[Position] = []
        while self._ahead and len(taken) < count and kind in (None, self._ahead[0][0]):
            kind, key = self._ahead.popleft()
            taken.append((*key, self._resume.get(key, self._final.get(key, 0))))
        return kind, taken

    def put_back(self, kind: Kind | None, keys: Sequence[ShardKey]) -> None:
        """These, which `next` gave, are to be looked at (again) first."""
        assert kind is not None
        self._ahead.extendleft((kind, key) for key in reversed(keys))

    def topic_id(self, topic: int) -> UUID:
        """The Kafka id of a topic of this walk."""
        return self._topics[topic].topic_id

    def found_nothing(self, kind: Kind | None, shard: SettledShard) -> None:
        """There is nothing to merge among these extents of a shard: go on behind them, where there are more."""
        key, extents = (shard.topic, shard.shard), shard.extents
        if key not in self._resume and (final := final_until(extents, self._limits)):
            self._final[key] = extents[final - 1].extent.offset_next
        if shard.more:
            self._resume[key] = extents[len(extents) // 2].extent.offset_first  # a group may begin before the cut
            self.put_back(kind, [key])
        else:
            self._resume.pop(key, None)

    def begin_anew(self) -> None:
        """Something went wrong, or somebody else did the work meanwhile."""
        self._ahead.clear()
        self._final.clear()
        self._resume.clear()


def _kind(row: TopicRow, broker: Mapping[str, str]) -> Kind:
    policy = policy_of(row.config, broker)
    return (-1, -1) if policy is None else (policy.retention_ms, policy.retention_bytes)
