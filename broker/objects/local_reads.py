"""Reads of a local file to where the bytes stay and may be patched, without memory that somebody fills first.

Large reads of an agent go into buffers that are used again (see `schemas.buffer_pool`): the page faults of fresh memory
cost as much as the copy. Runs in the store's threads.
"""

from __future__ import annotations

import os
import threading
from io import BytesIO

from broker.objects.port import Corrupt
from schemas.buffer_pool import BufferPool

POOLED_READ_BYTES_MIN = 1 << 20
"""Below it the allocator keeps memory by itself, and there would be many buffers to look through."""
CLASSES = 2
"""Sizes of buffers for each power of two: segments differ in size, and what nobody wrote to takes no memory."""


class LocalReads:
    """Safe for use from several threads. `pool_bytes_max` bounds the buffers kept, those that are being read included."""

    def __init__(self, pool_bytes_max: int) -> None:
        self.pool = BufferPool(pool_bytes_max, classes=CLASSES) if pool_bytes_max else None
        self._lock = threading.Lock()

    def read(self, fd: int, start: int, wanted: int, path: str) -> memoryview:
        """Bytes [start, start + wanted), which are the caller's own. Raises Corrupt where the file ends before."""
        if self.pool is None or wanted < POOLED_READ_BYTES_MIN:
            return _read_fresh(fd, start, wanted, path)
        return self._read_pooled(self.pool, fd, start, wanted, path)

    def _read_pooled(self, pool: BufferPool, fd: int, start: int, wanted: int, path: str) -> memoryview:
        """Into a buffer that nobody has a view of any more; it is used again once the views of this read are gone."""
        with self._lock:
            buffer = pool.take(wanted)
        body = memoryview(buffer)[:wanted]
        at = 0
        while at < wanted:  # one call reads at most 2 GiB
            got = os.preadv(fd, [body[at:]], start + at)
            if not got:
                raise _ended(path, start + at, start + wanted)
            at += got
        with self._lock:
            pool.retire(buffer)
        return body


def _read_fresh(fd: int, start: int, wanted: int, path: str) -> memoryview:
    """A new bytearray would be filled with zeros first. The bytes of `os.pread` are not, and a BytesIO that alone holds
    them lends them out to be written to, without a copy: one of `bytes` would be made by whoever holds up everybody."""
    body = BytesIO(os.pread(fd, wanted, start))
    at = body.getbuffer().nbytes
    body.seek(at)
    while at < wanted:
        more = os.pread(fd, wanted - at, start + at)
        if not more:
            raise _ended(path, start + at, start + wanted)
        at += body.write(more)
    return body.getbuffer()


def _ended(path: str, at: int, expected: int) -> Corrupt:
    return Corrupt(f"{path} ended at {at} while it was read, {expected} was expected")
