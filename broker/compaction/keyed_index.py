"""Which offset is the latest of each key, over the part of a log that hasn't been compacted yet. Pure.

Bounded: at most `keys_max` keys. Where there are more, the index ends at the last batch that fitted, that is how far this
round of compaction goes, and the next one goes on from there; each key's newest record is then in one of the rounds, so
nothing depends on how many there are. Source: Kafka's `Cleaner.buildOffsetMap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

KEY_BYTES_EXACT = 16
"""Keys up to this length stand for themselves."""
_DIGEST_BYTES = 20


def fingerprint(key: bytes) -> bytes:
    """A short stand-in for a key: never equal for two keys, as far as anybody can make it so."""
    return key if len(key) <= KEY_BYTES_EXACT else blake2b(key, digest_size=_DIGEST_BYTES).digest()


class KeyIndex:
    """Latest offsets by key for offsets in `[offset_first, offset_next)`; batches are added in offset order."""

    def __init__(self, offset_first: int, keys_max: int) -> None:
        self.offset_first = offset_first
        self.offset_next = offset_first
        """Everything below is compacted by what this index knows."""
        self.full = False
        self._keys_max = keys_max
        self._latest: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, records: Sequence[tuple[bytes | None, int]], offset_next: int) -> bool:
        """Take a batch's (key, offset) pairs, in order, and that it ends at `offset_next`; False where it doesn't fit.

        A single batch with more keys than that is taken, as there is no smaller step.
        """
        fresh = {fingerprint(key): offset for key, offset in records if key is not None and offset >= self.offset_first}
        known = self._latest
        if known and len(known) + len(fresh) > self._keys_max and len(known) + _unknown(fresh, known) > self._keys_max:
            self.full = True
            return False
        known.update(fresh)
        self.offset_next = max(self.offset_next, offset_next)
        return True

    def is_latest(self, key: bytes, offset: int) -> bool:
        """True where the index knows no later record of this key."""
        return offset >= self._latest.get(fingerprint(key), -1)


def _unknown(fresh: dict[bytes, int], known: dict[bytes, int]) -> int:
    return sum(1 for key in fresh if key not in known)
