"""The row checksum of `schemas.row_checksum`, compiled: MD5 over each row's message, summed. Source of MD5: RFC 1321."""

from __future__ import annotations

import numpy as np

from lakehouse.compiled import Place, compiled, copy_bytes, int_at, long_at, place, put_byte
from lakehouse.decode_walk import Bytes, Ints, Longs
from schemas.row_checksum import MODULUS, RowChecksum

MASK = 0xFFFFFFFF
SINES = np.array([int(abs(np.sin(step + 1)) * 2**32) for step in range(64)], dtype=np.int64)
SHIFTS = np.array([7, 12, 17, 22] * 4 + [5, 9, 14, 20] * 4 + [4, 11, 16, 23] * 4 + [6, 10, 15, 21] * 4, dtype=np.int64)
A, B, C, D = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476
HEAD_BYTES_MAX = 64
"""Two numbers of at most 20 characters, two lengths of at most 10, four colons."""
PADDING_BYTES_MAX = 72


@compiled
def turned(word: int, bits: int) -> int:
    """A 32-bit word turned left."""
    word &= MASK
    return ((word << bits) | (word >> (32 - bits))) & MASK


@compiled
def digest_block(block: Place, word: int, a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    """MD5's state after the 64 bytes that begin at 32-bit word `word` of `block`."""
    a0, b0, c0, d0 = a, b, c, d
    for step in range(16):
        mixed = a + ((b & c) | (~b & d)) + SINES[step] + int_at(block, word + step)
        a, d, c, b = d, c, b, (b + turned(mixed, SHIFTS[step])) & MASK
    for step in range(16, 32):
        mixed = a + ((d & b) | (~d & c)) + SINES[step] + int_at(block, word + ((5 * step + 1) & 15))
        a, d, c, b = d, c, b, (b + turned(mixed, SHIFTS[step])) & MASK
    for step in range(32, 48):
        mixed = a + (b ^ c ^ d) + SINES[step] + int_at(block, word + ((3 * step + 5) & 15))
        a, d, c, b = d, c, b, (b + turned(mixed, SHIFTS[step])) & MASK
    for step in range(48, 64):
        mixed = a + (c ^ (b | (~d & MASK))) + SINES[step] + int_at(block, word + ((7 * step) & 15))
        a, d, c, b = d, c, b, (b + turned(mixed, SHIFTS[step])) & MASK
    return (a0 + a) & MASK, (b0 + b) & MASK, (c0 + c) & MASK, (d0 + d) & MASK


@compiled
def write_number(out: Place, to: int, number: int) -> int:
    """A number that isn't negative in decimal, and a colon; the position after it. -1 (null) is a dash."""
    if number < 0:
        put_byte(out, to, 0x2D)
        put_byte(out, to + 1, 0x3A)
        return to + 2
    digits = 1
    rest = number // 10
    while rest > 0:
        digits += 1
        rest //= 10
    for place_from_right in range(digits):
        put_byte(out, to + digits - 1 - place_from_right, 0x30 + number % 10)
        number //= 10
    put_byte(out, to + digits, 0x3A)
    return to + digits + 1


@compiled
def hash_message(message: Place, words: Place, length: int) -> int:
    """First 8 bytes of the MD5 of `message[0:length]`, little-endian; pads in place, up to 72 bytes behind the message.

    `words` is the same memory seen as 32-bit words.
    """
    padded = ((length + 8) // 64 + 1) * 64
    put_byte(message, length, 0x80)
    for at in range(length + 1, padded - 8):
        put_byte(message, at, 0)
    for byte in range(8):
        put_byte(message, padded - 8 + byte, ((length * 8) >> (8 * byte)) & 0xFF)
    a, b, c, d = A, B, C, D
    for word in range(0, padded // 4, 16):
        a, b, c, d = digest_block(words, word, a, b, c, d)
    return a | (b << 32)


@compiled
def sum_hashes(
    partition: int,
    rows: int,
    offsets: Place,
    buffer: Place,
    keys: Place,
    values: Place,
    with_value: bool,
    message: Place,
    words: Place,
) -> int:
    """Sum of the rows' hashes, modulo 2^64 as a signed number. `message` has room for the longest row's message."""
    total = 0
    for row in range(rows):
        key_length = int_at(keys, row * 2 + 1)
        value_length = int_at(values, row * 2 + 1) if with_value else -1
        to = write_number(message, 0, partition)
        to = write_number(message, to, long_at(offsets, row))
        to = write_number(message, to, key_length)
        to = write_number(message, to, value_length)
        if key_length > 0:
            copy_bytes(buffer, int_at(keys, row * 2), message, to, key_length)
            to += key_length
        if value_length > 0:
            copy_bytes(buffer, int_at(values, row * 2), message, to, value_length)
            to += value_length
        total += hash_message(message, words, to)
    return total


def checksum_spans(
    partition: int, offsets: Longs, slab: Bytes, keys: Ints, values: Ints, with_value: bool
) -> RowChecksum:
    """The checksum of rows whose keys and values are spans of one slab; spans are checked before anything is read."""
    rows = len(offsets)
    if not rows:
        return RowChecksum()
    for spans in (keys, values):
        inside = (spans[:, 1] < 0) | ((spans[:, 0] >= 0) & (spans[:, 0].astype(np.int64) + spans[:, 1] <= len(slab)))
        if not inside.all():
            raise AssertionError("a span lies outside its slab")
    if partition < 0 or int(offsets.min()) < 0:
        raise ValueError("partitions and offsets are not negative")
    longest = int((np.maximum(keys[:, 1], 0).astype(np.int64) + np.maximum(values[:, 1], 0)).max())
    size = (HEAD_BYTES_MAX + longest + PADDING_BYTES_MAX + 3) // 4 * 4
    words = np.zeros(size // 4, dtype=np.int32)
    message = words.view(np.uint8)
    total = sum_hashes(
        partition,
        rows,
        place(offsets),
        place(slab),
        place(keys),
        place(values),
        with_value,
        place(message),
        place(words),
    )
    return RowChecksum(rows, int(total) % MODULUS)
