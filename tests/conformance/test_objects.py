"""One suite for every object store: what the port promises, over each implementation and each wrapper."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.objects.keys import InvalidKey
from broker.objects.port import AlreadyExists, NotFound, ObjectStore
from tests.conformance.object_stores import NAMES, build, now_ms

ODD_KEYS = (
    "a b",
    "a%b",
    "a%20b",
    "é/日本/😀",
    "a+b=c&d",
    "~x/.y/...",
    "quote\"and'quote",
    "back\\slash",
    "star*?[x]{y}|^`<>#",
    "x/segments/1/0000000001-0123456789abcdef",
    "x/segments/1/1-0123456789abcdef",
    "x/segments/1/other",
    "x/" + "long" * 60,
)


@pytest.fixture(params=NAMES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    made = build(request.param, tmp_path, request)
    yield made
    await made.close()


async def everything(store: ObjectStore, prefix: str = "") -> list[str]:
    return [info.key async for page in store.list(prefix) for info in page]


async def test_a_body_of_many_parts_comes_back_as_one(store: ObjectStore) -> None:
    rng = random.Random(1)
    parts = [bytearray(rng.randbytes(rng.randrange(3000))) for _ in range(1500)]
    await store.put("c/many", [bytes(parts[0]), memoryview(parts[1]), *parts[2:]])
    assert await store.get("c/many") == b"".join(parts)


async def test_parts_may_be_views_into_a_larger_buffer(store: ObjectStore) -> None:
    slab = memoryview(bytearray(range(256)) * 64)
    await store.put("c/view", [slab[10:100], slab[5000:9000]])
    assert await store.get("c/view") == bytes(slab[10:100]) + bytes(slab[5000:9000])


async def test_an_empty_body_is_an_object(store: ObjectStore) -> None:
    await store.put("c/none", [])
    await store.put("c/empty", [b""])
    for key in ("c/none", "c/empty"):
        assert await store.get(key) == b""
        assert await store.get(key, 0, 10) == b""
        assert (await store.head(key)).bytes == 0


async def test_ranges_are_cut_at_the_end(store: ObjectStore) -> None:
    body = bytes(range(200))
    await store.put("c/ranged", [body])
    for start, length in ((0, 1), (0, 200), (0, 500), (150, 50), (150, 51), (199, 1), (7, 0), (0, None), (13, None)):
        end = None if length is None else start + length
        assert await store.get("c/ranged", start, length) == body[start:end], (start, length)
    for start, length in ((200, 1), (200, None), (1000, 10), (1000, None), (1000, 0)):
        assert await store.get("c/ranged", start, length) == b"", (start, length)
    for start, length in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="no such range"):
            await store.get("c/ranged", start, length)


async def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    await store.put("c/there", [b"x"])
    for key in ("c/absent", "c/there/below", "absent/too", "c"):
        with pytest.raises(NotFound):
            await store.get(key)
        with pytest.raises(NotFound):
            await store.get(key, 3, 4)
        with pytest.raises(NotFound):
            await store.get(key, 3, 0)
        with pytest.raises(NotFound):
            await store.head(key)


async def test_a_name_is_taken_once(store: ObjectStore) -> None:
    await store.put("c/name", [b"first"])
    with pytest.raises(AlreadyExists):
        await store.put("c/name", [b"other content"])
    assert await store.get("c/name") == b"first"


async def test_without_if_absent_the_last_one_stands(store: ObjectStore) -> None:
    for body in (b"first", b"the second", b""):
        await store.put("c/replaced", [body], if_absent=False)
        assert await store.get("c/replaced") == body
    assert (await store.head("c/replaced")).bytes == 0


async def test_of_many_at_once_exactly_one_wins(store: ObjectStore) -> None:
    for round_ in range(5):
        key = f"c/segments/9/{round_}-00000000000000ff"
        bodies = [b"%d" % number * 1000 for number in range(10, 26)]
        outcomes = await asyncio.gather(*(store.put(key, [body]) for body in bodies), return_exceptions=True)
        winners = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is None]
        assert len(winners) == 1
        assert all(outcome is None or isinstance(outcome, AlreadyExists) for outcome in outcomes), outcomes
        assert await store.get(key) == winners[0]


async def test_head_tells_size_and_time(store: ObjectStore) -> None:
    before_ms = now_ms()
    await store.put("c/timed", [b"12345"])
    info = await store.head("c/timed")
    assert (info.key, info.bytes) == ("c/timed", 5)
    # S3 has whole seconds
    assert before_ms - 2_000 <= info.modified_ms <= now_ms() + 2_000
    assert await everything(store) == ["c/timed"]
    listed = [found async for page in store.list("c") for found in page]
    assert listed[0].bytes == 5
    assert abs(listed[0].modified_ms - info.modified_ms) < 1_000


async def test_odd_keys_stay_apart(store: ObjectStore) -> None:
    for key in ODD_KEYS:
        await store.put(key, [key.encode()])
    for key in ODD_KEYS:
        assert await store.get(key) == key.encode()
        assert (await store.head(key)).key == key
    assert await everything(store) == sorted(ODD_KEYS)
    assert await store.delete(ODD_KEYS[:4]) == list(ODD_KEYS[:4])
    assert await everything(store) == sorted(ODD_KEYS[4:])


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\0b", "a\nb", "\ud800", "k" * 256, "k/" * 600 + "k"]
)
async def test_bad_keys_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidKey):
        await store.put(key, [b"x"])
    with pytest.raises(InvalidKey):
        await store.get(key)
    with pytest.raises(InvalidKey):
        await store.head(key)


async def test_a_prefix_is_whole_segments(store: ObjectStore) -> None:
    for key in ("a/b", "a/b/c", "a/b/d/e", "a/bc", "a/b-c", "ab"):
        if key != "a/b":  # a file system can't hold an object and a folder of the same name
            await store.put(key, [b"x"])
    assert await everything(store, "a/b") == ["a/b/c", "a/b/d/e"]
    assert await everything(store, "a/b/") == ["a/b/c", "a/b/d/e"]
    assert await everything(store, "a") == ["a/b-c", "a/b/c", "a/b/d/e", "a/bc"]
    assert await everything(store, "a/b/d/e") == []
    assert await everything(store, "absent") == []
    with pytest.raises(InvalidKey):
        await everything(store, "a/../b")


async def test_long_listings_are_sorted_and_paged(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    count = 1_200 if "moto" not in request.node.name else 300
    keys = [f"c/segments/{n % 3}/{n}-{n:016x}" for n in range(count)]
    keys += [f"c/tables/t-{n}/x" for n in range(20)] + [f"c/tables/t/{n}" for n in range(20)]
    random.Random(3).shuffle(keys)
    for first in range(0, len(keys), 16):
        await asyncio.gather(*(store.put(key, [key.encode()]) for key in keys[first : first + 16]))
    assert await everything(store, "c") == sorted(keys)
    below = [key for key in sorted(keys) if key.startswith("c/segments/1/")]
    assert await everything(store, "c/segments/1") == below
    sizes = {len(page) async for page in store.list("c")}
    assert max(sizes) <= 1000
    assert 0 not in sizes


async def test_deleting_is_bulk_and_absent_counts_as_gone(store: ObjectStore) -> None:
    await store.put("c/one", [b"1"])
    await store.put("c/two", [b"2"])
    assert await store.delete(["c/one", "c/never", "c/two", "no/folder"]) == ["c/one", "c/never", "c/two", "no/folder"]
    assert await store.delete([]) == []
    with pytest.raises(NotFound):
        await store.get("c/one")
    assert await everything(store) == []
    await store.put("c/one", [b"again"])
    assert await store.get("c/one") == b"again"


async def test_large_bodies_go_whole(store: ObjectStore) -> None:
    rng = random.Random(5)
    parts = [rng.randbytes(1 << 20) for _ in range(9)]
    await store.put("c/large", parts)
    body = b"".join(parts)
    assert await store.get("c/large") == body
    assert await store.get("c/large", 5_000_000, 4_000_000) == body[5_000_000:9_000_000]


async def test_storing_at_once_does_it_wholly_or_leaves_it_to_put(store: ObjectStore) -> None:
    small, large = b"x" * max(store.now_bytes_max, 1), b"y" * (store.now_bytes_max + 1)
    assert not store.put_now("n/large", [large])
    assert store.put_now("n/small", [small[:1], memoryview(small)[1:]]) == (store.now_bytes_max > 0)
    if store.now_bytes_max == 0:
        await store.put("n/small", [small])
    await store.put("n/large", [large])
    assert await store.get("n/small") == small
    assert await store.get("n/large") == large
