"""Compiled pass over many JSON documents at once, led by the tree of declared paths.

A document is an object; declared members are read into columns, declared objects are entered, everything else is skipped
(and still has to be JSON). The next declared member is guessed from the last one, so documents with a steady order of
members cost one comparison each. Rows that are not plainly right are marked SLOW, with all their states reset.
"""

from __future__ import annotations

from lakehouse.compiled import Place, byte_at, compiled, copy_bytes, int_at, long_at, put_byte, put_int, put_long
from lakehouse.json_fields import ABSENT, ESCAPED, SPAN, read_field
from lakehouse.json_scan import (
    BACKSLASH,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    LOWER_N,
    OPEN_OBJECT,
    QUOTE,
    read_escape,
    scan_literal,
    scan_string,
    skip_space,
    skip_value,
)

FAST, SLOW, NO_VALUE = 0, 1, 2
"""Rows: read; to be read by the strict parser; a null value, which has no fields."""


@compiled
def same_bytes(buffer: Place, at: int, keys: Place, key_at: int, length: int) -> bool:
    """Whether `length` bytes agree; the caller has checked both ranges."""
    for ahead in range(length):  # noqa: SIM110 - generators can't be compiled
        if byte_at(buffer, at + ahead) != byte_at(keys, key_at + ahead):
            return False
    return True


@compiled
def find_member(
    buffer: Place, at: int, length: int, guess: int, first: int, count: int, keys: Place, key_spans: Place
) -> int:
    """The declared member among `[first, first + count)` with this name, searched from `guess` on; -1 if there is none."""
    for step in range(count):
        member = guess + step
        if member >= first + count:
            member -= count
        if int_at(key_spans, member * 2 + 1) == length and same_bytes(
            buffer, at, keys, int_at(key_spans, member * 2), length
        ):
            return member
    return -1


@compiled
def read_document(
    buffer: Place,
    at: int,
    end: int,
    row: int,
    rows: int,
    depth_max: int,
    depth_declared: int,
    keys: Place,
    key_spans: Place,
    targets: Place,
    nodes: Place,
    types: Place,
    seen: Place,
    stack: Place,
    values: Place,
    states: Place,
) -> bool:
    """Read the document `[at, end)` as row `row`; False where the strict parser has to look.

    `nodes` has (first member, members) per declared object; `targets` has a node (>= 0) or ~column per member; `types` has
    (kind, precision, scale, window first, window next) per column.
    """
    at = skip_space(buffer, at, end)
    if at >= end or byte_at(buffer, at) != OPEN_OBJECT:
        return False
    at += 1
    depth = 0
    node = 0
    guess = int_at(nodes, 0)
    fresh = True
    while True:
        at = skip_space(buffer, at, end)
        if at >= end:
            return False
        if byte_at(buffer, at) == CLOSE_OBJECT:
            at += 1
            if depth == 0:
                return skip_space(buffer, at, end) == end
            depth -= 1
            node = int_at(stack, depth * 2)
            guess = int_at(stack, depth * 2 + 1)
            fresh = False
            continue
        if not fresh:
            if byte_at(buffer, at) != COMMA:
                return False
            at = skip_space(buffer, at + 1, end)
        fresh = False
        if at >= end or byte_at(buffer, at) != QUOTE:
            return False
        at += 1
        first = int_at(nodes, node * 2)
        count = int_at(nodes, node * 2 + 1)
        if guess >= first + count:
            guess = first
        member = -1
        length = int_at(key_spans, guess * 2 + 1)
        if (
            0 <= length < end - at
            and byte_at(buffer, at + length) == QUOTE
            and same_bytes(buffer, at, keys, int_at(key_spans, guess * 2), length)
        ):
            member = guess
            at += length + 1
        else:
            close, escaped = scan_string(buffer, at, end)
            if close < 0 or escaped:
                return False
            member = find_member(buffer, at, close - at, guess, first, count, keys, key_spans)
            at = close + 1
        if at >= end or byte_at(buffer, at) != COLON:
            at = skip_space(buffer, at, end)
            if at >= end or byte_at(buffer, at) != COLON:
                return False
        at = skip_space(buffer, at + 1, end)
        if at >= end:
            return False
        room = depth_max - depth - 1
        if member < 0:
            at = skip_value(buffer, at, end, room)
            if at < 0:
                return False
            continue
        guess = member + 1
        target = int_at(targets, member)
        if target < 0:
            column = ~target
            cell = column * rows + row
            if byte_at(states, cell) != ABSENT:
                return False
            at = read_field(buffer, at, end, room, types, column, cell, values, states)
            if at < 0:
                return False
            continue
        if long_at(seen, target) == row:
            return False
        put_long(seen, target, row)
        if byte_at(buffer, at) == OPEN_OBJECT:
            if depth + 1 >= depth_declared or room < 1:
                return False
            put_int(stack, depth * 2, node)
            put_int(stack, depth * 2 + 1, guess)
            depth += 1
            node = target
            guess = int_at(nodes, node * 2)
            fresh = True
            at += 1
        elif byte_at(buffer, at) == LOWER_N:
            at = scan_literal(buffer, at, end)
            if at < 0:
                return False
        else:
            return False


@compiled
def read_documents(
    buffer: Place,
    size: int,
    spans: Place,
    rows: int,
    depth_max: int,
    columns: int,
    depth_declared: int,
    keys: Place,
    key_spans: Place,
    targets: Place,
    nodes: Place,
    types: Place,
    seen: Place,
    stack: Place,
    values: Place,
    states: Place,
    verdicts: Place,
) -> int:
    """Read every span as a document; `verdicts` says FAST, SLOW or NO_VALUE per row. Answers how many are SLOW."""
    slow = 0
    for row in range(rows):
        length = int_at(spans, row * 2 + 1)
        if length < 0:
            put_byte(verdicts, row, NO_VALUE)
            continue
        at = int_at(spans, row * 2)
        put_byte(verdicts, row, FAST)
        if (
            at < 0
            or length > size - at
            or not read_document(
                buffer,
                at,
                at + length,
                row,
                rows,
                depth_max,
                depth_declared,
                keys,
                key_spans,
                targets,
                nodes,
                types,
                seen,
                stack,
                values,
                states,
            )
        ):
            put_byte(verdicts, row, SLOW)
            slow += 1
            for column in range(columns):
                put_byte(states, column * rows + row, ABSENT)
    return slow


@compiled
def text_bytes(spans: Place, states: Place, rows: int) -> int:
    """Upper bound of the bytes of a column's texts: their spans' lengths (an escape is never shorter than what it means)."""
    total = 0
    for row in range(rows):
        state = byte_at(states, row)
        if SPAN <= state <= ESCAPED:
            total += long_at(spans, row) & 0xFFFFFFFF
    return total


@compiled
def write_utf8(code: int, out: Place, to: int) -> int:
    """Write a code point at `to`; the position after it. The caller has left room for it."""
    if code < 0x80:
        put_byte(out, to, code)
        return to + 1
    if code < 0x800:
        put_byte(out, to, 0xC0 | (code >> 6))
    else:
        if code < 0x10000:
            put_byte(out, to, 0xE0 | (code >> 12))
        else:
            put_byte(out, to, 0xF0 | (code >> 18))
            to += 1
            put_byte(out, to, 0x80 | ((code >> 12) & 0x3F))
        to += 1
        put_byte(out, to, 0x80 | ((code >> 6) & 0x3F))
    put_byte(out, to + 1, 0x80 | (code & 0x3F))
    return to + 2


@compiled
def copy_unescaped(buffer: Place, at: int, end: int, out: Place, to: int) -> int:
    """Copy a scanned string's text, escapes resolved; the position after it in `out`."""
    while at < end:
        byte = byte_at(buffer, at)
        if byte != BACKSLASH:
            put_byte(out, to, byte)
            to += 1
            at += 1
            continue
        code, at = read_escape(buffer, at, end)
        if at < 0:
            break
        to = write_utf8(code, out, to)
    return to


@compiled
def copy_texts(
    buffer: Place, spans: Place, states: Place, rows: int, offsets: Place, validity: Place, out: Place
) -> int:
    """Copy a column's texts, escapes resolved, into `out` of `text_bytes`; answers the nulls.

    Fills Arrow offsets (rows + 1) and the zeroed validity. The spans were scanned before, so escapes are whole.
    """
    to = 0
    nulls = 0
    put_int(offsets, 0, 0)
    for row in range(rows):
        state = byte_at(states, row)
        if SPAN <= state <= ESCAPED:
            put_byte(validity, row >> 3, byte_at(validity, row >> 3) | (1 << (row & 7)))
            at = long_at(spans, row) >> 32
            length = long_at(spans, row) & 0xFFFFFFFF
            if state == SPAN:
                copy_bytes(buffer, at, out, to, length)
                to += length
            else:
                to = copy_unescaped(buffer, at, at + length, out, to)
        else:
            nulls += 1
        put_int(offsets, row + 1, to)
    return nulls
