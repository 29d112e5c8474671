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

PIPED_WIDTH = 160
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
    """A table for people; numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(is_number(row[index]) for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    out = console()
    with out.capture() as captured:
        if title:
            out.print(Text(title, style="bold"))
        out.print(table)
    sys.stdout.writelines(line.rstrip(" ") + "\n" for line in captured.get().splitlines())
    sys.stdout.flush()


def is_number(value: Any) -> bool:
    """Does it belong to the right of a column?"""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)
