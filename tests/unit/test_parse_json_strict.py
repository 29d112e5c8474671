"""What `iceberg.mode=json` means, case by case, and that the compiled parser means the same."""

from __future__ import annotations

import json
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.json_document import read_document
from lakehouse.json_values import Window
from lakehouse.parse_json import JsonParser, ParsedValues
from lakehouse.parse_json_strict import Rejected, StrictParser
from schemas.columns import parse_columns

DAY_US = 86_400_000_000
ALL_TYPES = (
    "b boolean, i int, l long, f float, d double, m decimal(10, 2), w decimal(38, 5), day date, clock time, "
    "at timestamp, tz timestamptz, s string, raw binary, u uuid, j json, o.x int, o.p.y string, e decimal(3, 0)"
)


def parse_fast(parser: JsonParser, documents: list[bytes | None]) -> ParsedValues:
    spans = np.empty((len(documents), 2), dtype=np.int32)
    slab = bytearray(b"{")  # something in front, so that a position of 0 is never right by chance
    for row, document in enumerate(documents):
        spans[row] = (len(slab), -1 if document is None else len(document))
        slab += document or b""
    return parser.parse(np.frombuffer(bytes(slab), dtype=np.uint8), spans)


def stored(parsed: ParsedValues) -> list[tuple[Any, ...]]:
    """Rows as the strict parser gives them: days, microseconds, Decimal, bytes."""
    columns = []
    for array in parsed.arrays:
        kind = str(array.type)
        if kind.startswith(("timestamp", "time64")):
            columns.append(array.cast("int64").to_pylist())
        elif kind.startswith("date32"):
            columns.append(array.cast("int32").to_pylist())
        else:
            columns.append(array.to_pylist())
    return list(zip(*columns, strict=True))


def exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Rows that compare equal only if they are: signs of zeros, digits of decimals, types."""
    return tuple(
        (
            struct.pack(">d", value)
            if isinstance(value, float)
            else value.as_tuple()
            if isinstance(value, Decimal)
            else value,
            type(value),
        )
        for value in row
    )


def both(columns: str, documents: list[bytes | None], window: Window = Window()) -> list[tuple[Any, ...] | str]:
    """Rows, or the cause of refusal, after holding the compiled parser against the strict one."""
    declared = parse_columns(columns)
    strict, fast = StrictParser(declared, window), JsonParser(declared, window)
    answers: list[tuple[Any, ...] | str] = []
    errors: dict[int, tuple[str, str]] = {}
    for row, document in enumerate(documents):
        try:
            answers.append(strict.parse(document))
        except Rejected as error:
            answers.append(error.cause)
            errors[row] = (error.cause, str(error))
    parsed = parse_fast(fast, documents)
    assert {refused.row: (refused.cause, refused.error) for refused in parsed.rejected} == errors
    for answer, row_stored in zip(answers, stored(parsed), strict=True):
        if isinstance(answer, str):
            assert set(row_stored) == {None}
        else:
            assert exact(row_stored) == exact(answer)
    return answers


def one(column_type: str, text: str | bytes, window: Window = Window()) -> Any:
    """The value of `{"x": text}` in a column of the type, or the cause of refusal."""
    raw = text.encode() if isinstance(text, str) else text
    (answer,) = both(f"x {column_type}", [b'{"x": ' + raw + b"}"], window)
    return answer if isinstance(answer, str) else answer[0]


@pytest.mark.parametrize(
    ("column_type", "text", "expected"),
    [
        ("int", "2147483647", 2147483647),
        ("int", "-2147483648", -2147483648),
        ("int", "2147483648", "out_of_range"),
        ("int", "-2147483649", "out_of_range"),
        ("long", "9223372036854775807", 2**63 - 1),
        ("long", "-9223372036854775808", -(2**63)),
        ("long", "9223372036854775808", "out_of_range"),
        ("long", "1e400", "out_of_range"),
        ("long", "1e99999999999999999999", "out_of_range"),
        ("long", "1e-99999999999999999999", "type_mismatch"),
        ("long", "0e99999999999999999999", 0),
        ("long", "9" * 5000, "out_of_range"),
        ("int", "1.0", 1),
        ("int", "-0", 0),
        ("int", "1.50", "type_mismatch"),
        ("int", "15e-1", "type_mismatch"),
        ("int", "1e3", 1000),
        ("int", "1200e-2", 12),
        ("int", "0.0001", "type_mismatch"),
        ("int", '"5"', "type_mismatch"),
        ("int", "true", "type_mismatch"),
        ("int", "[1]", "type_mismatch"),
        ("int", "{}", "type_mismatch"),
        ("int", "01", "invalid_json"),
        ("int", "+1", "invalid_json"),
        ("int", "1.", "invalid_json"),
        ("int", ".5", "invalid_json"),
        ("int", "-", "invalid_json"),
        ("int", "1e", "invalid_json"),
        ("int", "0x10", "invalid_json"),
        ("double", "NaN", "invalid_json"),
        ("double", "Infinity", "invalid_json"),
        ("double", "-Infinity", "invalid_json"),
        ("double", '"NaN"', "type_mismatch"),
        ("double", "1e400", "out_of_range"),
        ("double", "-1e400", "out_of_range"),
        ("double", "1e-400", 0.0),
        ("double", "-0.0", -0.0),
        ("double", "0.1", 0.1),
        ("double", "0.30000000000000004", 0.30000000000000004),
        ("double", "9007199254740993", 9007199254740992.0),
        ("double", "1.7976931348623157e308", 1.7976931348623157e308),
        ("double", "3", 3.0),
        ("float", "0.1", struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("float", "3.4028234663852886e38", 3.4028234663852886e38),
        ("float", "3.5e38", "out_of_range"),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("boolean", "1", "type_mismatch"),
        ("boolean", "TRUE", "invalid_json"),
        ("decimal(10, 2)", "12.34", Decimal("12.34")),
        ("decimal(10, 2)", "-0.05", Decimal("-0.05")),
        ("decimal(10, 2)", '"12.3"', Decimal("12.30")),
        ("decimal(10, 2)", "12.345", "out_of_range"),
        ("decimal(10, 2)", "12.3400", Decimal("12.34")),
        ("decimal(10, 2)", "123456789", "out_of_range"),
        ("decimal(10, 2)", "12345678.9", Decimal("12345678.90")),
        ("decimal(10, 2)", '"twelve"', "type_mismatch"),
        ("decimal(10, 2)", '" 1"', "type_mismatch"),
        ("decimal(10, 2)", "1e3", Decimal("1000.00")),
        ("decimal(38, 0)", "9" * 38, Decimal("9" * 38)),
        ("decimal(38, 0)", "9" * 39, "out_of_range"),
        ("decimal(38, 0)", "-" + "9" * 38, Decimal("-" + "9" * 38)),
        ("decimal(38, 37)", "1." + "3" * 37, Decimal("1." + "3" * 37)),
        ("decimal(18, 0)", "9" * 18, Decimal("9" * 18)),
        ("decimal(18, 0)", "9" * 19, "out_of_range"),
        ("date", '"1970-01-02"', 1),
        ("date", '"0001-01-01"', -719162),
        ("date", '"9999-12-31"', 2932896),
        ("date", '"2024-02-29"', 19782),
        ("date", '"2023-02-29"', "type_mismatch"),
        ("date", '"1900-02-29"', "type_mismatch"),
        ("date", '"2000-02-29"', 11016),
        ("date", '"0000-01-01"', "type_mismatch"),
        ("date", '"2024-1-01"', "type_mismatch"),
        ("date", '"2024-01-01T00:00:00"', "type_mismatch"),
        ("date", "19782", "type_mismatch"),
        ("time", '"23:59:59.999999"', DAY_US - 1),
        ("time", '"08:30"', 30_600_000_000),
        ("time", '"24:00:00"', "type_mismatch"),
        ("time", '"23:59:60"', "type_mismatch"),
        ("timestamptz", '"1970-01-01T00:00:01Z"', 1_000_000),
        ("timestamptz", '"1970-01-01 01:00:00.5+01:00"', 500_000),
        ("timestamptz", '"1969-12-31T23:59-00:30"', 29 * 60_000_000),
        ("timestamptz", '"1970-01-01T00:00:00.123456789Z"', 123_456),
        ("timestamptz", '"1970-01-01T00:00:00.1234567890Z"', "type_mismatch"),
        ("timestamptz", '"1970-01-01T00:00:00"', "type_mismatch"),
        ("timestamp", '"1970-01-01T00:00:00Z"', "type_mismatch"),
        ("timestamp", '"1970-01-01T00:00:00"', 0),
        ("timestamptz", '"2300-01-01T00:00:00Z"', 10_413_792_000_000_000),
        ("timestamptz", "10413792000000", 10_413_792_000_000_000),
        ("timestamptz", str(2**63), "out_of_range"),
        ("timestamptz", str(2**63 - 1), "out_of_range"),
        ("timestamptz", str(-(2**63)), "out_of_range"),
        ("timestamptz", "253402300799999", 253_402_300_799_999_000),
        ("timestamptz", "253402300800000", "out_of_range"),
        ("timestamptz", '"0001-01-01T00:00:00+00:01"', "out_of_range"),
        ("timestamptz", "1.5", "type_mismatch"),
        ("timestamptz", '"yesterday"', "type_mismatch"),
        ("string", '"line\\nbreak"', "line\nbreak"),
        ("string", b'"line\nbreak"', "invalid_json"),
        ("string", b'"\x00"', "invalid_json"),
        ("string", '"\\u0000"', "\x00"),
        ("string", '"\\ud83d\\ude00 \\"\\/\\\\ \\b\\f\\r\\t \\u00e9 é 😀"', '😀 "/\\ \b\f\r\t é é 😀'),
        ("string", '"\\ud83d"', "invalid_utf8"),
        ("string", '"\\ud83d\\u0041"', "invalid_utf8"),
        ("string", '"\\ud83d\\ue000"', "invalid_utf8"),
        ("string", '"\\ud83d\\ud83d"', "invalid_utf8"),
        ("string", '"\\ud83d\\n"', "invalid_utf8"),
        ("string", '"\\udbff\\udfff"', "\U0010ffff"),
        ("string", '"\\ude00\\ud83d"', "invalid_utf8"),
        ("string", b'"\xff"', "invalid_utf8"),
        ("string", b'"\xed\xa0\x80"', "invalid_utf8"),
        ("string", b'"\xc0\xaf"', "invalid_utf8"),
        ("string", b'"\xf5\x80\x80\x80"', "invalid_utf8"),
        ("string", b'"\xe2\x82"', "invalid_utf8"),
        ("string", '"\\x41"', "invalid_json"),
        ("string", '"\\u00g0"', "invalid_json"),
        ("string", '"', "invalid_json"),
        ("string", "5", "type_mismatch"),
        ("string", '""', ""),
        ("binary", '"AAEC/w=="', b"\x00\x01\x02\xff"),
        ("binary", '""', b""),
        ("binary", '"AAEC/w"', "type_mismatch"),
        ("binary", '"A A="', "type_mismatch"),
        ("uuid", '"00112233-4455-6677-8899-AABBCCDDEEFF"', bytes.fromhex("00112233445566778899aabbccddeeff")),
        ("uuid", '"00112233445566778899aabbccddeeff"', "type_mismatch"),
        ("json", '{"a": [1, {"b": null}], "a": 2}', '{"a": [1, {"b": null}], "a": 2}'),
        ("json", '"text"', '"text"'),
        ("json", " 1.50 ", "1.50"),
        ("json", "[1,]", "invalid_json"),
        ("json", "null", None),
        ("int", "null", None),
        ("string", "nul", "invalid_json"),
    ],
)
def test_values(column_type: str, text: str | bytes, expected: object) -> None:
    got = one(column_type, text)
    assert exact((got,)) == exact((expected,))


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b'{"o": {"x": 1}}', (None, 1, None)),
        (b'{"o": {}, "a": 2}', (2, None, None)),
        (b'{"o": null}', (None, None, None)),
        (b"{}", (None, None, None)),
        (b'{"o": {"x": null, "p": null}}', (None, None, None)),
        (b'{"o": {"p": {"y": "z", "w": []}, "x": 3}, "more": {"a": [1, 2, {"a": 1}]}}', (None, 3, "z")),
        (b'\t{\r\n"a" : 1 }\n ', (1, None, None)),
        (None, (None, None, None)),
        (b'{"o": 5}', "type_mismatch"),
        (b'{"o": [{"x": 1}]}', "type_mismatch"),
        (b'{"o": {"p": "y"}}', "type_mismatch"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
        (b'{"a": null, "a": 1}', "duplicate_key"),
        (b'{"o": {}, "o": {}}', "duplicate_key"),
        (b'{"o": null, "o": {"x": 1}}', "duplicate_key"),
        (b'{"o": {"x": 1, "x": 2}}', "duplicate_key"),
        (b'{"z": 1, "z": 2, "a": 5}', (5, None, None)),
        (b'{"\\u0061": 7}', (7, None, None)),
        (b'{"A": 7}', (None, None, None)),
        (b"", "invalid_json"),
        (b" ", "invalid_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b'"{}"', "not_an_object"),
        (b"{} {}", "invalid_json"),
        (b'{"a": 1}\x00', "invalid_json"),
        (b'\xef\xbb\xbf{"a": 1}', "invalid_json"),
        ('{"a": 1}'.encode("utf-16"), "invalid_utf8"),
        (b'{"a": 1,}', "invalid_json"),
        (b'{"a" 1}', "invalid_json"),
        (b'{"a": 1 "b": 2}', "invalid_json"),
        (b"{'a': 1}", "invalid_json"),
        (b'{"a": 1', "invalid_json"),
        (b'{"z": [1 2]}', "invalid_json"),
        (b'{"z": [1}}', "invalid_json"),
        (b'{"z": {"y": 1]}', "invalid_json"),
        (b'{"z": "\xff"}', "invalid_utf8"),
        (b'{"z": "\\ud800"}', (None, None, None)),
        (b'{"z": /* no */ 1}', "invalid_json"),
    ],
)
def test_documents(document: bytes | None, expected: object) -> None:
    assert both("a int, o.x int, o.p.y string", [document]) == [expected]


@pytest.mark.parametrize("depth", [1, 2, 60, 61, 62, 63, 64, 65, 66, 5000, 100_000])
@pytest.mark.parametrize("shape", ["array", "object", "declared"])
def test_depth_is_bounded(depth: int, shape: str) -> None:
    opening, closing = (b"[", b"]") if shape == "array" else (b'{"k":', b"}")
    inner = opening * (depth - 2) + b"1" + closing * (depth - 2) if depth > 2 else b"1"
    document = b'{"o": {"x": ' + inner + b"}}"
    (answer,) = both("o.x json" if shape == "declared" else "o.y int", [document])
    if max(depth, 2) > 64:
        assert answer == "too_deep"
    else:
        assert answer == ((inner.decode(),) if shape == "declared" else (None,))


def test_the_window_of_timestamps_can_be_set() -> None:
    window = Window(0, 10_000_000)
    assert one("timestamptz", "9999", window) == 9_999_000
    assert one("timestamptz", "10000", window) == "out_of_range"
    assert one("timestamptz", "-1", window) == "out_of_range"
    assert one("timestamp", '"1970-01-01T00:00:09.999999"', window) == 9_999_999
    assert one("timestamp", '"1970-01-01T00:00:10"', window) == "out_of_range"


def test_errors_name_the_path_and_stay_short() -> None:
    with pytest.raises(Rejected, match=r"'o\.p\.y': number 5 is not a value of type string"):
        StrictParser(parse_columns("o.p.y string")).parse(b'{"o": {"p": {"y": 5}}}')
    with pytest.raises(Rejected) as caught:
        StrictParser(parse_columns("a int")).parse(b'{"a": "' + b"x" * 10_000 + b'"}')
    assert len(str(caught.value)) <= 500
    with pytest.raises(Rejected) as caught:
        StrictParser(parse_columns('"\ue000" int')).parse('{"\ue000": "\\ud800"}'.encode())
    str(caught.value).encode()


def test_names_that_need_escapes_are_found() -> None:
    assert both('"a""b" int, "c\\d" int, "e/f" int', [b'{"a\\"b": 1, "c\\\\d": 2, "e\\/f": 3}', b'{"e/f": 4}']) == [
        (1, 2, 3),
        (None, None, 4),
    ]


def test_members_in_any_order_and_number() -> None:
    names = [f"n{number}" for number in range(40)]
    documents: list[bytes | None] = [
        json.dumps({name: at for at, name in enumerate(order)}).encode()
        for order in (names, names[::-1], names[7:20:3])
    ]
    answers = both(", ".join(f"{name} int" for name in names), documents)
    assert answers[0] == tuple(range(40))
    assert answers[1] == tuple(range(39, -1, -1))
    assert [value for value in answers[2] if value is not None] == [0, 1, 2, 3, 4]


def test_slow_rows_stand_where_they_belong() -> None:
    odd = [b'{"a": 1e0, "s": "\\u00e9"}', b'{"a": "no"}', None, b'{"s": "only"}']
    documents = [
        b'{"a": %d, "s": "x"}' % row if row % 7 == 0 or row % 5 == 0 else odd[row % 5 - 1] for row in range(2000)
    ]
    answers = both("a int, s string", documents)
    assert answers[7] == (7, "x")
    assert answers.count("type_mismatch") > 300


json_texts = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        [
            "2013-01-01T10:00:00Z",
            "2013-01-01",
            "10:20:30.5",
            "2013-01-01 10:00:00",
            "AAAA",
            "1.25",
            "-7",
            "00112233-4455-6677-8899-aabbccddeeff",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "p", "y", "q"]), inner, max_size=3)
    ),
    max_leaves=6,
)
names = st.sampled_from(
    ["b", "i", "l", "f", "d", "m", "w", "day", "clock", "at", "tz", "s", "raw", "u", "j", "o", "e", "other"]
)
documents = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    ),
    st.dictionaries(names, json_texts, max_size=8),
    st.booleans(),
    st.sampled_from([None, 1]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A document with a few bytes changed: mostly not JSON any more."""
    raw = bytearray(draw(documents))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [b"", b'"', b"\\", b"}", b"{", b",", b"1", b"e", b".", b"-", b"\xff", b"\xc3\xa9", b"null", b"\n"]
            )
        )
    return bytes(raw)


@settings(max_examples=150, deadline=None)
@given(st.lists(damaged() | st.none(), min_size=1, max_size=8))
def test_the_compiled_parser_agrees_with_the_strict_one(rows: list[bytes | None]) -> None:
    both(ALL_TYPES, rows)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1e6, 1e6).map(lambda x: round(x, 3)),
        min_size=1,
        max_size=50,
    )
)
def test_doubles_come_back_bit_by_bit(numbers: list[float]) -> None:
    answers = both("d double", [b'{"d": %s}' % repr(number).encode() for number in numbers])
    assert [exact(answer) for answer in answers if not isinstance(answer, str)] == [
        exact((number,)) for number in numbers
    ]


@settings(max_examples=200, deadline=None)
@given(documents | damaged())
def test_documents_are_json_exactly_where_the_standard_library_says_so(document: bytes) -> None:
    def refuse(text: str) -> None:
        raise ValueError(text)

    try:
        json.loads(document.decode("utf-8"), parse_constant=refuse, parse_int=str, parse_float=str)
        expected = True
    except ValueError:
        expected = False
    try:
        read_document(document)
    except Rejected:
        assert not expected
    else:
        assert expected


def test_wide_declarations_work() -> None:
    columns = ", ".join(f"c{number} double" for number in range(1500))
    row = json.dumps({f"c{number}": number / 4 for number in range(1500)}).encode()
    answers = both(columns, [row] * 3)
    assert answers[2] == tuple(number / 4 for number in range(1500))
    assert not any(math.isnan(value) for value in answers[0])  # type: ignore[arg-type]
