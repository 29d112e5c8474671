"""The bytes of extents that are to be rewritten: read with few requests, past every cache, checked, patched.

Owns: nothing is handed out whose batches' CRC-32C and offsets weren't checked against the metadata; what comes back wrong is
read once more before it is called corrupt; bytes asked for at once are bounded. Base offsets and LogAppendTime are patched in
place: an extent's bytes are then what readers are served, whatever extent they end up in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from broker.fetch.spans import BadExtent, make_span
from broker.objects.port import Corrupt, NotFound, ObjectStore
from broker.services import Workers
from catalog.compaction import SettledExtent
from catalog.sequence import Extent

log = structlog.get_logger(__name__)

GAP_BYTES_MAX = 64 * 1024
"""Bytes of others between two extents of one object that are read along rather than with a second request."""
GET_BYTES_MAX = 16 * 1024 * 1024
"""Most bytes of one request, unless a single extent is larger."""


@dataclass(slots=True)
class ByteRange:
    """Bytes `[first, end)` of an object, which hold these extents."""

    name: str
    first: int
    end: int
    extents: list[Extent] = field(default_factory=list)


def plan_reads(wanted: Sequence[SettledExtent]) -> list[ByteRange]:
    """The requests that read all of these, by object and byte."""
    ranges: list[ByteRange] = []
    for one in sorted(wanted, key=lambda one: (one.extent.object_id, one.extent.byte_first)):
        first, end = one.extent.byte_first, one.extent.byte_first + one.extent.byte_length
        last = ranges[-1] if ranges else None
        if (
            last is None
            or last.name != one.object_name
            or first - last.end > GAP_BYTES_MAX
            or end - last.first > GET_BYTES_MAX
        ):
            last = ByteRange(one.object_name, first, end)
            ranges.append(last)
        last.end = max(last.end, end)
        last.extents.append(one.extent)
    return ranges


class InputReader:
    """Reads inputs; at most `reads_max` requests at once."""

    def __init__(self, store: ObjectStore, workers: Workers, *, reads_max: int) -> None:
        self._store = store
        self._workers = workers
        self._reads = asyncio.Semaphore(reads_max)

    async def read(self, wanted: Sequence[SettledExtent]) -> dict[Extent, memoryview]:
        """The bytes of these extents, patched; those that are gone or corrupt are absent. Raises ObjectStoreError."""
        found: dict[Extent, memoryview] = {}
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(self._read(one, found)) for one in plan_reads(wanted)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        return found

    async def _read(self, wanted: ByteRange, found: dict[Extent, memoryview]) -> None:
        left, reason = wanted.extents, ""
        for _attempt in (1, 2):
            try:
                async with self._reads:
                    data = await self._store.get(wanted.name, wanted.first, wanted.end - wanted.first)
            except (NotFound, Corrupt) as error:
                reason = str(error)
                continue
            own = memoryview(data if isinstance(data, bytearray) else bytearray(data))
            good, reason = await self._workers.run(partial(_patch, own, wanted.first, left))
            found.update(good)
            left = [extent for extent in left if extent not in good]
            if not left:
                return
        for extent in left:
            log.error(
                "extent can't be compacted", topic=extent.topic, shard=extent.shard, offset=extent.offset_first,
                object=wanted.name, error=reason,
            )  # fmt: skip


def _patch(data: memoryview, first: int, extents: Sequence[Extent]) -> tuple[dict[Extent, memoryview], str]:
    """Check and patch each extent in place; those that are right, and what is wrong with the last of the others."""
    good: dict[Extent, memoryview] = {}
    reason = ""
    for extent in extents:
        piece = data[extent.byte_first - first : extent.byte_first - first + extent.byte_length]
        try:
            make_span(piece, extent, verify=True)
        except BadExtent as error:
            reason = str(error)
        else:
            good[extent] = piece
    return good, reason
