"""What a JSON value means as a column's value: one function per type, exact or refused. Pure Python.

Answers are what is stored: date as days, time and timestamps as microseconds since 1970 (UTC for timestamptz), decimal as
`Decimal` of exactly the column's scale, uuid as 16 bytes, json as its text. The rules:

- Integers: a JSON number with an integral value (1.0 and 1e3 are integers, 1.5 is refused), in the type's range. Strings
  are refused: "5" is not 5.
- float, double: a JSON number, rounded to the nearest double (and then to the nearest float); beyond the range refused.
- decimal: a number or a string with one, exactly representable at precision and scale; nothing is rounded.
- date, time: strings `YYYY-MM-DD`, `HH:MM[:SS[.f]]`. timestamp, timestamptz: `date(T| )time`, for timestamptz with `Z` or
  an offset, for timestamp without; or an integer of Unix milliseconds. Fractions beyond microseconds are cut.
- binary: base64 (RFC 4648, padded). uuid: 8-4-4-4-12 hexadecimal digits. string: a string, no lone surrogates.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from lakehouse.json_document import Node, Rejected
from schemas.columns import ColumnType

Value = bool | int | float | str | bytes | Decimal | None
"""A column's value as stored, see above."""

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?")
_ZONE = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DAYS_TO_1970 = date(1970, 1, 1).toordinal()
_EXPONENT_DIGITS_MAX = 9
SHOWN_CHARS_MAX = 60


class Window(NamedTuple):
    """Timestamps that a table takes, in microseconds since 1970: `[first, next)`."""

    first_us: int = -62_135_596_800_000_000
    """0001-01-01, the first that engines agree on."""
    next_us: int = 253_402_300_800_000_000
    """10000-01-01, the first that they don't."""

    def holds(self, micros: int) -> bool:
        """True where a timestamp is inside."""
        return self.first_us <= micros < self.next_us


def convert(node: Node, column: ColumnType, window: Window) -> Value:
    """The stored value of a JSON value for a column of this type; null is None. Raises Rejected."""
    if node.kind == "null":
        return None
    return _CONVERTERS[column.name](node, column, window)


def _shown(node: Node) -> str:
    return node.text if len(node.text) <= SHOWN_CHARS_MAX else node.text[:SHOWN_CHARS_MAX] + "..."


def _mismatch(node: Node, column: ColumnType) -> Rejected:
    return Rejected("type_mismatch", f"{node.kind} {_shown(node)} is not a value of type {column}")


def _out_of_range(node: Node, column: ColumnType) -> Rejected:
    return Rejected("out_of_range", f"{_shown(node)} is out of the range of {column}")


def _scaled(text: str, scale: int, digits_max: int) -> int | None:
    """A number's text times 10^scale as an exact integer; None where that is not an integer. OverflowError beyond the digits."""
    match = _NUMBER.fullmatch(text)
    assert match is not None
    sign, whole, fraction, exponent = match.groups()
    digits = (whole + (fraction or "")).lstrip("0")
    if not digits:
        return 0
    power_text = (exponent or "0").lstrip("+-").lstrip("0") or "0"
    if len(power_text) > _EXPONENT_DIGITS_MAX:
        if (exponent or "").startswith("-"):
            return None
        raise OverflowError
    power = int(power_text) * (-1 if (exponent or "").startswith("-") else 1) - len(fraction or "") + scale
    if len(digits) + power > digits_max:
        raise OverflowError
    if power < 0:
        if digits[power:].strip("0") or len(digits) <= -power:
            return None
        digits = digits[:power]
        power = 0
    value: int = int(digits) * 10**power
    return -value if sign else value


def _boolean(node: Node, column: ColumnType, _window: Window) -> Value:
    if node.kind not in ("true", "false"):
        raise _mismatch(node, column)
    return node.kind == "true"


def _integer(node: Node, column: ColumnType, _window: Window) -> int:
    if node.kind != "number":
        raise _mismatch(node, column)
    bits = 31 if column.name == "int" else 63
    try:
        value = _scaled(node.text, 0, 19)
    except OverflowError:
        raise _out_of_range(node, column) from None
    if value is None:
        raise _mismatch(node, column)
    if not -(1 << bits) <= value < 1 << bits:
        raise _out_of_range(node, column)
    return value


def _floating(node: Node, column: ColumnType, _window: Window) -> Value:
    if node.kind != "number":
        raise _mismatch(node, column)
    value = float(node.text)
    if column.name == "float":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            raise _out_of_range(node, column) from None
    if value in (float("inf"), float("-inf")):
        raise _out_of_range(node, column)
    return value


def _decimal(node: Node, column: ColumnType, _window: Window) -> Value:
    text = node.text if node.kind == "number" else node.string
    if node.kind not in ("number", "string") or not _WHOLE_NUMBER.fullmatch(text):
        raise _mismatch(node, column)
    try:
        scaled = _scaled(text, column.scale, column.precision)
    except OverflowError:
        raise _out_of_range(node, column) from None
    if scaled is None:
        raise Rejected("out_of_range", f"{_shown(node)} has more than the {column.scale} decimal places of {column}")
    digits = tuple(int(digit) for digit in str(abs(scaled)))
    return Decimal((int(scaled < 0), digits, -column.scale))


def _days(text: str) -> int | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    try:
        return date(*map(int, match.groups())).toordinal() - _DAYS_TO_1970
    except ValueError:
        return None


def _clock(text: str) -> int | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 23 or minute > 59 or second > 59:
        return None
    fraction = int((match.group(4) or "").ljust(9, "0")) // 1000
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction


def _date(node: Node, column: ColumnType, _window: Window) -> Value:
    days = _days(node.string) if node.kind == "string" else None
    if days is None:
        raise _mismatch(node, column)
    return days


def _time(node: Node, column: ColumnType, _window: Window) -> Value:
    micros = _clock(node.string) if node.kind == "string" else None
    if micros is None:
        raise _mismatch(node, column)
    return micros


def _timestamp(node: Node, column: ColumnType, window: Window) -> Value:
    if node.kind == "number":
        micros: int | None = _integer(node, ColumnType("long"), window) * 1000
    elif node.kind == "string":
        micros = _instant(node.string, column.name == "timestamptz")
    else:
        micros = None
    if micros is None:
        raise _mismatch(node, column)
    if not window.holds(micros):
        raise _out_of_range(node, column)
    return micros


def _instant(text: str, zoned: bool) -> int | None:
    days = _days(text[:10])
    rest = text[11:]
    if days is None or text[10:11] not in ("T", "t", " "):
        return None
    east = 0
    if zoned and rest[-1:] in ("Z", "z"):
        rest = rest[:-1]
    elif zoned:
        zone = _ZONE.fullmatch(rest[-6:])
        if zone is None or int(zone.group(2)) > 23 or int(zone.group(3)) > 59:
            return None
        rest = rest[:-6]
        east = (int(zone.group(2)) * 60 + int(zone.group(3))) * (-1 if zone.group(1) == "-" else 1)
    micros = _clock(rest)
    return None if micros is None else days * 86_400_000_000 + micros - east * 60_000_000


def _string(node: Node, column: ColumnType, _window: Window) -> Value:
    if node.kind != "string":
        raise _mismatch(node, column)
    try:
        node.string.encode("utf-8")
    except UnicodeEncodeError:
        raise Rejected("invalid_utf8", f"{_shown(node)!a} holds half of a surrogate pair") from None
    return node.string


def _binary(node: Node, column: ColumnType, _window: Window) -> Value:
    if node.kind != "string":
        raise _mismatch(node, column)
    try:
        return base64.b64decode(node.string, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected("type_mismatch", f"string {_shown(node)} is not base64") from None


def _uuid(node: Node, column: ColumnType, _window: Window) -> Value:
    if node.kind != "string" or not _UUID.fullmatch(node.string):
        raise _mismatch(node, column)
    return bytes.fromhex(node.string.replace("-", ""))


def _json(node: Node, _column: ColumnType, _window: Window) -> Value:
    return node.text


_CONVERTERS: dict[str, Callable[[Node, ColumnType, Window], Value]] = {
    "boolean": _boolean,
    "int": _integer,
    "long": _integer,
    "float": _floating,
    "double": _floating,
    "decimal": _decimal,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "timestamptz": _timestamp,
    "string": _string,
    "binary": _binary,
    "uuid": _uuid,
    "json": _json,
}
