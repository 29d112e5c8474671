"""Buffers that are used again only when nobody can still read them.

A buffer is free when no memoryview of it is left. CPython tells that exactly: a bytearray refuses to be resized while
views of it, or of views of it, are alive. So nobody has to give buffers back, and a forgotten view can cost memory but
never corrupt bytes. Recycling saves the page faults of fresh memory, which otherwise cost as much as filling it.
"""

from __future__ import annotations

from collections import deque

POOLED_BYTES_MIN = 64 * 1024
"""Smallest buffer that is worth recycling; the allocator is quick enough below."""
_PROBES = 4


def is_free(buffer: bytearray) -> bool:
    """True where no memoryview of `buffer` is left anywhere. Shrinks and grows by one byte, which copies nothing."""
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True


class BufferPool:
    """Retired buffers waiting to be free.

    Holds on to at most `pool_bytes_max` bytes of them; those beyond go back to the allocator when their last view is
    gone. Not thread-safe.
    """

    def __init__(self, pool_bytes_max: int, *, classes: int = 4) -> None:
        """`classes`: sizes of buffers for each power of two (a power of two). More waste less, fewer find one more often."""
        self._bytes_max = pool_bytes_max
        self._class_bits = classes.bit_length()
        self._retired: dict[int, deque[bytearray]] = {}
        self.retired_bytes = 0
        self.made = 0
        """Buffers made afresh, for metrics."""
        self.recycled = 0
        """Buffers used again, for metrics."""

    def take(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes that nobody reads, at least POOLED_BYTES_MIN: sizes that are alike share."""
        step = 1 << max(0, (size - 1).bit_length() - self._class_bits)
        capacity = max(POOLED_BYTES_MIN, -(-size // step) * step)
        waiting = self._retired.get(capacity)
        if waiting:
            for _ in range(min(_PROBES, len(waiting))):
                buffer = waiting.popleft()
                if is_free(buffer):
                    self.retired_bytes -= capacity
                    self.recycled += 1
                    return buffer
                waiting.append(buffer)
        self.made += 1
        return bytearray(capacity)

    def retire(self, buffer: bytearray) -> None:
        """Take back a buffer that may still be read. Where the pool is full, free buffers of other sizes make room, else
        the newcomer is let go: those that have waited longest become free first."""
        capacity = len(buffer)
        if self.retired_bytes + capacity > self._bytes_max:
            for other, waiting in self._retired.items():
                if other != capacity:
                    self._drop_free(other, waiting, _PROBES)
            if self.retired_bytes + capacity > self._bytes_max:
                return
        self._retired.setdefault(capacity, deque()).append(buffer)
        self.retired_bytes += capacity

    def trim(self) -> None:
        """Give every free buffer back to the allocator, for a quiet time."""
        for capacity, waiting in self._retired.items():
            self._drop_free(capacity, waiting, len(waiting))

    def _drop_free(self, capacity: int, waiting: deque[bytearray], probes: int) -> None:
        for _ in range(min(probes, len(waiting))):
            buffer = waiting.popleft()
            if is_free(buffer):
                self.retired_bytes -= capacity
            else:
                waiting.append(buffer)
