"""Which slot coordinates a group, and which agent should hold a slot. Pure.

Every agent and every version must agree on the slot of a group, so the hash never changes. Rendezvous hashing spreads the
slots over the live agents and moves only the slots of an agent that comes or goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from crc32c import crc32c

SLOTS = 64


def slot_of(group_id: str) -> int:
    """The slot of a group, 0..63."""
    return int(crc32c(group_id.encode())) % SLOTS


def preferred_holder(slot: int, broker_ids: Sequence[int]) -> int:
    """The broker id that should hold a slot among the live ones, which aren't none."""
    return max(broker_ids, key=lambda broker_id: (crc32(f"{slot}/{broker_id}/{slot}".encode()), broker_id))
