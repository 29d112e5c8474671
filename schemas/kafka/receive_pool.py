"""Receive buffers of one event loop: the slab for small frames, and buffers that are used again once nobody reads them."""

from __future__ import annotations

from schemas.buffer_pool import BufferPool, is_free

KIB = 1024
SLAB_BYTES = 256 * KIB
POOL_BYTES_MAX = 64 * KIB * KIB


class ReceivePool(BufferPool):
    """The slab that all connections of a loop read small frames into, and retired buffers. One per loop."""

    def __init__(self, pool_bytes_max: int = POOL_BYTES_MAX) -> None:
        """A pool with one slab."""
        super().__init__(pool_bytes_max)
        self.slab = self.take(SLAB_BYTES)
        self.slab_at = 0
        """Where the next bytes go in `slab`; below it everything may be under somebody's view."""
        self.borrower: object | None = None
        """Who got room in `slab` and has not yet said how much it used."""

    def next_slab(self) -> None:
        """Go on with a slab that nobody reads: the same one where it is free again."""
        if self.borrower is not None or not is_free(self.slab):
            self.retire(self.slab)
            self.slab = self.take(SLAB_BYTES)
        self.slab_at = 0
