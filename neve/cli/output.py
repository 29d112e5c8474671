"""How commands speak: tables and JSON to stdout, progress and errors to stderr, one line with the way out, exit code 1."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPED_WIDTH = 500
GAP = 3
COLUMNS_FOLDED_MAX = 6
TIMES = ("seconds", "milliseconds")


class Output(StrEnum):
    """Formats of `-o`."""

    table = "table"
    json = "json"


OUTPUT_OPTION = typer.Option(Output.table, "--output", "-o", help="Output format.")
HTTP_OPTION = typer.Option(
    "http://127.0.0.1:8080", "--http", envvar="NEVE_HTTP", help="HTTP address of a running agent."
)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print one line to stderr and exit with `code`."""
    typer.echo(f"neve: {message}", err=True)
    raise typer.Exit(code)


def console(*, stderr: bool = False) -> Console:
    """A rich console that honours NO_COLOR, knows whether it is a terminal, and doesn't squeeze tables where it isn't."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, no_color=bool(os.environ.get("NO_COLOR")) or None)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = PIPED_WIDTH
    return made


def text(value: bytes | bytearray | memoryview) -> str:
    """Bytes as people read them: UTF-8, with escapes where they aren't."""
    return bytes(value).decode("utf-8", "backslashreplace")


def cell(value: Any) -> str:
    """One value in a table: no control characters, times to the second where they have nothing finer."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        shown = value.isoformat(" ", "auto" if value.microsecond % 1000 else TIMES[bool(value.microsecond)])
        return shown.removesuffix("+00:00") + ("Z" if shown.endswith("+00:00") else "")
    if isinstance(value, dict | list):
        return as_json(value)
    shown = text(value) if isinstance(value, bytes | bytearray | memoryview) else str(value)
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in shown
    )


def plain(value: Any) -> Any:
    """What JSON can hold of a value: bytes as text, times in ISO 8601, numbers that aren't finite by name."""
    if isinstance(value, dict):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return text(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def as_json(value: Any) -> str:
    """One JSON document on one line."""
    return json.dumps(plain(value), ensure_ascii=False)


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    sys.stdout.write(as_json(value) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table for people: numbers to the right; row by row where the columns don't fit side by side."""
    from rich.text import Text

    out = console()
    cells = [[cell(value) for value in row] for row in rows]
    widest = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    fits = sum(widest) + GAP * (len(columns) - 1) <= out.width or len(columns) <= COLUMNS_FOLDED_MAX
    numeric = [is_numeric(column) for column in zip(*rows, strict=True)]
    with out.capture() as captured:
        if title:
            out.print(Text(title, style="bold"))
        if fits or not rows:
            out.print(side_by_side(columns, cells, numeric))
        else:
            for row in cells:
                out.print(one_below_the_other(columns, row))
    sys.stdout.writelines(line.rstrip(" ") + "\n" for line in captured.get().splitlines())
    sys.stdout.flush()


def side_by_side(columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> Table:
    """A row a line; cells that are too wide are folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        right = bool(numeric) and numeric[index]
        table.add_column(Text(column), justify="right" if right else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    return table


def one_below_the_other(columns: Sequence[str], row: Sequence[str]) -> Table:
    """A line for each column of one row."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for column, value in zip(columns, row, strict=True):
        table.add_row(Text(column), Text(value))
    table.add_row()
    return table


def is_numeric(values: Sequence[Any]) -> bool:
    """Is this a column of numbers, some perhaps missing?"""
    there = [value for value in values if value is not None]
    return bool(there) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in there
    )
