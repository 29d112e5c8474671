"""Length-prefixed frames out of a byte stream, sans IO: buffers out, complete frames in memoryviews back.

For a BufferedProtocol. Small frames lie in a slab which all connections of a loop share, so that an idle connection owns
nothing. A frame that is not complete moves to a buffer of its connection's own, which grows with the bytes that really
arrived: nobody gets memory for announcing a size. A connection that sends large frames in a row gets a buffer of the last
one's size at once, so that they are read to where they stay.

Invariants: a size below zero or above `frame_bytes_max` is a FrameError before anything is made for it; bytes under a
handed-out view are never written again (see `schemas.buffer_pool`); frames come out in the order of the stream.
"""

from __future__ import annotations

from struct import Struct

from schemas.buffer_pool import POOLED_BYTES_MIN
from schemas.kafka.receive_pool import KIB, SLAB_BYTES, ReceivePool

ROOM_BYTES_MIN = 64 * KIB
"""A slab with less room than this is left: short reads cost more calls."""
START_BYTES = 64 * KIB
"""First buffer for the rest of a larger frame; it doubles as it fills."""
TRUST_BYTES_MAX = 4096 * KIB
"""A connection whose last frame was this large or larger gets this much at once for the next."""
PREFIX_BYTES = 4

_SIZE = Struct(">i")


class FrameError(ValueError):
    """A frame of an impossible or forbidden size was announced: close the connection, the reader is of no more use.

    `frames` are the complete ones that came before it in the same read, still to be answered if one likes.
    """

    def __init__(self, size: int, limit: int, frames: list[memoryview]) -> None:
        """Keep what was announced and what was allowed."""
        super().__init__(f"a frame of {size} bytes was announced; 0 to {limit} are allowed")
        self.size = size
        self.limit = limit
        self.frames = frames


class FrameReader:
    """The frames of one connection. Call `get_buffer` before each read and `buffer_updated` after it.

    `frame_bytes_max` may be changed at any time; it holds for the sizes that are looked at from then on.
    """

    __slots__ = ("_expected", "_filled", "_need", "_own", "_pool", "_slab", "_slab_at", "frame_bytes_max")

    def __init__(self, pool: ReceivePool, frame_bytes_max: int) -> None:
        """A reader at the start of a stream."""
        self.frame_bytes_max = frame_bytes_max
        self._pool = pool
        self._own: bytearray | None = None
        self._filled = 0  # bytes of the stream in _own
        self._need = 0  # bytes of the frame in _own, prefix included; 0 while its prefix is not complete
        self._expected = 0  # bytes of the last frame, prefix included
        self._slab = pool.slab
        self._slab_at = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that this connection alone holds."""
        return 0 if self._own is None else len(self._own)

    def get_buffer(self) -> memoryview:
        """Where the next bytes of the stream go. Never empty."""
        own = self._own
        if own is None:
            if self._expected <= START_BYTES:
                return self._slab_room()
            own = self._own = self._pool.take(min(self._expected, TRUST_BYTES_MAX))
            self._filled = self._need = 0
        # Not beyond the end of the frame: what follows it would have to be moved.
        end = min(len(own), self._need or max(self._expected, START_BYTES))
        return memoryview(own)[self._filled : end]

    def buffer_updated(self, count: int) -> list[memoryview]:
        """The frames that are complete now that `count` bytes were read into the last buffer, without their prefixes.

        Raises FrameError.
        """
        own = self._own
        if own is None:
            return self._split(memoryview(self._slab)[self._slab_at : self._slab_used(count)])
        filled = self._filled = self._filled + count
        if not self._need and filled >= PREFIX_BYTES:
            self._need = PREFIX_BYTES + self._checked_size(own, 0, [])
        if not self._need or filled < self._need:
            if filled == len(own):
                self._grow(own)
            return []
        self._own = None
        frames = self._split(memoryview(own)[:filled])
        self._let_go(own)
        return frames

    def close(self) -> None:
        """Give up an incomplete frame and the buffer of a read that brought nothing: the peer is gone. Idempotent."""
        own, self._own = self._own, None
        if own is not None:
            self._let_go(own)
        if self._pool.borrower is self:
            self._pool.borrower = None
        self._slab = self._pool.slab

    def _slab_room(self) -> memoryview:
        pool = self._pool
        # Where another connection got a buffer and has not come back, its bytes may still be on their way.
        if SLAB_BYTES - pool.slab_at < ROOM_BYTES_MIN or (pool.borrower is not None and pool.borrower is not self):
            pool.next_slab()
        pool.borrower = self
        self._slab = pool.slab
        self._slab_at = pool.slab_at
        return memoryview(pool.slab)[pool.slab_at :]

    def _slab_used(self, count: int) -> int:
        pool = self._pool
        end = self._slab_at + count
        if pool.borrower is self:
            pool.borrower = None
            pool.slab_at = end
        return end

    def _split(self, view: memoryview) -> list[memoryview]:
        frames: list[memoryview] = []
        at = 0
        size = len(view)
        end = 0
        while size - at >= PREFIX_BYTES:
            end = at + PREFIX_BYTES + self._checked_size(view, at, frames)
            if end > size:
                break
            frames.append(view[at + PREFIX_BYTES : end])
            self._expected = end - at
            at = end
        if at < size:
            self._keep(view[at:], end - at if end > size else 0)
        return frames

    def _checked_size(self, buffer: bytearray | memoryview, at: int, frames: list[memoryview]) -> int:
        size: int = _SIZE.unpack_from(buffer, at)[0]
        if not 0 <= size <= self.frame_bytes_max:
            raise FrameError(size, self.frame_bytes_max, frames)
        return size

    def _keep(self, rest: memoryview, need: int) -> None:
        """Move the beginning of a frame of `need` bytes (0: not known yet) to a buffer of this connection's own."""
        filled = len(rest)
        trusted = max(START_BYTES, 2 * filled, min(self._expected, TRUST_BYTES_MAX))
        own = self._room(min(need, trusted) if need else START_BYTES)
        own[:filled] = rest
        self._own, self._filled, self._need = own, filled, need

    def _grow(self, own: bytearray) -> None:
        """Twice the room for a frame that has filled what it had, but not more than it needs."""
        larger = self._room(min(self._need, 2 * len(own)))
        larger[: len(own)] = own
        self._own = larger
        self._let_go(own)

    def _room(self, size: int) -> bytearray:
        return self._pool.take(size) if size >= POOLED_BYTES_MIN else bytearray(size)

    def _let_go(self, own: bytearray) -> None:
        if len(own) >= POOLED_BYTES_MIN:
            self._pool.retire(own)
