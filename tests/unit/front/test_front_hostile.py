"""The corpus of bad input against a live listener: an answer or a clean close, soon, with bounded memory, nobody else harmed."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from broker.kafka.messages import read_request
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.wire import WireError
from tests.front_fakes import Client, Fakes, make, running, settings
from tests.fuzz import corpus

AT_ONCE = 64
HAND_WRITTEN = (ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA)
FRAMES = list(corpus.request_frames(topic="t"))
SMALL = [frame for frame in FRAMES if frame.api not in HAND_WRITTEN]


@pytest.fixture
async def fakes() -> Fakes:
    found = Fakes(settings(auto_create_topics_enable=False))
    found.topics.add("t", 2)
    return found


@pytest.fixture
async def address(fakes: Fakes) -> AsyncIterator[tuple[str, int]]:
    async with running(fakes) as (listener, bound):
        bystander = await Client.connect(bound)
        yield bound
        assert (await bystander.call(make(18, 0))).error_code == 0
        assert listener.statistics.handler_failures == 0
        await bystander.close()


async def outcome(address: tuple[str, int], data: bytes) -> bytes:
    """What comes back for these bytes on a connection of their own: a frame's payload, or nothing where it is closed."""
    client = await Client.connect(address)
    try:
        async with asyncio.timeout(5):
            client.writer.write(data)
            return await client.payload()
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    finally:
        await client.close()


async def all_outcomes(address: tuple[str, int], cases: Iterable[bytes]) -> list[bytes]:
    """The outcomes of many cases, some at a time."""
    found: list[bytes] = []
    waiting = list(cases)
    for first in range(0, len(waiting), AT_ONCE):
        found += await asyncio.gather(*(outcome(address, data) for data in waiting[first : first + AT_ONCE]))
    return found


def grown_kib(before: int) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


async def test_every_request_of_the_corpus_is_answered(address: tuple[str, int]) -> None:
    answers = await all_outcomes(address, (corpus.framed(frame.data) for frame in FRAMES))
    for frame, answer in zip(FRAMES, answers, strict=True):
        assert answer[:4] == b"\0\0\0\7", frame.name


async def test_requests_cut_off_at_every_byte(address: tuple[str, int], fakes: Fakes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases = [(frame, data) for frame in FRAMES for data in corpus.truncations(frame)]
    answers = await all_outcomes(address, (corpus.framed(data) for _, data in cases))
    for (frame, data), answer in zip(cases, answers, strict=True):
        assert answer in (b"",) or answer[:4] == b"\0\0\0\7", frame.name
        # Whatever is cut inside the header, or decoded strictly, is a close.
        if len(data) < frame.body_at and frame.api is not ApiKey.API_VERSIONS:
            assert answer == b"", frame.name
    assert not fakes.log.shards, "no part of a Produce request was taken for a whole one"
    assert grown_kib(before) < 64 * 1024


async def test_streams_that_end_inside_a_request(address: tuple[str, int]) -> None:
    async def half(data: bytes) -> bytes:
        client = await Client.connect(address)
        client.writer.write(data)
        client.writer.write_eof()
        async with asyncio.timeout(5):
            answer = await client.reader.read()
        await client.close()
        return answer

    rng = random.Random(4)
    whole = [corpus.framed(frame.data) for frame in FRAMES]
    cuts = [data[: rng.randrange(len(data))] for data in whole for _ in range(3)]
    for first in range(0, len(cuts), AT_ONCE):
        assert set(await asyncio.gather(*(half(data) for data in cuts[first : first + AT_ONCE]))) == {b""}


async def test_headers_and_streams_that_are_wrong(address: tuple[str, int]) -> None:
    wrong = [corpus.framed(data) for _, data in corpus.hostile_headers()]
    wrong += [data for _, data in corpus.hostile_streams(100 * 1024 * 1024)]
    assert set(await all_outcomes(address, wrong)) == {b""}
    odd = [corpus.framed(data) for _, data in corpus.odd_but_good_headers()]
    assert all(answer[:4] == b"\0\0\0\1" for answer in await all_outcomes(address, odd))


async def test_crowded_requests_are_answered_or_refused_within_bounds(address: tuple[str, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, api, version, body in corpus.crowded_frames(200_000):
        head = int(api).to_bytes(2, "big") + version.to_bytes(2, "big") + b"\0\0\0\1\xff\xff"
        assert await outcome(address, corpus.framed(head + body)) == b"", name
    assert grown_kib(before) < 128 * 1024


async def test_spoiled_requests_never_break_a_handler(address: tuple[str, int]) -> None:
    rng = random.Random(11)
    cases = [corpus.framed(data) for frame in FRAMES for data in corpus.mutations(frame, rng, 12)]
    await all_outcomes(address, cases)


@pytest.mark.parametrize("frame", SMALL, ids=[frame.name for frame in SMALL])
def test_lying_numbers_are_read_or_refused_quickly(frame: Any) -> None:
    for data in corpus.hostile_numbers(frame):
        began = time.perf_counter()
        try:
            read_request(frame.api, frame.version, data, frame.body_at)
        except WireError:
            pass
        assert time.perf_counter() - began < 0.05


async def test_bad_batches_have_their_codes() -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    async with running(fakes) as (_, bound):
        client = await Client.connect(bound)
        for bad in corpus.bad_batches():
            part = {"index": 0, "records": bad.data}
            request = make(
                0, 9, transactional_id=None, acks=-1, timeout=1, topic_data=[{"name": "t", "partition_data": [part]}]
            )
            (answer,) = (await client.call(request)).responses[0].partition_responses
            assert (answer.error_code, answer.base_offset) == (bad.code, -1), bad.name
        assert not fakes.log.shards
        await client.close()
