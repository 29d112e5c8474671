""" "Already exists", a timeout or a 5xx is not "stored": the retrying store over every way a write can go wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from broker.clock import SystemClock
from broker.objects.faulty import PUT_POINTS, FaultyStore
from broker.objects.memory import MemoryStore
from broker.objects.port import (
    AlreadyExists,
    Buffer,
    Corrupt,
    NotFound,
    ObjectInfo,
    ObjectStoreError,
    OutcomeUnknown,
    Refused,
    Unavailable,
)
from broker.objects.retrying import RetryingStore, RetryLimits
from schemas.fault_points import POINTS
from tests.conformance.object_stores import faulty

KEY = "c/segments/1/0-00000000000000aa"
BODY = b"the records of a flush"


class Scripted(MemoryStore):
    """A store that does, call by call, what a script says: an error before the effect, or one after it ("landed")."""

    def __init__(self, **script: list[Any]) -> None:
        super().__init__(lambda: 0)
        self.script = script
        self.calls: list[str] = []

    def _next(self, operation: str) -> Any:
        self.calls.append(operation)
        steps = self.script.get(operation)
        return steps.pop(0) if steps else None

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        step = self._next("put")
        if step == "hang":
            await asyncio.sleep(3600)
        if isinstance(step, tuple):  # ("landed", error)
            await super().put(key, parts, if_absent=if_absent)
            raise step[1]
        if isinstance(step, Exception):
            raise step
        await super().put(key, parts, if_absent=if_absent)

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        step = self._next("get")
        if isinstance(step, Exception):
            raise step
        return await super().get(key, start, length)

    async def head(self, key: str) -> ObjectInfo:
        step = self._next("head")
        if isinstance(step, Exception):
            raise step
        return await super().head(key)

    async def delete(self, keys: Sequence[str]) -> list[str]:
        step = self._next("delete")
        return await super().delete(keys if step is None else keys[:step])

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        step = self._next("list")
        async for page in super().list(prefix):
            yield page
            if step is not None:
                raise step


def retrying(inner: Scripted | FaultyStore, **limits: int) -> RetryingStore:
    bounds = RetryLimits(**({"attempts": 4, "backoff_ms": 1, "backoff_max_ms": 2} | limits))
    return RetryingStore(inner, SystemClock(), random.Random(1), bounds)


async def test_timed_out_but_landed_is_stored() -> None:
    inner = Scripted(put=[("landed", OutcomeUnknown("timeout"))])
    await retrying(inner).put(KEY, [BODY[:5], BODY[5:]])
    assert inner.calls == ["put", "head", "get"]
    assert await inner.get(KEY) == BODY


async def test_timed_out_and_absent_is_tried_again_under_the_same_name() -> None:
    inner = Scripted(put=[OutcomeUnknown("timeout")])
    await retrying(inner).put(KEY, [BODY])
    assert inner.calls == ["put", "head", "put"]
    assert await inner.get(KEY) == BODY


async def test_landed_late_is_stored_once() -> None:
    inner = MemoryStore(lambda: 0)
    store, faults = faulty(inner, 4, {"put_landed_late": 1.0})
    await retrying(store, attempts=50, backoff_ms=4, backoff_max_ms=4).put(KEY, [BODY])
    await store.settled()
    assert faults.fired["put_landed_late"] >= 1
    assert await inner.get(KEY) == BODY


async def test_a_late_landing_between_look_and_retry_is_found_ours() -> None:
    inner = Scripted(put=[OutcomeUnknown("timeout")])

    async def land(seconds: float) -> None:
        await MemoryStore.put(inner, KEY, [BODY])

    store = RetryingStore(inner, SystemClock(), random.Random(1), RetryLimits(), sleep=land)
    await store.put(KEY, [BODY])
    assert inner.calls == ["put", "head", "put", "head", "get"]


async def test_taken_by_our_own_content_is_stored() -> None:
    inner = Scripted()
    await MemoryStore.put(inner, KEY, [BODY])
    await retrying(inner).put(KEY, [BODY])
    assert inner.calls == ["put", "head", "get"]


@pytest.mark.parametrize("other", [BODY + b"!", BODY[:-1] + b"?", b""])
async def test_taken_by_other_content_is_not_stored(other: bytes) -> None:
    inner = Scripted()
    await MemoryStore.put(inner, KEY, [other])
    with pytest.raises(AlreadyExists):
        await retrying(inner).put(KEY, [BODY])
    assert inner.calls.count("put") == 1
    assert await inner.get(KEY) == other


@pytest.mark.parametrize("other", [BODY + b"!", BODY[:-1] + b"?"])
async def test_timed_out_and_taken_by_other_content_is_not_stored(other: bytes) -> None:
    inner = Scripted(put=[OutcomeUnknown("timeout")])
    await MemoryStore.put(inner, KEY, [other])
    with pytest.raises(AlreadyExists):
        await retrying(inner).put(KEY, [BODY])


async def test_taken_and_gone_again_is_tried_again() -> None:
    inner = Scripted(put=[AlreadyExists(KEY)])
    await retrying(inner).put(KEY, [BODY])
    assert inner.calls == ["put", "head", "put"]


@pytest.mark.parametrize("error", [Unavailable("409 conflict"), Unavailable("503 slow down")])
async def test_refused_before_effect_is_tried_again_without_looking(error: Exception) -> None:
    inner = Scripted(put=[error, error])
    await retrying(inner).put(KEY, [BODY])
    assert inner.calls == ["put", "put", "put"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"put": [Unavailable("503")] * 9}, Unavailable),
        ({"put": [OutcomeUnknown("timeout")] * 9}, OutcomeUnknown),
        # it may have landed at the first attempt: the later ones don't make that untrue
        ({"put": [OutcomeUnknown("timeout"), *[Unavailable("503")] * 9]}, OutcomeUnknown),
        ({"put": [OutcomeUnknown("timeout"), Refused("403")]}, OutcomeUnknown),
        ({"put": [AlreadyExists(KEY)] * 9, "head": [Unavailable("503")] * 9}, OutcomeUnknown),
        ({"put": [("landed", OutcomeUnknown("500"))], "get": [Corrupt("short")] * 9}, OutcomeUnknown),
        ({"put": [Refused("403")]}, Refused),
    ],
)
async def test_when_attempts_run_out_the_worst_is_told(script: dict[str, Any], expected: type[Exception]) -> None:
    inner = Scripted(**script)
    with pytest.raises(ObjectStoreError) as raised:
        await retrying(inner).put(KEY, [BODY])
    assert type(raised.value) is expected
    assert inner.calls.count("put") <= 4


async def test_a_failed_look_is_made_again() -> None:
    inner = Scripted(put=[("landed", OutcomeUnknown("timeout"))], head=[Unavailable("503")], get=[Corrupt("short")])
    await retrying(inner).put(KEY, [BODY])
    assert await inner.get(KEY) == BODY


async def test_a_hanging_put_ends_within_its_time_and_counts_as_unknown() -> None:
    inner = Scripted(put=["hang"])
    await retrying(inner, attempt_timeout_ms=20).put(KEY, [BODY])
    assert inner.calls == ["put", "head", "put"]
    inner = Scripted(put=["hang"] * 9)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(retrying(inner, attempt_timeout_ms=20).put(KEY, [BODY]), 2)


async def test_the_deadline_ends_it_whatever_the_attempts() -> None:
    inner = Scripted(put=["hang"] * 999)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(retrying(inner, attempts=999, attempt_timeout_ms=30_000, deadline_ms=50).put(KEY, [BODY]), 2)  # fmt: skip
    inner = Scripted(put=[Unavailable("503")] * 999)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(retrying(inner, attempts=999, deadline_ms=50).put(KEY, [BODY]), 2)
    assert 2 < len(inner.calls) < 999


async def test_overwriting_needs_no_look() -> None:
    inner = Scripted(put=[("landed", OutcomeUnknown("500")), Unavailable("503")])
    await retrying(inner).put(KEY, [BODY], if_absent=False)
    assert inner.calls == ["put", "put", "put"]


async def test_a_short_body_is_read_again_and_told_when_it_stays_short() -> None:
    inner = Scripted(get=[Corrupt("short"), Unavailable("reset")])
    await MemoryStore.put(inner, KEY, [BODY])
    assert await retrying(inner).get(KEY, 4, 7) == BODY[4:11]
    inner.script["get"] = [Corrupt("short")] * 9
    with pytest.raises(Corrupt):
        await retrying(inner).get(KEY)


async def test_not_found_is_an_answer_not_a_failure() -> None:
    inner = Scripted()
    with pytest.raises(NotFound):
        await retrying(inner).get(KEY)
    with pytest.raises(NotFound):
        await retrying(inner).head(KEY)
    assert inner.calls == ["get", "head"]


async def test_only_unconfirmed_deletes_are_asked_again() -> None:
    inner = Scripted(delete=[1, 0])
    keys = ["c/a", "c/b", "c/c"]
    assert await retrying(inner).delete(keys) == keys
    inner.script["delete"] = [1, 0, 0, 0, 0]
    assert await retrying(inner).delete(keys) == ["c/a"]


async def test_a_broken_listing_goes_on_without_repeating_or_losing_keys() -> None:
    inner = Scripted(list=[Unavailable("reset"), Unavailable("reset")])
    inner._page = 3
    keys = [f"c/{n:02}" for n in range(10)]
    for key in keys:
        await inner.put(key, [b"x"])
    pages = [[info.key for info in page] async for page in retrying(inner).list("c")]
    assert [key for page in pages for key in page] == keys
    inner.script["list"] = [Unavailable("reset")] * 9
    inner._page = 1
    with pytest.raises(Unavailable):
        [page async for page in retrying(inner).list("c")]


async def test_waits_grow_with_jitter_and_replay_from_a_seed() -> None:
    async def waits(seed: int) -> list[float]:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        limits = RetryLimits(attempts=8, backoff_ms=10, backoff_max_ms=100)
        inner = Scripted(put=[Unavailable("503")] * 9)
        store = RetryingStore(inner, SystemClock(), random.Random(seed), limits, sleep)
        with pytest.raises(Unavailable):
            await store.put(KEY, [BODY])
        return slept

    first = await waits(1)
    assert first == await waits(1) != await waits(2)
    for wait, ceiling_ms in zip(first, (10, 20, 40, 80, 100, 100, 100), strict=True):
        assert ceiling_ms / 2 <= wait * 1000 <= ceiling_ms


async def test_many_writers_over_every_fault_lose_nothing_and_invent_nothing() -> None:
    inner = MemoryStore(lambda: 0)
    points = [
        name for name in PUT_POINTS if POINTS[name].survivable and name != "put_torn"
    ]  # a torn name is never ours
    rates = dict.fromkeys([*points, "get_refused", "get_truncated", "get_flipped", "get_slow"], 0.12)
    under, faults = faulty(inner, 11, rates, delay_ms=3)
    store = retrying(under, attempts=8)
    bodies = {f"c/{n % 40}": [] for n in range(120)}  # type: dict[str, list[bytes]]
    acknowledged: list[tuple[str, bytes]] = []

    async def write(n: int) -> None:
        key, body = f"c/{n % 40}", b"%d," % (n % 80) * 50
        bodies[key].append(body)
        try:
            await store.put(key, [body])
        except (AlreadyExists, OutcomeUnknown, Unavailable):
            return
        acknowledged.append((key, body))

    await asyncio.gather(*(write(n) for n in range(120)))
    await under.settled()
    assert len(acknowledged) > 40
    for key, body in acknowledged:
        assert await inner.get(key) == body
    async for page in inner.list("c"):
        for info in page:
            assert await inner.get(info.key) in bodies[info.key]
    never = [point for point in rates if not faults.fired[point]]
    assert not never, f"faults that never fired: {never}"
