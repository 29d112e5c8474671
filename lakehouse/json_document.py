"""A strict JSON reader (RFC 8259) that keeps where everything stands: pure Python, for judging and for verifying.

Unlike `json.loads` it keeps every member of an object (duplicates too), the text of numbers, and the text of each value;
it takes no NaN or Infinity, no byte order mark, no other encoding than UTF-8, and no more than `depth_max` open containers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import JSONDecodeError, decoder
from typing import NamedTuple

DEPTH_MAX = 64

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_scan_string: Callable[[str, int, bool], tuple[str, int]] = vars(decoder)["scanstring"]
"""The standard library's own string scanner, in C where it can be."""
_LITERALS = {"t": "true", "f": "false", "n": "null"}


class Rejected(ValueError):
    """A value that doesn't fit: `cause` is one of a fixed set of words, the message says what and where."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Node(NamedTuple):
    """One JSON value: its kind, its text, and what is in it (the unescaped string, or an object's members in order)."""

    kind: str
    """object, array, string, number, true, false or null."""
    text: str
    string: str
    members: tuple[tuple[str, Node], ...]


def read_document(document: bytes, depth_max: int = DEPTH_MAX) -> Node:
    """The whole document as one node. Raises Rejected with cause invalid_utf8, invalid_json or too_deep."""
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejected("invalid_utf8", f"byte {error.start} of the value is not UTF-8") from error
    reader = _Reader(text, depth_max)
    node, at = reader.value(0, 0)
    at = reader.space(at)
    if at != len(text):
        raise reader.invalid(at, "more text after the value")
    return node


class _Reader:
    """Recursive descent; the depth is bounded, so the stack is."""

    def __init__(self, text: str, depth_max: int) -> None:
        self.text = text
        self.depth_max = depth_max

    def invalid(self, at: int, wanted: str) -> Rejected:
        found = repr(self.text[at : at + 12]) if at < len(self.text) else "the end"
        return Rejected("invalid_json", f"character {at}: {wanted}, found {found}")

    def space(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        assert match is not None
        return match.end()

    def value(self, at: int, depth: int) -> tuple[Node, int]:
        """The value that begins at or after `at`, and the position behind it; `depth` containers are open."""
        at = self.space(at)
        sign = self.text[at : at + 1]
        if sign in ("{", "["):
            if depth >= self.depth_max:
                raise Rejected(
                    "too_deep", f"character {at}: more than {self.depth_max} objects and arrays inside each other"
                )
            return self.object(at, depth + 1) if sign == "{" else self.array(at, depth + 1)
        if sign == '"':
            string, end = self.string(at)
            return Node("string", self.text[at:end], string, ()), end
        literal = _LITERALS.get(sign)
        if literal is not None and self.text.startswith(literal, at):
            return Node(literal, literal, "", ()), at + len(literal)
        number = _NUMBER.match(self.text, at)
        if number is None:
            raise self.invalid(at, "expected a value")
        return Node("number", number.group(), "", ()), number.end()

    def string(self, at: int) -> tuple[str, int]:
        try:
            string, end = _scan_string(self.text, at + 1, True)
        except JSONDecodeError as error:
            raise Rejected("invalid_json", f"character {error.pos}: {error.msg}") from error
        return string, end

    def object(self, start: int, depth: int) -> tuple[Node, int]:
        members: list[tuple[str, Node]] = []
        at = self.space(start + 1)
        if self.text[at : at + 1] == "}":
            return Node("object", self.text[start : at + 1], "", ()), at + 1
        while True:
            if self.text[at : at + 1] != '"':
                raise self.invalid(at, "expected a member's name in double quotes")
            name, at = self.string(at)
            at = self.space(at)
            if self.text[at : at + 1] != ":":
                raise self.invalid(at, "expected ':'")
            node, at = self.value(at + 1, depth)
            members.append((name, node))
            at = self.space(at)
            sign = self.text[at : at + 1]
            if sign == "}":
                return Node("object", self.text[start : at + 1], "", tuple(members)), at + 1
            if sign != ",":
                raise self.invalid(at, "expected ',' or '}'")
            at = self.space(at + 1)

    def array(self, start: int, depth: int) -> tuple[Node, int]:
        at = self.space(start + 1)
        if self.text[at : at + 1] == "]":
            return Node("array", self.text[start : at + 1], "", ()), at + 1
        while True:
            _node, at = self.value(at, depth)
            at = self.space(at)
            sign = self.text[at : at + 1]
            if sign == "]":
                return Node("array", self.text[start : at + 1], "", ()), at + 1
            if sign != ",":
                raise self.invalid(at, "expected ',' or ']'")
            at += 1
