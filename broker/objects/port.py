"""The object port: the only door to object bytes. Six methods; every implementation passes one conformance suite.

Keys are `/`-separated relative names below the store's root (`<cluster id>/segments/...`). Bodies are sequences of
buffers, so that a segment is uploaded without being joined where the store allows it.

Errors come in the three families of the house: the caller's (`AlreadyExists`, `NotFound`), the world's
(`Unavailable`: retry after; `OutcomeUnknown`: the operation may or may not have happened) and stored bytes' (`Corrupt`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class ObjectStoreError(Exception):
    """Any failure at the object port."""


class AlreadyExists(ObjectStoreError):
    """A put-if-absent found the key taken (412). This is NOT "stored": the caller must compare."""


class NotFound(ObjectStoreError):
    """No such key."""


class Unavailable(ObjectStoreError):
    """The store refused or throttled (409, 429, 5xx before effect); safe to retry."""


class Refused(ObjectStoreError):
    """The store refused for good (403, 400, no such bucket): retrying doesn't help, somebody must act on the message."""


class OutcomeUnknown(ObjectStoreError):
    """A write timed out or its reply was lost; it may have landed, or may still land later."""


class Corrupt(ObjectStoreError):
    """Stored bytes are not what was asked for (short body, wrong length)."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object: key, size in bytes, last modification in Unix milliseconds by the store's clock."""

    key: str
    bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """The port. Implementations must be safe for concurrent use from one event loop."""

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """Store the concatenation of `parts` durably. `if_absent` raises AlreadyExists where the key is taken."""
        ...

    @property
    def now_bytes_max(self) -> int:
        """Largest object that `put_now` may store; 0 where it never does."""
        ...

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """Store like `put` with `if_absent`, where that takes no waiting; True when it is stored.

        False says nothing: the store can't, or something went wrong. `put` under the same name finds out, and is the way
        to store it then.
        """
        ...

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """Bytes `[start, start+length)` (to the end when None). NotFound; Corrupt when fewer bytes come back than exist.

        A range that reaches past the object's end is cut at the end. The bytes are the caller's own, to write into if
        they can be written.
        """
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Size and time of one object, or NotFound."""
        ...

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """Delete in bulk; returns the keys confirmed gone (absent counts as gone). Never raises for single keys."""
        ...

    def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """Pages of objects below `prefix` (whole segments: `a/b` lists `a/b/c`, not `a/bc`), sorted by key. A failure raises; a partial listing is never silent."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class NeverNow:
    """The part of the port that stores without waiting, for stores that can't."""

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return 0

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port: never here."""
        return False
