"""Objects in a dict: for tests and the simulation. Deterministic, without threads; the clock comes from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from broker.objects.keys import check_key, folder_of
from broker.objects.port import AlreadyExists, Buffer, NeverNow, NotFound, ObjectInfo

LIST_PAGE = 1000


class MemoryStore(NeverNow):
    """The object port over a dict. `now_ms` is the store's clock (Unix milliseconds)."""

    def __init__(self, now_ms: Callable[[], int], page: int = LIST_PAGE) -> None:
        self._now_ms = now_ms
        self._page = page
        self._objects: dict[str, tuple[bytes, int]] = {}

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._objects)} objects)"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port."""
        if if_absent and check_key(key) in self._objects:
            raise AlreadyExists(key)
        self._objects[check_key(key)] = (b"".join(parts), self._now_ms())

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"no such range: start {start}, length {length}")
        body, _ = self._find(key)
        return body[start:] if length is None else body[start : start + length]

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        body, modified_ms = self._find(key)
        return ObjectInfo(key, len(body), modified_ms)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        for key in keys:
            self._objects.pop(check_key(key), None)
        return list(keys)

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port. Each page is read when it is asked for."""
        folder, after = folder_of(prefix), ""
        while True:
            keys = sorted(key for key in self._objects if key.startswith(folder) and key > after)
            page = keys[: self._page]
            if not page:
                return
            after = page[-1]
            yield [ObjectInfo(key, len(self._objects[key][0]), self._objects[key][1]) for key in page]

    async def close(self) -> None:
        """Nothing to release; the objects stay for the next process of a simulation."""

    def _find(self, key: str) -> tuple[bytes, int]:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise NotFound(key) from None
