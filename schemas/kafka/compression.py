"""Bounded decompression of Kafka's four codecs, and their compression for tools and tests.

A batch of one MiB may stand for tens of GiB. Here nothing is allocated from a declared size before it is checked, output
stops at `max_bytes`, and memory grows with what really comes out (at most twice that). For zstd and LZ4 the block headers
are walked first, up to a number of them: they bound the output from above, and name the window, which is bounded too. All damage is a CompressionError.

Layouts: gzip of one or more members; snappy raw or in the xerial framing of Kafka's Java client (told apart by its magic);
LZ4 frames; zstd frames. Sources: RFC 1952, RFC 8878, the LZ4 frame format 1.6, snappy's format description, KIP-110.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import cramjam

from schemas.kafka.wire import Buffer

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
ZSTD_WINDOW_BYTES_MAX = 128 * 1024 * 1024
"""Largest zstd window taken (window log 27, the most that level 22 and the format's own advice use)."""
XERIAL_MAGIC = b"\x82SNAPPY\x00"
XERIAL_BLOCK_BYTES = 32 * 1024

_XERIAL_HEAD_BYTES = 16
_SNAPPY_EXPANSION_MAX = 22
_GZIP_STEP_BYTES = 256 * 1024
_ZSTD_BLOCK_BYTES_MAX = 128 * 1024
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
_LZ4_MAGIC = 0x184D2204
_BLOCKS_WALKED_MAX = 20_000
_UNKNOWN = 1 << 62
_LZ4_BLOCK_BYTES = {4: 64 * 1024, 5: 256 * 1024, 6: 1024 * 1024, 7: 4096 * 1024}


class CompressionError(ValueError):
    """Compressed bytes are damaged, or of a codec that does not exist."""


class TooLarge(CompressionError):
    """Compressed bytes hold more than is allowed."""


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the data expands to more than max.decompressed.message.bytes, {max_bytes} bytes")


def decompress(codec: int, data: Buffer, max_bytes: int) -> bytes | memoryview:
    """What `data` holds, at most `max_bytes` bytes. Codec 0 gives the data itself, uncopied.

    Raises TooLarge, or CompressionError for damage and unknown codecs.
    """
    if codec == NONE:
        if len(data) > max_bytes:
            raise _too_large(max_bytes)
        return memoryview(data)
    if codec == GZIP:
        return _gunzip(data, max_bytes)
    if codec == SNAPPY:
        return _unsnappy(memoryview(data), max_bytes)
    if codec == LZ4:
        return _into(cramjam.lz4.decompress_into, data, _lz4_bound(data, max_bytes), max_bytes)
    if codec == ZSTD:
        return _into(cramjam.zstd.decompress_into, data, _zstd_bound(data, max_bytes), max_bytes)
    raise CompressionError(f"there is no compression type {codec}")


def compress(codec: int, data: Buffer, *, xerial: bool = True) -> bytes:
    """`data` in `codec`, as Kafka's clients write it; snappy in the xerial framing unless told otherwise."""
    if codec == NONE:
        return bytes(data)
    if codec == GZIP:
        return zlib.compress(data, 6, 31)
    if codec == SNAPPY:
        return _xerial(memoryview(data)) if xerial else bytes(cramjam.snappy.compress_raw(data))
    if codec == LZ4:
        return _lz4_frame(data)
    if codec == ZSTD:
        return bytes(cramjam.zstd.compress(data, 3))
    raise CompressionError(f"there is no compression type {codec}")


def _lz4_frame(data: Buffer) -> bytes:
    """A frame of blocks that don't refer to each other: Kafka's own reader takes no others."""
    compressor = cramjam.lz4.Compressor(block_linked=False)
    compressor.compress(data)
    return bytes(compressor.finish())


# -- gzip --------------------------------------------------------------------------------------------------------------


def _gunzip(data: Buffer, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    room = max_bytes
    rest: Buffer = data
    while True:
        member = zlib.decompressobj(31)
        while not member.eof:
            try:
                # One byte more than fits tells a full buffer from too much.
                part = member.decompress(rest, min(_GZIP_STEP_BYTES, room + 1))
            except zlib.error as error:
                raise CompressionError(f"gzip: {error}") from None
            rest = member.unconsumed_tail
            room -= len(part)
            if room < 0:
                raise _too_large(max_bytes)
            if not part and not rest and not member.eof:
                raise CompressionError("gzip: the data is cut short")
            parts.append(part)
        rest = member.unused_data
        if not rest:
            return b"".join(parts)


# -- snappy ------------------------------------------------------------------------------------------------------------


def _unsnappy(data: memoryview, max_bytes: int) -> bytes | memoryview:
    if data[:8] != XERIAL_MAGIC:
        return _raw_snappy(data, max_bytes)
    parts = []
    at = _XERIAL_HEAD_BYTES
    room = max_bytes
    if at > len(data):
        raise CompressionError("snappy: the framing's head is cut short")
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        end = at + 4 + size
        if end > len(data):
            raise CompressionError(f"snappy: a block of {size} bytes is cut short")
        part = _raw_snappy(data[at + 4 : end], room)
        room -= len(part)
        parts.append(part)
        at = end
    return b"".join(parts)


def _raw_snappy(block: memoryview, max_bytes: int) -> memoryview:
    size = 0
    for place, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    else:
        raise CompressionError("snappy: the block doesn't say its size")
    if size > max_bytes:
        raise _too_large(max_bytes)
    if size > len(block) * _SNAPPY_EXPANSION_MAX:
        raise CompressionError(f"snappy: {len(block)} bytes can't hold the {size} they declare")
    out = bytearray(size)
    try:
        filled = cramjam.snappy.decompress_raw_into(block, out) if size else 0
    except cramjam.DecompressionError as error:
        raise CompressionError(f"snappy: {error}") from None
    if filled != size:
        raise CompressionError(f"snappy: {filled} bytes came out where {size} were declared")
    return memoryview(out)


def _xerial(data: memoryview) -> bytes:
    out = bytearray(XERIAL_MAGIC + (1).to_bytes(4, "big") + (1).to_bytes(4, "big"))
    for at in range(0, len(data), XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + XERIAL_BLOCK_BYTES]))
        out += len(block).to_bytes(4, "big")
        out += block
    return bytes(out)


# -- frames of LZ4 and zstd --------------------------------------------------------------------------------------------


def _into(
    decode: Callable[[Buffer, bytearray], int], data: Buffer, bound: tuple[int, int], max_bytes: int
) -> memoryview:
    """Decode into room that doubles from a guess up to what `bound` says can come out, or one byte more than allowed.

    `bound` is (bytes that come out for certain, bytes that can come out at most).
    """
    least, most = bound
    if least > max_bytes:
        raise _too_large(max_bytes)
    limit = min(most, max_bytes)
    room = min(limit, max(least, 8 * len(data), 64 * 1024))
    while True:
        out = bytearray(room)
        try:
            filled = decode(data, out)
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise CompressionError(str(error)) from None
        else:
            return memoryview(out)[:filled]
        if room >= limit:
            if limit < most:
                raise _too_large(max_bytes)
            raise CompressionError("the data expands beyond what its block headers allow")
        room = min(limit, 4 * room)


def _le(data: Buffer, at: int, size: int) -> int:
    end = at + size
    if end > len(data):
        raise CompressionError("the compressed data is cut short")
    return int.from_bytes(data[at:end], "little")


def _skippable(data: Buffer, at: int) -> int:
    """Bytes of the skippable frame at `at`; 0 where there is none."""
    if _le(data, at, 4) & ~0xF != _ZSTD_SKIPPABLE:
        return 0
    return 8 + _le(data, at + 4, 4)


def _zstd_bound(data: Buffer, max_bytes: int) -> tuple[int, int]:
    """Least and most bytes that zstd frames can hold, from their headers and block headers. Bounds the window."""
    least = most = at = 0
    while at < len(data) and least <= max_bytes:
        if skip := _skippable(data, at):
            at += skip
            continue
        if _le(data, at, 4) != _ZSTD_MAGIC:
            raise CompressionError("zstd: no frame begins here")
        flags = _le(data, at + 4, 1)
        single, id_size, size_flag = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3], flags >> 6
        at += 5
        if not single:
            _check_window(_le(data, at, 1))
            at += 1
        at += id_size
        size_bytes = (1 if single else 0, 2, 4, 8)[size_flag]
        declared = _le(data, at, size_bytes) + (256 if size_bytes == 2 else 0) if size_bytes else None
        at, frame_least, frame_most = _zstd_blocks(data, at + size_bytes, max_bytes - least)
        least, most = _with_frame("zstd", least, most, frame_least, frame_most, declared)
        if frame_most == _UNKNOWN:
            break
        if flags & 4:
            at += 4
    return least, most


def _with_frame(
    codec: str, least: int, most: int, frame_least: int, frame_most: int, declared: int | None
) -> tuple[int, int]:
    """The bounds with one more frame, whose declared size counts where its blocks bear it out."""
    if frame_most == _UNKNOWN:
        return least + frame_least, _UNKNOWN
    if declared is not None:
        if not frame_least <= declared <= frame_most:
            raise CompressionError(f"{codec}: blocks of {frame_least} to {frame_most} bytes don't make {declared}")
        frame_least = frame_most = declared
    return least + frame_least, most + frame_most


def _check_window(descriptor: int) -> None:
    base = 1 << (10 + (descriptor >> 3))
    window = base + (base >> 3) * (descriptor & 7)
    if window > ZSTD_WINDOW_BYTES_MAX:
        raise CompressionError(f"zstd: a window of {window} bytes is more than {ZSTD_WINDOW_BYTES_MAX}")


def _zstd_blocks(data: Buffer, at: int, max_bytes: int) -> tuple[int, int, int]:
    """End of the blocks that begin at `at`, least and most bytes in them; most is _UNKNOWN where counting was given up."""
    least = most = 0
    for _ in range(_BLOCKS_WALKED_MAX):
        head = _le(data, at, 3)
        kind, size = head >> 1 & 3, head >> 3
        at += 3
        if kind == 3 or size > _ZSTD_BLOCK_BYTES_MAX:
            raise CompressionError("zstd: a block header is damaged")
        if kind == 2:
            most += _ZSTD_BLOCK_BYTES_MAX
            at += size
        else:
            least += size
            most += size
            at += size if kind == 0 else 1
        if head & 1:
            return at, least, most
        if least > max_bytes:
            break
    return at, least, _UNKNOWN


def _lz4_bound(data: Buffer, max_bytes: int) -> tuple[int, int]:
    """Least and most bytes that LZ4 frames can hold, from their headers and block sizes."""
    least = most = at = 0
    while at < len(data) and least <= max_bytes:
        if skip := _skippable(data, at):
            at += skip
            continue
        if _le(data, at, 4) != _LZ4_MAGIC:
            raise CompressionError("lz4: no frame begins here")
        flags, block_flags = _le(data, at + 4, 1), _le(data, at + 5, 1)
        block_bytes = _LZ4_BLOCK_BYTES.get(block_flags >> 4 & 7)
        if flags >> 6 != 1 or block_bytes is None:
            raise CompressionError("lz4: the frame's header is damaged")
        declared = _le(data, at + 6, 8) if flags & 8 else None
        at += 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
        at, frame_least, frame_most = _lz4_blocks(data, at, block_bytes, 4 if flags & 16 else 0)
        least, most = _with_frame("lz4", least, most, frame_least, frame_most, declared)
        if frame_most == _UNKNOWN:
            break
        at += 4 if flags & 4 else 0
    return least, most


def _lz4_blocks(data: Buffer, at: int, block_bytes: int, checksum_bytes: int) -> tuple[int, int, int]:
    least = most = 0
    for _ in range(_BLOCKS_WALKED_MAX):
        size = _le(data, at, 4)
        plain, size = size >> 31, size & 0x7FFF_FFFF
        if not size:
            return at + 4, least, most
        if size > block_bytes:
            raise CompressionError(f"lz4: a block of {size} bytes is larger than {block_bytes}")
        at += 4 + size + checksum_bytes
        least += size if plain else 0
        most += size if plain else min(block_bytes, 255 * size)
    return at, least, _UNKNOWN
