"""Declared columns: what `iceberg.columns` says, and the names columns get in the table.

    iceberg.columns = carrier string, dep.delay double as dep_delay, "odd.name" long, price decimal(10, 2)

Pure. Owns the naming rules of the table layout: metadata columns are `_kafka_*`; a value column whose name is reserved
gets the prefix `value_`; two columns never differ by case alone. A path may not be declared twice, nor both as a value and
as the object another path goes through. A name with dots, spaces or other signs stands in double quotes ("" is a quote).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SIMPLE_TYPES = (
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "string",
    "binary",
    "uuid",
    "json",
)
DECIMAL_PRECISION_MAX = 38
COLUMNS_MAX = 2000
PATH_DEPTH_MAX = 32
NAME_CHARS_MAX = 255
RESERVED_PREFIXES = ("_kafka_",)
RESERVED_NAMES = frozenset(
    {
        "_change_ordinal",
        "_change_type",
        "_commit_snapshot_id",
        "_deleted",
        "_file",
        "_last_updated_sequence_number",
        "_partition",
        "_pos",
        "_row_id",
        "_spec_id",
    }
)
"""Iceberg's metadata columns (spec, "Reserved Field IDs")."""

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"(?:[^"]|"")*")
      | (?P<sign>[,.()])
      | (?P<word>[^\s,.()"]+)
    )""",
    re.VERBOSE,
)


class ColumnsError(ValueError):
    """A column declaration that can't be used; the message says where and what would be right."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A scalar type by its Iceberg name; `json` is the JSON text of any value, kept in a string column."""

    name: str
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        return f"decimal({self.precision}, {self.scale})" if self.name == "decimal" else self.name


@dataclass(frozen=True, slots=True)
class Column:
    """One value column: where it is in the value, what it is, and what it is called in the table."""

    path: tuple[str, ...]
    type: ColumnType
    name: str


def parse_columns(declaration: str) -> tuple[Column, ...]:
    """Read `name type, path.to.name type as column, ...`. Raises ColumnsError; an empty declaration is an error too.

    Without `as`, a path's column is its parts joined by `_`.
    """
    tokens = _tokens(declaration)
    if not tokens:
        raise ColumnsError("iceberg.columns is empty: declare at least one column, as in 'id long, name string'")
    columns = []
    for entry in _split(tokens):
        columns.append(_Entry(entry).column())
        if len(columns) > COLUMNS_MAX:
            raise ColumnsError(f"more than {COLUMNS_MAX} columns are declared")
    _check_names(columns)
    _check_paths(columns)
    return tuple(columns)


def declaration_of(columns: Sequence[Column]) -> str:
    """The inverse of `parse_columns`, with every name in quotes and told."""
    return ", ".join(
        f"{'.'.join(_quoted(part) for part in column.path)} {column.type} as {_quoted(column.name)}"
        for column in columns
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def is_reserved(name: str) -> bool:
    """True where a value column can't have this name (compared case-folded)."""
    folded = name.casefold()
    return folded in RESERVED_NAMES or folded.startswith(RESERVED_PREFIXES)


def column_name(name: str) -> str:
    """The name a value column gets: itself, or prefixed with `value_` where it is reserved."""
    return f"value_{name}" if is_reserved(name) else name


def _tokens(declaration: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    at = 0
    text = declaration.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ColumnsError(f"iceberg.columns can't be read at character {at}: {text[at : at + 30]!r}")
        kind = match.lastgroup or ""
        found.append((kind, match.group(kind)))
        at = match.end()
    return found


def _split(tokens: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Entries between commas, leaving commas inside parentheses alone."""
    entries: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for token in tokens:
        depth += {("sign", "("): 1, ("sign", ")"): -1}.get(token, 0)
        if token == ("sign", ",") and depth == 0:
            entries.append([])
        else:
            entries[-1].append(token)
    return entries


class _Entry:
    """Reads one entry, token by token."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def column(self) -> Column:
        path = self.path()
        column_type = self.type(path)
        name = self.alias() if self.accept_word("as") else "_".join(path)
        if self.at != len(self.tokens):
            raise ColumnsError(f"unexpected {self.tokens[self.at][1]!r} in the declaration {self.shown()!r}")
        if len(name) > NAME_CHARS_MAX:
            raise ColumnsError(
                f"the column name {name[:40]!r}... is longer than {NAME_CHARS_MAX} characters: name it with 'as'"
            )
        return Column(path, column_type, column_name(name))

    def path(self) -> tuple[str, ...]:
        parts = [self.name("a field name")]
        while self.accept_sign("."):
            parts.append(self.name("a field name after '.'"))
        if len(parts) > PATH_DEPTH_MAX:
            raise ColumnsError(f"the path of {self.shown()!r} has more than {PATH_DEPTH_MAX} parts")
        return tuple(parts)

    def type(self, path: tuple[str, ...]) -> ColumnType:
        if self.at == len(self.tokens):
            raise ColumnsError(f"{'.'.join(path)!r} has no type: write '{'.'.join(path)} string', or one of {_known()}")
        kind, word = self.tokens[self.at]
        folded = word.lower()
        if kind != "word" or (folded not in SIMPLE_TYPES and folded != "decimal"):
            raise ColumnsError(f"{word!r} of {'.'.join(path)!r} is not a type; types are {_known()}")
        self.at += 1
        return self.decimal() if folded == "decimal" else ColumnType(folded)

    def decimal(self) -> ColumnType:
        wanted = f"decimal needs precision and scale, as in decimal(10, 2), in {self.shown()!r}"
        if not self.accept_sign("("):
            raise ColumnsError(wanted)
        precision = self.number(wanted)
        if not self.accept_sign(","):
            raise ColumnsError(wanted)
        scale = self.number(wanted)
        if not self.accept_sign(")"):
            raise ColumnsError(wanted)
        if not 1 <= precision <= DECIMAL_PRECISION_MAX or scale > precision:
            raise ColumnsError(
                f"decimal({precision}, {scale}) is out of range: precision is 1 to {DECIMAL_PRECISION_MAX}, scale 0 to the precision"
            )
        return ColumnType("decimal", precision, scale)

    def alias(self) -> str:
        return self.name("a column name after 'as'")

    def name(self, wanted: str) -> str:
        if self.at == len(self.tokens) or self.tokens[self.at][0] == "sign":
            raise ColumnsError(f"expected {wanted} in the declaration {self.shown()!r}")
        kind, text = self.tokens[self.at]
        self.at += 1
        name = text[1:-1].replace('""', '"') if kind == "quoted" else text
        if not name or any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in name):
            raise ColumnsError(f"{wanted} in {self.shown()!r} is empty or has control characters")
        return name

    def number(self, wanted: str) -> int:
        if self.at == len(self.tokens) or not re.fullmatch("[0-9]{1,3}", self.tokens[self.at][1]):
            raise ColumnsError(wanted)
        self.at += 1
        return int(self.tokens[self.at - 1][1])

    def accept_sign(self, sign: str) -> bool:
        return self._accept(("sign", sign))

    def accept_word(self, word: str) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "word" and self.tokens[self.at][1].lower() == word:
            self.at += 1
            return True
        return False

    def _accept(self, token: tuple[str, str]) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == token:
            self.at += 1
            return True
        return False

    def shown(self) -> str:
        return " ".join(text for _, text in self.tokens)[:80]


def _known() -> str:
    return ", ".join((*SIMPLE_TYPES, "decimal(p, s)"))


def _check_names(columns: Sequence[Column]) -> None:
    seen: dict[str, Column] = {}
    for column in columns:
        other = seen.setdefault(column.name.casefold(), column)
        if other is not column:
            raise ColumnsError(
                f"{'.'.join(other.path)!r} and {'.'.join(column.path)!r} would both be the column {column.name!r}: "
                f"give one another name with 'as' (names are compared without case)"
            )


def _check_paths(columns: Sequence[Column]) -> None:
    paths: set[tuple[str, ...]] = set()
    for column in columns:
        if column.path in paths:
            raise ColumnsError(f"the path {'.'.join(column.path)!r} is declared twice")
        paths.add(column.path)
    for column in columns:
        for length in range(1, len(column.path)):
            if column.path[:length] in paths:
                raise ColumnsError(
                    f"{'.'.join(column.path[:length])!r} is declared as a value, and {'.'.join(column.path)!r} goes through it as an object"
                )
