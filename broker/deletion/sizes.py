"""How many bytes each log with a retention.bytes has, counted once and then kept up, a bounded number of rows at a time.

Good only for one holder of the deletion job at a time, who alone removes extents: it begins anew after any failure.
Compaction keeps the bytes of what it replaces; where it joins what was counted with what wasn't, a log is counted again.
"""

from __future__ import annotations

from dataclasses import dataclass

from catalog.retained import RetainedStore
from catalog.sequence import ShardKey


@dataclass(slots=True)
class _Counted:
    bytes: int
    end: int
    """Extents that end at or below this are counted."""


class LogSizes:
    """Sizes by shard."""

    def __init__(self, retained: RetainedStore, rows_max: int) -> None:
        self._retained = retained
        self._rows_max = rows_max
        self._counted: dict[ShardKey, _Counted] = {}

    async def of(self, key: ShardKey, log_start: int) -> int | None:
        """Bytes of the extents that end above the log start; None while they are still being counted.

        Nothing that ends at or below the log start may be left in the log.
        """
        counted = self._counted.get(key)
        size = await self._retained.size(key, log_start if counted is None else counted.end, self._rows_max)
        if counted is not None and size.offset_first < counted.end:
            counted = None  # compaction has put what was counted and what wasn't into one extent: count again
            size = await self._retained.size(key, log_start, self._rows_max)
        if counted is None:
            counted = self._counted[key] = _Counted(0, log_start)
        counted.bytes += size.bytes
        counted.end = size.offset_next
        return None if size.more else counted.bytes

    def removed(self, key: ShardKey, size: int, through: int) -> None:
        """Extents of so many bytes are gone, the last of which ended at `through`."""
        counted = self._counted.get(key)
        if counted is None:
            return
        if through > counted.end:
            del self._counted[key]  # some of them were not counted yet
        else:
            counted.bytes -= size

    def forget(self, key: ShardKey) -> None:
        """The shard is gone, or has no bound any more."""
        self._counted.pop(key, None)

    def clear(self) -> None:
        """Begin anew."""
        self._counted.clear()
