"""Every codec round-trips with other people's libraries; bombs stop at the bound in little time and memory."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable

import cramjam
import lz4.frame
import pytest
import snappy
import zstandard

from schemas.kafka.compression import (
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    XERIAL_MAGIC,
    ZSTD,
    CompressionError,
    TooLarge,
    compress,
    decompress,
)
from schemas.kafka.wire import uvarint

MIB = 1 << 20
TEXT = b"the quick brown fox jumps over the lazy dog; " * 3000
NOISE = random.Random(1).randbytes(300_000)
SAMPLES = [b"", b"a", TEXT, NOISE, bytes(1_000_000), TEXT + NOISE]


def zstd_stream(data: bytes, *, level: int = 3, flush_bytes: int = 0, checksum: bool = False) -> bytes:
    """As Kafka's Java client writes it: streamed, so that the frame doesn't say its size."""
    stream = zstandard.ZstdCompressor(level=level, write_checksum=checksum).compressobj()
    out = b""
    if flush_bytes:
        for at in range(0, len(data), flush_bytes):
            out += stream.compress(data[at : at + flush_bytes])
            out += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    else:
        out = stream.compress(data)
    return out + stream.flush()


WRITERS: list[tuple[int, Callable[[bytes], bytes]]] = [
    (GZIP, gzip.compress),
    (GZIP, lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:])),
    (SNAPPY, lambda data: bytes(snappy.compress(data))),
    (LZ4, lambda data: lz4.frame.compress(data, block_linked=False)),
    (LZ4, lambda data: lz4.frame.compress(data, block_linked=True, store_size=False)),
    (LZ4, lambda data: lz4.frame.compress(data, content_checksum=True, block_checksum=True, block_size=7)),
    (ZSTD, zstandard.ZstdCompressor(level=3).compress),
    (ZSTD, zstd_stream),
    (ZSTD, lambda data: zstd_stream(data, level=19, checksum=True)),
    (ZSTD, lambda data: zstd_stream(data, flush_bytes=700)),
    (ZSTD, lambda data: zstd_stream(data[:999]) + zstd_stream(data[999:])),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=len)
@pytest.mark.parametrize("writer", range(len(WRITERS)))
def test_what_others_write_is_read(writer: int, sample: bytes) -> None:
    codec, write = WRITERS[writer]
    data = write(sample)
    assert decompress(codec, data, len(sample)) == sample
    assert decompress(codec, memoryview(data), 100 * MIB) == sample
    if sample:
        with pytest.raises(TooLarge):
            decompress(codec, data, len(sample) - 1)


@pytest.mark.parametrize("sample", SAMPLES, ids=len)
def test_what_we_write_is_read_by_others(sample: bytes) -> None:
    assert gzip.decompress(compress(GZIP, sample)) == sample
    assert lz4.frame.decompress(compress(LZ4, sample)) == sample
    assert not lz4.frame.get_frame_info(compress(LZ4, sample))["block_linked"], (
        "Kafka's own reader takes no linked blocks"
    )
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compress(ZSTD, sample)) == sample
    assert snappy.uncompress(compress(SNAPPY, sample, xerial=False)) == sample
    framed = compress(SNAPPY, sample)
    assert framed.startswith(XERIAL_MAGIC)
    for codec in range(5):
        assert decompress(codec, compress(codec, sample), len(sample)) == sample


def test_plain_data_is_not_copied() -> None:
    data = bytes(100)
    view = decompress(NONE, data, 100)
    assert isinstance(view, memoryview)
    assert view.obj is data
    with pytest.raises(TooLarge):
        decompress(NONE, data, 99)


def test_unknown_codecs() -> None:
    for codec in (5, 7, -1):
        with pytest.raises(CompressionError):
            decompress(codec, b"data", 100)
        with pytest.raises(CompressionError):
            compress(codec, b"data")


@pytest.mark.parametrize("writer", range(len(WRITERS)))
def test_damage_is_always_a_compression_error(writer: int) -> None:
    codec, write = WRITERS[writer]
    data = write(TEXT[:5000])
    for end in [*range(min(len(data), 60)), *range(max(0, len(data) - 30), len(data))]:
        try:
            got = decompress(codec, data[:end], MIB)
        except CompressionError:
            continue
        assert TEXT[:5000].startswith(bytes(got))  # cut exactly between two frames
        assert len(got) < 5000
    rng = random.Random(writer)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            decompress(codec, damaged, MIB)
        except CompressionError:
            pass


def zstd_rle_bomb(blocks: int) -> bytes:
    """A zstd frame of RLE blocks of 128 KiB, four bytes each."""
    block = ((128 * 1024) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = ((128 * 1024) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * (blocks - 1) + last


def gzip_bomb(size: int) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(stream.compress(bytes(MIB)) for _ in range(size // MIB)) + stream.flush()


BOMBS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "gzip": (GZIP, lambda: gzip_bomb(64 * MIB)),
    "gzip of many members": (GZIP, lambda: gzip_bomb(4 * MIB) * 64),
    "snappy": (SNAPPY, lambda: bytes(cramjam.snappy.compress_raw(bytes(64 * MIB)))),
    "snappy in xerial blocks": (
        SNAPPY,
        lambda: XERIAL_MAGIC + bytes(8) + _xerial_block(bytes(cramjam.snappy.compress_raw(bytes(8 * MIB)))) * 8,
    ),
    "lz4": (LZ4, lambda: lz4.frame.compress(bytes(256 * MIB), block_size=7)),
    "zstd": (ZSTD, lambda: zstd_stream(bytes(256 * MIB))),
    "zstd of RLE blocks": (ZSTD, lambda: zstd_rle_bomb(262_000)),
    "zstd of many frames": (ZSTD, lambda: zstd_rle_bomb(10) * 20_000),
}


def _xerial_block(block: bytes) -> bytes:
    return len(block).to_bytes(4, "big") + block


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_stop_at_the_bound(name: str) -> None:
    codec, make = BOMBS[name]
    bomb = make()
    bound = 16 * MIB
    tracemalloc.start()
    try:
        started = time.perf_counter()
        with pytest.raises(TooLarge):
            decompress(codec, bomb, bound)
        assert time.perf_counter() - started < 1.0
        # What is allowed, once more while parts are joined or room doubles, and not a multiple of the bomb
        assert tracemalloc.get_traced_memory()[1] < 2 * bound + MIB
    finally:
        tracemalloc.stop()


def test_declared_sizes_are_not_believed() -> None:
    for data in (
        (SNAPPY, uvarint(200 * MIB) + b"\0" * 20),
        (SNAPPY, uvarint(2**31 - 1) + b"\0"),
        (SNAPPY, XERIAL_MAGIC + bytes(8) + b"\x7f\xff\xff\xff" + bytes(20)),
        (ZSTD, b"\x28\xb5\x2f\xfd\xe0" + (200 * MIB).to_bytes(8, "little") + b"\x01\0\0"),
        (LZ4, b"\x04\x22\x4d\x18\x68\x40" + (200 * MIB).to_bytes(8, "little") + bytes(5)),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(CompressionError):
                decompress(*data, 256 * MIB)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()


def test_zstd_windows_are_bounded() -> None:
    frame = bytearray(zstd_stream(TEXT))
    assert decompress(ZSTD, bytes(frame), MIB) == TEXT
    frame[5] = 0xA0  # 1 GiB
    with pytest.raises(CompressionError, match="window"):
        decompress(ZSTD, bytes(frame), MIB)
