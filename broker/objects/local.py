"""Objects as files below a folder: the store of embedded mode.

Invariants, with fsync="always":
- `put` returns only after the bytes, the name and every folder above it were flushed to disk, by this process itself:
  a folder that somebody else made may not have reached the disk yet.
- A name appears whole or not at all: bytes are written and flushed without a name, then linked; a link never replaces.
- "Already exists" is told only after the existing name was flushed too, because the caller may take it for stored.

With fsync="never" the same without flushing: a crash of the machine (not of the process) can lose acknowledged records.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from broker.objects.keys import check_key, folder_of
from broker.objects.local_files import LocalFiles
from broker.objects.port import Buffer, ObjectInfo, Refused
from catalog.threads import Threads

T = TypeVar("T")
LIST_PAGE = 1000


class UnsafeFsync(UserWarning):
    """fsync is off: acknowledged records can be lost when the machine stops."""


class LocalStore:
    """The object port over a folder. `threads` bounds the file calls at a time.

    Without flushing, writing a small object is copying it into the page cache: `put_now` writes objects up to
    `inline_bytes` by itself then, because the way to a thread and back takes longer. All others go to the threads.
    With `pool_bytes_max` large reads go into buffers that are used again once nobody has a view of them any more.
    """

    def __init__(
        self,
        root: Path,
        fsync: Literal["always", "never"] = "always",
        threads: int = 4,
        inline_bytes: int = 0,
        pool_bytes_max: int = 0,
    ) -> None:
        if fsync == "never":
            warnings.warn(
                f"fsync=never: records acknowledged from {root} can be lost when the machine stops; "
                "set fsync=always to keep them",
                UnsafeFsync,
                stacklevel=2,
            )
        try:
            self._files = LocalFiles(root, flush=fsync == "always", pool_bytes_max=pool_bytes_max)
        except OSError as error:
            raise Refused(
                f"cannot keep objects in {root} ({error.strerror}): make it writable or name another"
            ) from error
        self._inline_bytes = inline_bytes if fsync == "never" else 0
        self._workers = Threads(threads, "neve-objects")

    def __repr__(self) -> str:
        return f"LocalStore({str(self._files.root)!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port. Unavailable when the disk is full or fails; OutcomeUnknown when only the flush of the name failed."""
        await self._workers.call(self._files.put, check_key(key), parts, if_absent)

    @property
    def now_bytes_max(self) -> int:
        """See the port."""
        return self._inline_bytes

    def put_now(self, key: str, parts: Sequence[Buffer]) -> bool:
        """See the port: small objects, where nothing is flushed."""
        if sum(map(len, parts)) > self._inline_bytes:
            return False
        self._files.put(check_key(key), parts, True)
        return True

    async def get(self, key: str, start: int = 0, length: int | None = None) -> Buffer:
        """See the port."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"no such range: start {start}, length {length}")
        return await self._workers.call(self._files.get, check_key(key), start, length)

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        return await self._workers.call(self._files.head, check_key(key))

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        return await self._workers.call(self._files.delete, [check_key(key) for key in keys])

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port."""
        objects = self._files.walk(folder_of(prefix))
        while page := await self._workers.call(_page, objects):
            yield page

    async def close(self) -> None:
        """End the threads after what they have begun."""
        await self._workers.close()


def _page(objects: Iterator[ObjectInfo]) -> list[ObjectInfo]:
    return list(islice(objects, LIST_PAGE))


def open_quietly(root: Path, threads: int = 4, inline_bytes: int = 0, pool_bytes_max: int = 0) -> LocalStore:
    """A store without flushing and without its warning, for tests and benches that say so themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnsafeFsync)
        return LocalStore(root, "never", threads, inline_bytes, pool_bytes_max)
