"""The block cache: bounded, one GET per block, nothing unchecked served, readahead shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from broker.fetch.block_cache import BlockCache, StoredObject
from broker.fetch.spans import BadExtent
from broker.objects.memory import MemoryStore
from broker.objects.port import Corrupt, NotFound, Unavailable
from broker.services import InlineWorkers
from catalog.sequence import Extent
from schemas.kafka.records import decode_batch
from schemas.segment import Run, build_segment
from tests.data_path import TOPIC_ID, batch_of

T = TypeVar("T")


class Store(MemoryStore):
    """Counts GETs; they take a turn of the loop; the next ones can be made to fail."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.gets: list[tuple[str, int]] = []
        self.failures: list[Exception] = []

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self.gets.append((key, start))
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        return await super().get(key, start, length)


async def put(store: Store, sequence: int, *batches: bytes) -> tuple[StoredObject, list[Extent]]:
    """A segment with one run; one extent per batch."""
    run = Run(1, TOPIC_ID, 0, [memoryview(b) for b in batches], len(batches), len(batches), 0, 0)
    built = build_segment("c", 1, sequence, [run])
    name = f"c/segments/1/{sequence}"
    await store.put(name, built.parts)
    extents, at = [], built.body_first
    for n, batch in enumerate(batches):
        extents.append(Extent(1, 0, n, n + 1, 1 << 32 | sequence, at, len(batch), 1, 0, -1))
        at += len(batch)
    return StoredObject(name), extents


def cache_over(store: Store, **more: int) -> BlockCache:
    return BlockCache(store, InlineWorkers(), **{"bytes_max": 10_000, "block_bytes": 1000, "reads_max": 2, **more})


def value(cache: BlockCache, extent: Extent) -> bytes | None:
    span = cache.span(extent)
    assert span is not None
    [record] = decode_batch(span.data)
    assert record.offset == extent.offset_first
    return record.value


async def test_one_get_per_block_however_many_wait() -> None:
    store = Store()
    stored, extents = await put(store, 1, batch_of(b"a"), batch_of(b"b"))
    cache = cache_over(store)
    await asyncio.gather(*(cache.load(extent, stored) for extent in extents * 50))
    assert store.gets == [(stored.name, 0)]
    assert [value(cache, extent) for extent in extents] == [b"a", b"b"]


async def test_a_waiter_that_goes_away_takes_nothing_from_the_others() -> None:
    store = Store()
    stored, [extent] = await put(store, 1, batch_of(b"a"))
    cache = cache_over(store)
    first = asyncio.create_task(cache.load(extent, stored))
    second = asyncio.create_task(cache.load(extent, stored))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert value(cache, extent) == b"a"


async def test_extents_across_blocks_are_put_together() -> None:
    store = Store()
    stored, extents = await put(store, 1, batch_of(b"a" * 700), batch_of(b"b" * 3000), batch_of(b"c" * 10))
    cache = cache_over(store)
    for extent in extents:
        await cache.load(extent, stored)
    assert [value(cache, extent) for extent in extents] == [b"a" * 700, b"b" * 3000, b"c" * 10]


async def test_a_cache_too_small_for_all_who_wait_serves_them_all() -> None:
    store = Store()
    cache = cache_over(store, bytes_max=1, reads_max=8)
    objects = [await put(store, n, batch_of(bytes([n]) * 2500)) for n in range(8)]
    spans = await asyncio.gather(*(cache.load(extent, stored) for stored, [extent] in objects))
    for (_, [extent]), span in zip(objects, spans, strict=True):
        [record] = decode_batch(span.data)
        assert (record.offset, record.value) == (extent.offset_first, bytes([extent.object_id & 0xFF]) * 2500)
    assert len(store.gets) == 8 * 3
    assert cache.bytes <= 1000


async def test_bytes_are_bounded_and_the_oldest_leave() -> None:
    store = Store()
    cache = cache_over(store, bytes_max=2500)
    objects = [await put(store, n, batch_of(bytes([n]) * 600)) for n in range(8)]
    for stored, [extent] in objects:
        await cache.load(extent, stored)
        assert cache.bytes <= 2500
        assert value(cache, extent) == bytes([extent.object_id & 0xFF]) * 600
    assert cache.span(objects[0][1][0]) is None
    assert cache.span(objects[-1][1][0]) is not None
    for _, [extent] in objects:
        cache.forget(extent)
    assert cache.bytes == 0


async def test_own_segments_are_never_fetched_and_own_their_bytes() -> None:
    store = Store()
    _, extents = await put(store, 1, batch_of(b"a"), batch_of(b"b"))
    body = bytearray(batch_of(b"a") + batch_of(b"b"))
    cache = cache_over(store)
    cache.insert_own(extents[0].object_id, body, extents[0].byte_first)
    assert [value(cache, extent) for extent in extents] == [b"a", b"b"]
    assert store.gets == []
    assert cache.bytes == len(body)


async def test_an_own_segment_that_is_too_short_for_its_extent_is_read_from_the_store() -> None:
    store = Store()
    stored, [extent] = await put(store, 1, batch_of(b"a"))
    cache = cache_over(store)
    cache.insert_own(extent.object_id, bytearray(batch_of(b"a")[:-1]), extent.byte_first)
    with pytest.raises(BadExtent):
        cache.span(extent)
    cache.forget(extent)
    await cache.load(extent, stored)
    assert value(cache, extent) == b"a"


@pytest.mark.parametrize("at", [5, 20, -30])
async def test_a_flipped_bit_is_never_served(at: int) -> None:
    store = Store()
    stored, [extent] = await put(store, 1, batch_of(b"some value"))
    body = bytearray(await store.get(stored.name))
    body[at] ^= 1
    await store.put(stored.name, [body], if_absent=False)
    cache = cache_over(store)

    async def read() -> None:
        await cache.load(extent, stored)
        cache.span(extent)

    with pytest.raises((Corrupt, BadExtent)):
        await read()


async def test_another_object_under_the_name_is_not_served() -> None:
    store = Store()
    stored, _ = await put(store, 1, batch_of(b"a"))
    _, [extent] = await put(store, 2, batch_of(b"a"))
    with pytest.raises(Corrupt, match="not"):
        await cache_over(store).load(extent, stored)


async def test_a_failed_read_fails_its_waiters_and_is_tried_again() -> None:
    store = Store()
    stored, [extent] = await put(store, 1, batch_of(b"a"))
    cache = cache_over(store)
    store.failures = [Unavailable("busy")]
    results = await asyncio.gather(*(cache.load(extent, stored) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 3
    await cache.load(extent, stored)
    assert value(cache, extent) == b"a"
    with pytest.raises(NotFound):
        await cache.load(extent._replace(object_id=5), StoredObject("c/segments/1/5"))


class CountingWorkers(InlineWorkers):
    """Remembers what the workers answered."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    async def run(self, work: Callable[[], T]) -> T:
        answer = work()
        self.answers.append(answer)
        return answer


async def two_runs(store: Store, spoilt: int | None) -> tuple[StoredObject, list[Extent]]:
    """A segment with one batch in each of two shards; a record's byte of one of them is wrong."""
    batches = [batch_of(b"first"), batch_of(b"second")]
    built = build_segment("c", 1, 9, [Run(1, TOPIC_ID, shard, [batches[shard]], 1, 1, 0, 0) for shard in range(2)])
    body = bytearray().join(built.parts)
    extents = [
        Extent(1, shard, 0, 1, 1 << 32 | 9, first, length, 1, 0, -1)
        for shard, (first, length) in enumerate(built.run_bytes)
    ]
    if spoilt is not None:
        body[extents[spoilt].byte_first + 70] ^= 1
    await store.put("c/segments/1/9", [body])
    return StoredObject("c/segments/1/9"), extents


def range_of(extent: Extent) -> tuple[int, int]:
    return extent.byte_first, extent.byte_first + extent.byte_length


async def test_the_runs_of_a_whole_segment_are_checked_in_a_worker() -> None:
    store, workers = Store(), CountingWorkers()
    stored, extents = await two_runs(store, None)
    cache = BlockCache(store, workers, bytes_max=10_000, block_bytes=1000, reads_max=2)
    for extent in extents:
        await cache.load(extent, stored)
    assert workers.answers == [[range_of(extent) for extent in extents]]
    assert [value(cache, extent) for extent in extents] == [b"first", b"second"]


@pytest.mark.parametrize("spoilt", [0, 1])
async def test_one_bad_run_fails_its_own_extents_alone(spoilt: int) -> None:
    store, workers = Store(), CountingWorkers()
    stored, extents = await two_runs(store, spoilt)
    cache = BlockCache(store, workers, bytes_max=10_000, block_bytes=1000, reads_max=2)
    with pytest.raises(BadExtent, match="CRC-32C"):
        await cache.load(extents[spoilt], stored)
    await cache.load(extents[1 - spoilt], stored)
    assert workers.answers == [[range_of(extents[1 - spoilt])]]
    assert value(cache, extents[1 - spoilt]) == [b"first", b"second"][1 - spoilt]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_the_runs_of_a_later_block_are_checked_in_a_worker(order: tuple[int, int]) -> None:
    store, workers = Store(), CountingWorkers()
    stored, extents = await two_runs(store, None)
    cache = BlockCache(store, workers, bytes_max=10_000, block_bytes=extents[1].byte_first, reads_max=2)
    await asyncio.gather(*(cache.load(extents[n], stored) for n in order))
    assert workers.answers == [[range_of(extent)] for extent in extents]
    assert [value(cache, extent) for extent in extents] == [b"first", b"second"]


@pytest.mark.parametrize("cut", [0, 40])
async def test_a_bad_run_in_a_later_block_or_across_two_is_found(cut: int) -> None:
    store, workers = Store(), CountingWorkers()
    stored, extents = await two_runs(store, 1)
    cache = BlockCache(store, workers, bytes_max=10_000, block_bytes=extents[1].byte_first + cut, reads_max=2)
    await cache.load(extents[0], stored)
    with pytest.raises(BadExtent, match="CRC-32C"):
        await cache.load(extents[1], stored)
    assert workers.answers == [[range_of(extents[0])], []]


async def test_where_the_head_is_not_in_one_block_extents_are_checked_by_their_batches() -> None:
    store, workers = Store(), CountingWorkers()
    stored, extents = await two_runs(store, 1)
    cache = BlockCache(store, workers, bytes_max=10_000, block_bytes=80, reads_max=2)
    await cache.load(extents[0], stored)
    with pytest.raises(BadExtent, match="CRC-32C"):
        await cache.load(extents[1], stored)
    assert workers.answers == []
