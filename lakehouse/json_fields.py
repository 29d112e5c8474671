"""Compiled reading of one declared JSON field into its column's arrays: the plain cases of every type.

As in `json_scan`, -1 means "let the strict parser look", never "wrong". What a field leaves behind is a state and one
number: the value itself (scaled, in days or in microseconds; the bits of a double), or a span of text that is copied or
converted later, as start << 32 | length.
"""

from __future__ import annotations

import numpy as np

from lakehouse.compiled import Place, byte_at, compiled, long_at, put_byte, put_long
from lakehouse.json_scan import (
    COLON,
    DOT,
    LOWER_E,
    LOWER_F,
    LOWER_N,
    LOWER_T,
    MINUS,
    NINE,
    PLUS,
    QUOTE,
    UPPER_E,
    ZERO,
    scan_literal,
    scan_number,
    scan_string,
    skip_value,
)

BOOLEAN, INT, LONG, FLOAT, DOUBLE, DECIMAL, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, STRING, BINARY, UUID, JSON = range(14)
KINDS = {
    "boolean": BOOLEAN,
    "int": INT,
    "long": LONG,
    "float": FLOAT,
    "double": DOUBLE,
    "decimal": DECIMAL,
    "date": DATE,
    "time": TIME,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMPTZ,
    "string": STRING,
    "binary": BINARY,
    "uuid": UUID,
    "json": JSON,
}

ABSENT, NULL, VALUE, SPAN, ESCAPED, DEFERRED = range(6)
"""States: never seen; null; number in `values`; text span; text span with escapes; text span to be converted later."""

POWERS_OF_TEN = np.array([10.0**power for power in range(23)], dtype=np.float64)
"""All exact in a double, which makes mantissa (below 2^53) times or by power correctly rounded."""
INTEGER_POWERS_OF_TEN = np.array([10**power for power in range(19)], dtype=np.int64)
FLOAT32_MAX = 3.4028234663852886e38
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
MANTISSA_MAX = 2**53
DAYS_BEFORE_MONTH = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], dtype=np.int64)
DAYS_IN_MONTH = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)
DAYS_TO_1970 = 719_162
"""From 0001-01-01."""


@compiled
def read_scaled(buffer: Place, at: int, end: int, scale: int) -> tuple[int, int]:
    """A number times 10^scale as an exact integer of at most 18 digits: (integer, position after it or -1).

    Zeros behind the scale are allowed (1.0 is an integer), exponents are left to the strict parser.
    """
    negative = at < end and byte_at(buffer, at) == MINUS
    if negative:
        at += 1
    first = at
    value = 0
    while at < end and ZERO <= byte_at(buffer, at) <= NINE:
        if at - first >= 18:
            return 0, -1
        value = value * 10 + (byte_at(buffer, at) - ZERO)
        at += 1
    digits = at - first
    if digits == 0 or (digits > 1 and byte_at(buffer, first) == ZERO):
        return 0, -1
    places = 0
    if at < end and byte_at(buffer, at) == DOT:
        at += 1
        first = at
        while at < end and ZERO <= byte_at(buffer, at) <= NINE:
            if places < scale:
                if digits + places >= 18:
                    return 0, -1
                value = value * 10 + (byte_at(buffer, at) - ZERO)
                places += 1
            elif byte_at(buffer, at) != ZERO:
                return 0, -1
            at += 1
        if at == first:
            return 0, -1
    if at < end and (byte_at(buffer, at) == LOWER_E or byte_at(buffer, at) == UPPER_E):
        return 0, -1
    if places < scale:
        if digits + scale > 18:
            return 0, -1
        value *= INTEGER_POWERS_OF_TEN[scale - places]
    return (-value if negative else value), at


@compiled
def read_double(buffer: Place, at: int, end: int) -> tuple[float, int]:
    """A number whose double is exact by one multiplication or division: (double, position after it or -1)."""
    negative = at < end and byte_at(buffer, at) == MINUS
    if negative:
        at += 1
    first = at
    mantissa = 0
    power = 0
    digits = 0
    while at < end and ZERO <= byte_at(buffer, at) <= NINE:
        mantissa = mantissa * 10 + (byte_at(buffer, at) - ZERO)
        digits += 1
        if digits > 17:
            return 0.0, -1
        at += 1
    if digits == 0 or (digits > 1 and byte_at(buffer, first) == ZERO):
        return 0.0, -1
    if at < end and byte_at(buffer, at) == DOT:
        first = at + 1
        at = first
        while at < end and ZERO <= byte_at(buffer, at) <= NINE:
            mantissa = mantissa * 10 + (byte_at(buffer, at) - ZERO)
            digits += 1
            power -= 1
            if digits > 17:
                return 0.0, -1
            at += 1
        if at == first:
            return 0.0, -1
    if mantissa >= MANTISSA_MAX or power < -22:
        return 0.0, -1
    if at < end and (byte_at(buffer, at) == LOWER_E or byte_at(buffer, at) == UPPER_E):
        return 0.0, -1
    value = float(mantissa)
    if power < 0:
        value /= POWERS_OF_TEN[-power]
    return (-value if negative else value), at


@compiled
def read_two(buffer: Place, at: int, end: int) -> int:
    """Two digits as a number, or -1."""
    if end - at < 2:
        return -1
    tens = byte_at(buffer, at) - ZERO
    ones = byte_at(buffer, at + 1) - ZERO
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1
    return tens * 10 + ones


@compiled
def read_date(buffer: Place, at: int, end: int) -> tuple[int, int]:
    """YYYY-MM-DD as days since 1970-01-01: (days, position after it or -1). Years 0001 to 9999."""
    if end - at < 10 or byte_at(buffer, at + 4) != MINUS or byte_at(buffer, at + 7) != MINUS:
        return 0, -1
    century = read_two(buffer, at, end)
    rest = read_two(buffer, at + 2, end)
    month = read_two(buffer, at + 5, end)
    day = read_two(buffer, at + 8, end)
    if century < 0 or rest < 0 or month < 1 or month > 12 or day < 1:
        return 0, -1
    year = century * 100 + rest
    leap = (rest % 4 == 0) if rest != 0 else (century % 4 == 0)
    if year < 1 or day > DAYS_IN_MONTH[month - 1] + (1 if leap and month == 2 else 0):
        return 0, -1
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    days += DAYS_BEFORE_MONTH[month - 1] + (1 if leap and month > 2 else 0) + day - 1
    return days - DAYS_TO_1970, at + 10


@compiled
def read_time(buffer: Place, at: int, end: int) -> tuple[int, int]:
    """HH:MM, HH:MM:SS or HH:MM:SS.f (1 to 9 digits, cut to microseconds): (microseconds, position after it or -1)."""
    hour = read_two(buffer, at, end)
    if hour < 0 or hour > 23 or end - at < 5 or byte_at(buffer, at + 2) != COLON:
        return 0, -1
    minute = read_two(buffer, at + 3, end)
    if minute < 0 or minute > 59:
        return 0, -1
    micros = (hour * 60 + minute) * 60_000_000
    at += 5
    if at >= end or byte_at(buffer, at) != COLON:
        return micros, at
    second = read_two(buffer, at + 1, end)
    if second < 0 or second > 59:
        return 0, -1
    micros += second * 1_000_000
    at += 3
    if at >= end or byte_at(buffer, at) != DOT:
        return micros, at
    first = at + 1
    at = first
    unit = 100_000
    while at < end and ZERO <= byte_at(buffer, at) <= NINE:
        micros += (byte_at(buffer, at) - ZERO) * unit
        unit //= 10
        at += 1
    if at == first or at - first > 9:
        return 0, -1
    return micros, at


@compiled
def read_timestamp(buffer: Place, at: int, end: int, zoned: bool) -> tuple[int, bool]:
    """The text `[at, end)` as microseconds since 1970-01-01T00:00Z (or local, where not zoned): (microseconds, success)."""
    days, at = read_date(buffer, at, end)
    if (
        at < 0
        or at >= end
        or not (byte_at(buffer, at) == 0x54 or byte_at(buffer, at) == LOWER_T or byte_at(buffer, at) == 0x20)
    ):
        return 0, False
    micros, at = read_time(buffer, at + 1, end)
    if at < 0:
        return 0, False
    micros += days * 86_400_000_000
    if not zoned:
        return micros, at == end
    if at == end - 1 and (byte_at(buffer, at) == 0x5A or byte_at(buffer, at) == 0x7A):
        return micros, True
    if (
        end - at != 6
        or byte_at(buffer, at + 3) != COLON
        or not (byte_at(buffer, at) == PLUS or byte_at(buffer, at) == MINUS)
    ):
        return 0, False
    hour = read_two(buffer, at + 1, end)
    minute = read_two(buffer, at + 4, end)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return 0, False
    east = (hour * 60 + minute) * 60_000_000
    return (micros - east if byte_at(buffer, at) == PLUS else micros + east), True


@compiled
def read_temporal(buffer: Place, at: int, end: int, kind: int, window_first: int, window_next: int) -> tuple[int, int]:
    """A date, time or timestamp at `at`: (its number, position after it or -1). Timestamps must lie in the window (µs)."""
    if at < end and byte_at(buffer, at) != QUOTE:
        if kind != TIMESTAMP and kind != TIMESTAMPTZ:
            return 0, -1
        millis, at = read_scaled(buffer, at, end, 0)
        if at < 0 or millis < -(2**53) or millis > 2**53:
            return 0, -1
        micros = millis * 1000
        return micros, (at if window_first <= micros < window_next else -1)
    close, escaped = scan_string(buffer, at + 1, end)
    if close < 0 or escaped:
        return 0, -1
    if kind == DATE:
        days, stop = read_date(buffer, at + 1, close)
        return days, (close + 1 if stop == close else -1)
    if kind == TIME:
        micros, stop = read_time(buffer, at + 1, close)
        return micros, (close + 1 if stop == close else -1)
    micros, right = read_timestamp(buffer, at + 1, close, kind == TIMESTAMPTZ)
    return micros, (close + 1 if right and window_first <= micros < window_next else -1)


@compiled
def read_decimal(buffer: Place, at: int, end: int, precision: int, scale: int) -> tuple[int, int]:
    """A number, or a string that holds one, times 10^scale, of at most 18 digits: (integer, position after it or -1)."""
    quoted = at < end and byte_at(buffer, at) == QUOTE
    value, at = read_scaled(buffer, at + 1 if quoted else at, end, scale)
    if at < 0:
        return 0, -1
    if precision < 18 and abs(value) >= INTEGER_POWERS_OF_TEN[precision]:
        return 0, -1
    if not quoted:
        return value, at
    return value, (at + 1 if at < end and byte_at(buffer, at) == QUOTE else -1)


@compiled
def read_field(
    buffer: Place, at: int, end: int, room: int, types: Place, column: int, cell: int, values: Place, states: Place
) -> int:
    """Read one column's field at `at` into its cell of values and states: the position after it, or -1."""
    if at >= end:
        return -1
    byte = byte_at(buffer, at)
    if byte == LOWER_N:
        put_byte(states, cell, NULL)
        return scan_literal(buffer, at, end)
    kind = long_at(types, column * 5)
    state = VALUE
    value = 0
    if INT <= kind <= LONG:
        value, at = read_scaled(buffer, at, end, 0)
        if kind == INT and (value < INT_MIN or value > INT_MAX):
            return -1
    elif STRING <= kind <= UUID:
        if byte != QUOTE:
            return -1
        first = at + 1
        close, escaped = scan_string(buffer, first, end)
        if close < 0 or (escaped and kind != STRING):
            return -1
        value = (first << 32) | (close - first)
        state = DEFERRED if kind != STRING else ESCAPED if escaped else SPAN
        at = close + 1
    elif FLOAT <= kind <= DOUBLE:
        number, stop = read_double(buffer, at, end)
        if stop < 0:
            stop = scan_number(buffer, at, end)
            value = (at << 32) | max(stop - at, 0)
            state = DEFERRED
        else:
            value = int(np.float64(number).view(np.int64))
        at = stop
    elif kind == BOOLEAN:
        if byte != LOWER_T and byte != LOWER_F:
            return -1
        value = 1 if byte == LOWER_T else 0
        at = scan_literal(buffer, at, end)
    elif kind == DECIMAL:
        value, at = read_decimal(buffer, at, end, long_at(types, column * 5 + 1), long_at(types, column * 5 + 2))
    elif kind == JSON:
        stop = skip_value(buffer, at, end, room)
        value = (at << 32) | max(stop - at, 0)
        state = SPAN
        at = stop
    else:
        value, at = read_temporal(buffer, at, end, kind, long_at(types, column * 5 + 3), long_at(types, column * 5 + 4))
    put_long(values, cell, value)
    put_byte(states, cell, state)
    return at
