"""Column declarations: the grammar, the naming rules, and errors that say what to do."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import (
    SIMPLE_TYPES,
    Column,
    ColumnsError,
    ColumnType,
    column_name,
    declaration_of,
    is_reserved,
    parse_columns,
)


def test_the_whole_grammar() -> None:
    declaration = '''
        carrier string, dep.delay double AS dep_delay, price decimal(10, 2) , a.b.c LONG,
        "odd.name" int, "say ""hi""".x boolean as said, naïve date
    '''
    assert parse_columns(declaration) == (
        Column(("carrier",), ColumnType("string"), "carrier"),
        Column(("dep", "delay"), ColumnType("double"), "dep_delay"),
        Column(("price",), ColumnType("decimal", 10, 2), "price"),
        Column(("a", "b", "c"), ColumnType("long"), "a_b_c"),
        Column(("odd.name",), ColumnType("int"), "odd.name"),
        Column(('say "hi"', "x"), ColumnType("boolean"), "said"),
        Column(("naïve",), ColumnType("date"), "naïve"),
    )


@pytest.mark.parametrize("name", SIMPLE_TYPES)
def test_every_simple_type(name: str) -> None:
    assert parse_columns(f"x {name}")[0].type == ColumnType(name)


@pytest.mark.parametrize(
    ("declaration", "part"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("a", "has no type"),
        ("a int,", "a field name"),
        (",a int", "a field name"),
        ("a int b", "unexpected 'b'"),
        ("a int as", "after 'as'"),
        ("a varchar", "'varchar' of 'a' is not a type"),
        ("a. int", "after '.'|has no type"),
        (".a int", "a field name"),
        ("a decimal", "needs precision and scale"),
        ("a decimal(10)", "needs precision and scale"),
        ("a decimal(39, 0)", "out of range"),
        ("a decimal(0, 0)", "out of range"),
        ("a decimal(4, 5)", "out of range"),
        ("a decimal(4, 2", "needs precision and scale"),
        ("a decimal(4, -2)", "needs precision and scale"),
        ("a int, A long", "both be the column 'A'"),
        ("a.b int, a_b long", "both be the column 'a_b'"),
        ("a int, a int as b", "declared twice"),
        ("a json, a.b int", "goes through it"),
        ("a.b int, a json as whole", "goes through it"),
        ('a int, "x', "can't be read at character"),
        ('"" int', "is empty or has control"),
        ('"a\x00" int', "is empty or has control"),
        (".".join("a" * 40) + " int", "more than 32 parts"),
        ("x" * 300 + " int", "longer than 255"),
        (", ".join(f"c{n} int" for n in range(2001)), "more than 2000 columns"),
    ],
)
def test_errors_say_what_is_wrong(declaration: str, part: str) -> None:
    with pytest.raises(ColumnsError, match=part):
        parse_columns(declaration)


@pytest.mark.parametrize(
    "name", ["_kafka_offset", "_KAFKA_key", "_kafka_anything", "_pos", "_File", "_row_id", "_partition"]
)
def test_reserved_names_get_a_prefix(name: str) -> None:
    assert is_reserved(name)
    assert parse_columns(f"{name} int")[0].name == f"value_{name}"
    assert parse_columns(f"x int as {name}")[0].name == column_name(name) == f"value_{name}"


def test_a_prefixed_name_may_collide_and_says_so() -> None:
    with pytest.raises(ColumnsError, match="both be the column"):
        parse_columns("_pos int, value__pos int")


@pytest.mark.parametrize("name", ["kafka_offset", "pos", "value__pos", "_position"])
def test_other_names_stay(name: str) -> None:
    assert column_name(name) == name


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with suppress(ColumnsError):
        columns = parse_columns(text)
        assert columns
        assert len({column.name.casefold() for column in columns}) == len(columns)
        assert not any(is_reserved(column.name) for column in columns)


def test_a_declaration_written_out_reads_back_as_the_same_columns() -> None:
    text = 'id long, dep.delay double as dep_delay, "odd.""name"" é" decimal(10, 2), _kafka_x string, a."b c".d json'
    columns = parse_columns(text)
    assert parse_columns(declaration_of(columns)) == columns
