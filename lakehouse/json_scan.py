"""Compiled scanning of JSON text (RFC 8259): strings, numbers, literals, whole values that nobody asked for.

The scanners accept only what is plainly right and answer -1 for everything else; a -1 is no verdict: the row is then read
again by `parse_json_strict`, which decides and words the error. So the invariant is one-sided: what is accepted here is
what the strict parser accepts, with the same meaning. Positions are checked against `end` before every read.
"""

from __future__ import annotations

import numpy as np

from lakehouse.compiled import Place, byte_at, compiled

QUOTE, BACKSLASH, SLASH, COMMA, COLON, MINUS, PLUS, DOT = 0x22, 0x5C, 0x2F, 0x2C, 0x3A, 0x2D, 0x2B, 0x2E
OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY = 0x7B, 0x7D, 0x5B, 0x5D
ZERO, NINE, LOWER_E, UPPER_E = 0x30, 0x39, 0x65, 0x45
LOWER_T, LOWER_F, LOWER_N, LOWER_U = 0x74, 0x66, 0x6E, 0x75
SKIP_DEPTH_MAX = 62
"""Containers that `skip_value` can hold open: one bit each."""

PLAIN = np.array([32 <= byte < 128 and byte not in (QUOTE, BACKSLASH) for byte in range(256)], dtype=np.bool_)
"""Bytes of a string that need no second look."""


@compiled
def skip_space(buffer: Place, at: int, end: int) -> int:
    """The position of the next byte that isn't white space, or `end`."""
    while at < end:
        byte = byte_at(buffer, at)
        if byte > 32 or not (byte == 32 or byte == 10 or byte == 13 or byte == 9):
            break
        at += 1
    return at


@compiled
def skip_utf8(buffer: Place, at: int, end: int) -> int:
    """The position after the multi-byte UTF-8 sequence at `at`, or -1."""
    first = byte_at(buffer, at)
    low, high, more = 0x80, 0xBF, 1
    if first < 0xC2 or first > 0xF4:
        return -1
    if first >= 0xF0:
        more = 3
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    elif first >= 0xE0:
        more = 2
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    if end - at <= more:
        return -1
    second = byte_at(buffer, at + 1)
    if second < low or second > high:
        return -1
    for ahead in range(2, more + 1):
        byte = byte_at(buffer, at + ahead)
        if byte < 0x80 or byte > 0xBF:
            return -1
    return at + more + 1


@compiled
def read_hex4(buffer: Place, at: int, end: int) -> int:
    """Four hexadecimal digits as a number, or -1."""
    if end - at < 4:
        return -1
    value = 0
    for place in range(4):
        byte = byte_at(buffer, at + place)
        if ZERO <= byte <= NINE:
            digit = byte - ZERO
        elif 0x61 <= byte <= 0x66:
            digit = byte - 0x57
        elif 0x41 <= byte <= 0x46:
            digit = byte - 0x37
        else:
            return -1
        value = value * 16 + digit
    return value


@compiled
def read_escape(buffer: Place, at: int, end: int) -> tuple[int, int]:
    """The escape that begins with the backslash at `at`: (code point, position after it); position -1 where it isn't one.

    A pair of surrogates is one code point; a surrogate alone is answered with -1.
    """
    if end - at < 2:
        return 0, -1
    byte = byte_at(buffer, at + 1)
    if byte in (QUOTE, BACKSLASH, SLASH):
        return byte, at + 2
    if byte == 0x6E:
        return 10, at + 2
    if byte == LOWER_T:
        return 9, at + 2
    if byte == 0x72:
        return 13, at + 2
    if byte == 0x62:
        return 8, at + 2
    if byte == LOWER_F:
        return 12, at + 2
    if byte != LOWER_U:
        return 0, -1
    code = read_hex4(buffer, at + 2, end)
    if code < 0 or 0xDC00 <= code <= 0xDFFF:
        return 0, -1
    if code < 0xD800 or code > 0xDBFF:
        return code, at + 6
    if end - at < 12 or byte_at(buffer, at + 6) != BACKSLASH or byte_at(buffer, at + 7) != LOWER_U:
        return 0, -1
    low = read_hex4(buffer, at + 8, end)
    if low < 0xDC00 or low > 0xDFFF:
        return 0, -1
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00), at + 12


@compiled
def scan_string(buffer: Place, at: int, end: int) -> tuple[int, bool]:
    """From behind the opening quote: (position of the closing quote or -1, whether there are escapes)."""
    escaped = False
    while at < end:
        byte = byte_at(buffer, at)
        if PLAIN[byte]:
            at += 1
        elif byte == QUOTE:
            return at, escaped
        elif byte == BACKSLASH:
            escaped = True
            _code, at = read_escape(buffer, at, end)
            if at < 0:
                return -1, False
        elif byte >= 0x80:
            at = skip_utf8(buffer, at, end)
            if at < 0:
                return -1, False
        else:
            return -1, False
    return -1, False


@compiled
def skip_digits(buffer: Place, at: int, end: int) -> int:
    """The position after any digits."""
    while at < end and ZERO <= byte_at(buffer, at) <= NINE:
        at += 1
    return at


@compiled
def scan_number(buffer: Place, at: int, end: int) -> int:
    """The position after the number at `at`, or -1. What follows is the caller's business."""
    if at < end and byte_at(buffer, at) == MINUS:
        at += 1
    if at >= end or byte_at(buffer, at) < ZERO or byte_at(buffer, at) > NINE:
        return -1
    at = at + 1 if byte_at(buffer, at) == ZERO else skip_digits(buffer, at, end)
    if at < end and byte_at(buffer, at) == DOT:
        stop = skip_digits(buffer, at + 1, end)
        if stop == at + 1:
            return -1
        at = stop
    if at < end and (byte_at(buffer, at) == LOWER_E or byte_at(buffer, at) == UPPER_E):
        at += 1
        if at < end and (byte_at(buffer, at) == PLUS or byte_at(buffer, at) == MINUS):
            at += 1
        stop = skip_digits(buffer, at, end)
        if stop == at:
            return -1
        at = stop
    return at


@compiled
def scan_literal(buffer: Place, at: int, end: int) -> int:
    """The position after `true`, `false` or `null` at `at`, or -1."""
    if at >= end:
        return -1
    if end - at >= 4 and byte_at(buffer, at) == LOWER_T:
        if (
            byte_at(buffer, at + 1) == 0x72
            and byte_at(buffer, at + 2) == LOWER_U
            and byte_at(buffer, at + 3) == LOWER_E
        ):
            return at + 4
    elif end - at >= 4 and byte_at(buffer, at) == LOWER_N:
        if byte_at(buffer, at + 1) == LOWER_U and byte_at(buffer, at + 2) == 0x6C and byte_at(buffer, at + 3) == 0x6C:
            return at + 4
    elif end - at >= 5 and byte_at(buffer, at) == LOWER_F:  # noqa: SIM102 - one shape for three literals
        if (
            byte_at(buffer, at + 1) == 0x61
            and byte_at(buffer, at + 2) == 0x6C
            and byte_at(buffer, at + 3) == 0x73
            and byte_at(buffer, at + 4) == LOWER_E
        ):
            return at + 5
    return -1


@compiled
def skip_scalar(buffer: Place, at: int, end: int) -> int:
    """The position after the string, number or literal at `at`, or -1."""
    if at >= end:
        return -1
    byte = byte_at(buffer, at)
    if byte == QUOTE:
        close, _escaped = scan_string(buffer, at + 1, end)
        return close + 1 if close >= 0 else -1
    if byte == MINUS or ZERO <= byte <= NINE:
        return scan_number(buffer, at, end)
    return scan_literal(buffer, at, end)


@compiled
def skip_key(buffer: Place, at: int, end: int) -> int:
    """From before a key to behind its colon, or -1."""
    at = skip_space(buffer, at, end)
    if at >= end or byte_at(buffer, at) != QUOTE:
        return -1
    close, _escaped = scan_string(buffer, at + 1, end)
    if close < 0:
        return -1
    at = skip_space(buffer, close + 1, end)
    if at >= end or byte_at(buffer, at) != COLON:
        return -1
    return at + 1


@compiled
def skip_value(buffer: Place, at: int, end: int, room: int) -> int:
    """The position after the value at `at`, or -1; also -1 where more than `room` containers are open at once."""
    open_objects = 0
    depth = 0
    room = min(room, SKIP_DEPTH_MAX)
    while True:
        at = skip_space(buffer, at, end)
        if at >= end:
            return -1
        byte = byte_at(buffer, at)
        if byte | 0x20 == OPEN_OBJECT:  # or OPEN_ARRAY, which differs in this bit
            if depth >= room:
                return -1
            at = skip_space(buffer, at + 1, end)
            if at < end and byte_at(buffer, at) == byte + 2:  # the closing sign is two behind the opening one
                at += 1
            else:
                depth += 1
                open_objects = (open_objects << 1) | (1 if byte == OPEN_OBJECT else 0)
                if byte == OPEN_OBJECT:
                    at = skip_key(buffer, at, end)
                    if at < 0:
                        return -1
                continue
        else:
            at = skip_scalar(buffer, at, end)
            if at < 0:
                return -1
        while depth > 0:
            at = skip_space(buffer, at, end)
            if at >= end:
                return -1
            in_object = open_objects & 1 == 1
            if byte_at(buffer, at) == COMMA:
                at += 1
                if in_object:
                    at = skip_key(buffer, at, end)
                    if at < 0:
                        return -1
                break
            if byte_at(buffer, at) != (CLOSE_OBJECT if in_object else CLOSE_ARRAY):
                return -1
            at += 1
            depth -= 1
            open_objects >>= 1
        else:
            return at
