"""Frames come out whole and in order however the stream is cut, and their bytes stay as long as anybody looks at them."""

from __future__ import annotations

import random
import tracemalloc
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.buffer_pool import is_free
from schemas.kafka.framing import START_BYTES, TRUST_BYTES_MAX, FrameError, FrameReader
from schemas.kafka.receive_pool import SLAB_BYTES, ReceivePool

LIMIT = 100 * 1024 * 1024


def framed(*bodies: bytes) -> bytes:
    return b"".join(pack(">i", len(body)) + body for body in bodies)


def feed(reader: FrameReader, data: bytes, cuts: list[int] | None = None) -> list[memoryview]:
    """Push a stream through a reader, at most `cuts[i]` bytes in the i-th read."""
    frames: list[memoryview] = []
    at = turn = 0
    while at < len(data):
        buffer = reader.get_buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(data) - at)
        if cuts:
            count = min(count, cuts[turn % len(cuts)])
        buffer[:count] = data[at : at + count]
        del buffer
        frames += reader.buffer_updated(count)
        at += count
        turn += 1
    return frames


sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from([START_BYTES - 4, START_BYTES, START_BYTES + 1, SLAB_BYTES - 4, SLAB_BYTES, SLAB_BYTES + 5]),
    st.integers(0, 1_500_000),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(sizes, min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 3, 4, 5, 100, 4096, 65536, 10**9]), min_size=1, max_size=5),
    st.integers(0, 1 << 30),
)
def test_frames_come_out_whole_in_order_and_stay(lengths: list[int], cuts: list[int], seed: int) -> None:
    if sum(lengths) // min(cuts) > 20_000:
        cuts = [*cuts, 10**9, 65536]
        cuts = [cut for cut in cuts if cut >= 4096] or [4096]
    rng = random.Random(seed)
    bodies = [rng.randbytes(length) for length in lengths]
    reader = FrameReader(ReceivePool(), LIMIT)
    frames = feed(reader, framed(*bodies), cuts)
    assert [bytes(frame) for frame in frames] == bodies
    assert reader.held_bytes == 0


def test_bytes_of_kept_frames_never_change() -> None:
    """Several connections on one pool; some frames are kept for long, others dropped at once: nothing is overwritten."""
    rng = random.Random(5)
    pool = ReceivePool(pool_bytes_max=8 * 1024 * 1024)
    readers = [FrameReader(pool, LIMIT) for _ in range(4)]
    kept: list[tuple[memoryview, bytes]] = []
    for turn in range(400):
        bodies = [rng.randbytes(rng.choice([10, 1000, 20_000, 150_000, 700_000])) for _ in range(rng.randrange(1, 4))]
        frames = feed(rng.choice(readers), framed(*bodies), [rng.choice([700, 50_000, 10**9])])
        assert len(frames) == len(bodies)
        kept += [(frame[1:5], body[1:5]) for frame, body in zip(frames, bodies, strict=True) if rng.random() < 0.6]
        if turn % 10 == 0:
            rng.shuffle(kept)
            del kept[20:]
        assert all(view == body for view, body in kept)
    assert pool.recycled > 50
    assert pool.retired_bytes <= 8 * 1024 * 1024


def test_reads_of_connections_may_overlap() -> None:
    """A transport may ask for a buffer for one connection before another's read has come back."""
    pool = ReceivePool()
    one, two = FrameReader(pool, LIMIT), FrameReader(pool, LIMIT)
    for _ in range(20):
        buffers = one.get_buffer(), two.get_buffer()
        data = framed(b"one" * 10), framed(b"two!" * 10)
        for buffer, stream in zip(buffers, data, strict=True):
            buffer[: len(stream)] = stream
        (second,), (first,) = two.buffer_updated(len(data[1])), one.buffer_updated(len(data[0]))
        assert (bytes(first), bytes(second)) == (b"one" * 10, b"two!" * 10)


def test_slab_is_used_again_where_nobody_looks() -> None:
    pool = ReceivePool()
    reader = FrameReader(pool, LIMIT)
    stream = framed(bytes(20_000))
    for _ in range(200):
        feed(reader, stream)
    assert pool.made == 1
    assert len({id(frame.obj) for _ in range(40) for frame in feed(reader, stream)}) <= 2
    held = [feed(reader, stream) for _ in range(40)]
    assert pool.made > 1
    made = pool.made
    held.clear()
    for _ in range(200):
        feed(reader, stream)
    assert pool.made == made


def test_large_frames_in_a_row_are_read_in_place_and_recycled() -> None:
    pool = ReceivePool()
    reader = FrameReader(pool, LIMIT)
    feed(reader, framed(bytes(1 << 20)))
    made = pool.made
    stream = framed(b"x" * (1 << 20))
    for _ in range(20):
        at = 0
        frames: list[memoryview] = []
        while at < len(stream):
            buffer = reader.get_buffer()
            place = buffer.obj
            count = min(len(buffer), len(stream) - at, 400_000)
            buffer[:count] = stream[at : at + count]
            del buffer
            frames = reader.buffer_updated(count)
            at += count
        (frame,) = frames
        assert frame.obj is place
        assert frame == stream[4:]
        del frames, frame, place
    assert pool.made == made


@pytest.mark.parametrize("size", [-1, -(1 << 31), 1001, (1 << 31) - 1, int.from_bytes(b"GET ", "big")])
def test_impossible_sizes_are_refused_after_what_came_before(size: int) -> None:
    for cuts in ([10**9], [1]):
        reader = FrameReader(ReceivePool(), 1000)
        with pytest.raises(FrameError) as caught:
            feed(reader, framed(b"good") + pack(">i", size) + b"more", cuts)
        assert (caught.value.size, caught.value.limit) == (size, 1000)
        assert [bytes(frame) for frame in caught.value.frames] == ([b"good"] if cuts != [1] else [])


def test_limit_can_change_between_frames() -> None:
    reader = FrameReader(ReceivePool(), 10)
    assert len(feed(reader, framed(b"0123456789"))) == 1
    reader.frame_bytes_max = 20
    assert len(feed(reader, framed(b"0123456789abc"))) == 1
    reader.frame_bytes_max = 5
    with pytest.raises(FrameError):
        feed(reader, framed(b"0123456"))
    assert len(feed(FrameReader(ReceivePool(), 0), framed(b""))) == 1


def test_announced_sizes_take_no_memory() -> None:
    """10,000 connections announce 100 MiB each and send a few bytes: they get little more than what they sent."""
    pool = ReceivePool()
    head = pack(">i", LIMIT) + b"few bytes"
    tracemalloc.start()
    try:
        readers = [FrameReader(pool, LIMIT) for _ in range(200)]
        for reader in readers:
            feed(reader, head)
        held = sum(reader.held_bytes for reader in readers)
        assert held == 200 * START_BYTES
        assert tracemalloc.get_traced_memory()[0] < held + 1024 * 1024
    finally:
        tracemalloc.stop()


def test_memory_grows_with_what_arrives() -> None:
    reader = FrameReader(ReceivePool(), LIMIT)
    feed(reader, pack(">i", 50_000_000))
    arrived = 0
    for _ in range(600):
        feed(reader, bytes(50_000))
        arrived += 50_000
        assert reader.held_bytes <= max(2 * START_BYTES, 2 * (arrived + 4) + 1)
    reader.close()
    assert reader.held_bytes == 0


def test_trust_ends_with_the_last_frame() -> None:
    reader = FrameReader(ReceivePool(), LIMIT)
    feed(reader, framed(bytes(20_000_000)))
    reader.get_buffer()
    assert reader.held_bytes == TRUST_BYTES_MAX
    reader.close()
    feed(reader, framed(b"small"))
    assert reader.held_bytes == 0


def test_pool_keeps_to_its_bound_and_trims() -> None:
    pool = ReceivePool(pool_bytes_max=1024 * 1024)
    reader = FrameReader(pool, LIMIT)
    held = [feed(reader, framed(bytes(300_000))) for _ in range(10)]
    assert 0 < pool.retired_bytes <= 1024 * 1024
    pool.trim()
    assert pool.retired_bytes > 0
    held.clear()
    pool.trim()
    assert pool.retired_bytes == 0


def test_free_means_that_no_view_is_left() -> None:
    buffer = bytearray(100)
    view = memoryview(buffer)
    part = view[10:20]
    assert not is_free(buffer)
    del view
    assert not is_free(buffer)
    other = part[2:3].toreadonly()
    del part
    assert not is_free(buffer)
    del other
    assert is_free(buffer)
    assert buffer == bytes(100)
