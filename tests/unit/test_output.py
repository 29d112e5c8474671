"""What commands print: values as people read them, JSON that any reader takes, tables that aren't squeezed in a pipe."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from neve.cli.output import cell, print_json, print_table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "True"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\x00a", "\\xff\\x00a"),
        (bytearray(b"ab"), "ab"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        ("[bold]not markup[/bold]", "[bold]not markup[/bold]"),
        (datetime(2013, 1, 1, 10, tzinfo=UTC), "2013-01-01 10:00:00Z"),
        (datetime(2013, 1, 1, 10, 0, 0, 25_000, tzinfo=UTC), "2013-01-01 10:00:00.025Z"),
        (datetime(2013, 1, 1, 10, 0, 0, 25_001, tzinfo=UTC).replace(tzinfo=None), "2013-01-01 10:00:00.025001"),
        ([{"key": "trace", "value": b"1"}], '[{"key": "trace", "value": "1"}]'),
    ],
)
def test_cell(value: Any, shown: str) -> None:
    assert cell(value) == shown


def test_json_holds_every_kind_of_value(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        {
            "bytes": b"\xc3\xa9\xff",
            "time": datetime(2013, 1, 1, tzinfo=UTC),
            "day": date(2013, 1, 1),
            "number": Decimal("1.50"),
            "nan": math.nan,
            "deep": [{"b": b"x"}, None, True, 1],
        }
    )
    out = capsys.readouterr().out
    assert out.count("\n") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} isn't JSON")

    assert json.loads(out, parse_constant=refuse) == {
        "bytes": "é\\xff",
        "time": "2013-01-01T00:00:00+00:00",
        "day": "2013-01-01",
        "number": "1.50",
        "nan": "nan",
        "deep": [{"b": "x"}, None, True, 1],
    }


def test_table_in_a_pipe_is_wide_and_has_no_trailing_blanks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = "x" * 60
    print_table([wide, "n", "[red]"], [[wide, 1, "[red]"], [wide, 200, None]], title="Title")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Title"
    assert lines[1] == f"{wide}     n   [red]"
    assert lines[3] == f"{wide}     1   [red]"
    assert lines[4] == f"{wide}   200"
    assert len(lines) == 5


def test_table_follows_the_width_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(["words"], [["word " * 20]])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_columns_that_do_not_fit_a_terminal_stand_one_below_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    columns = [f"column_{n}" for n in range(8)]
    print_table(columns, [list(range(8)), [b"key", *range(7)]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "column_0   0"
    assert lines[8:10] == ["", "column_0   key"]
    assert len(lines) == 18


def test_a_table_without_rows_has_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["topic", "partitions"], [])
    assert capsys.readouterr().out.splitlines()[0].split() == ["topic", "partitions"]
