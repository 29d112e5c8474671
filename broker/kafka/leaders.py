"""Which agent clients are sent to for a partition: rendezvous hashing over the agents told. Pure.

Any agent takes any write and serves any read, so a "leader" only spreads the load. With rendezvous hashing an agent that
comes or goes moves its own share of the partitions alone, and all agents that see the same brokers name the same
leader, so that batches of one partition meet in one agent's flush.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from uuid import UUID

_MIX = 0x9E37_79B9_7F4A_7C15
_MASK = (1 << 64) - 1
REMEMBERED = 4096
"""Topics whose leaders are remembered; beyond it the longest unused is worked out again."""


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


def leaders_of(topic_id: UUID, shards: int, broker_ids: Sequence[int]) -> tuple[int, ...]:
    """The broker id of each shard's leader. `broker_ids` is not empty."""
    if len(broker_ids) == 1:
        return (broker_ids[0],) * shards
    seeds = [(_hash(broker_id.to_bytes(8, "big", signed=True)), broker_id) for broker_id in broker_ids]
    leaders = []
    for shard in range(shards):
        key = _hash(topic_id.bytes + shard.to_bytes(4, "big"))
        leaders.append(max(seeds, key=lambda seed: (((key ^ seed[0]) * _MIX) & _MASK, seed[1]))[1])
    return tuple(leaders)


class Leaders:
    """`leaders_of` with a memory, for each set of agents that clients are told of."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[UUID, int, tuple[int, ...]], tuple[int, ...]] = OrderedDict()

    def of(self, topic_id: UUID, shards: int, broker_ids: tuple[int, ...]) -> tuple[int, ...]:
        """The broker id of each shard's leader."""
        key = (topic_id, shards, broker_ids)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = leaders_of(topic_id, shards, broker_ids)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found

    def replicas_of(
        self, topic_id: UUID, shards: int, leading: tuple[int, ...], zones: Sequence[tuple[int, ...]]
    ) -> list[tuple[int, ...]]:
        """What is told as the replicas of each shard: its leader among `leading`, then its leader in each of the zones."""
        columns = [self.of(topic_id, shards, broker_ids) for broker_ids in (leading, *zones)]
        return [tuple(dict.fromkeys(nodes)) for nodes in zip(*columns, strict=True)]
