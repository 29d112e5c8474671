"""Wire primitives and headers: values equal kio's, damage is a WireError, counts are checked before use."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kio.index import load_request_schema
from kio.schema.errors import ErrorCode as KioErrorCode
from kio.schema.index import api_key_map, schema_name_map
from kio.schema.request_header.v1.header import RequestHeader as HeaderV1
from kio.schema.request_header.v2.header import RequestHeader as HeaderV2
from kio.serial import readers, writers
from kio.static.primitive import uvarint

from schemas.kafka import wire
from schemas.kafka.api_keys import FLEXIBLE_FROM, NEVER, ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.kafka.wire import RequestHeader, WireError
from tests.kio_entities import to_bytes


def test_error_codes_are_kafkas() -> None:
    kio_rows = {(code.value, code.name.upper(), code.retriable) for code in KioErrorCode}
    assert {(code.value, code.name, code.retriable) for code in ErrorCode} == kio_rows
    assert len(ErrorCode) == 135
    assert all(code.message.endswith(".") for code in ErrorCode)
    assert ErrorCode(87) is ErrorCode.INVALID_RECORD


def test_flexible_versions_are_kafkas() -> None:
    seen = set()
    for key, name in api_key_map.items():
        versions = sorted(schema_name_map[name])
        flexible = [load_request_schema(key, version).__flexible__ for version in (versions[0], versions[-1])]
        first = next((v for v in versions if load_request_schema(key, v).__flexible__), None) if any(flexible) else None
        if first is None:
            assert FLEXIBLE_FROM[key] > versions[-1]
        elif first == versions[0]:
            assert FLEXIBLE_FROM[key] <= first
        else:
            assert FLEXIBLE_FROM[key] == first
        seen.add(key)
    assert seen == set(FLEXIBLE_FROM)


@given(st.integers(0, (1 << 31) - 1))
@example(127)
@example(128)
@example((1 << 31) - 1)
def test_unsigned_varints_round_trip(value: int) -> None:
    out = io.BytesIO()
    writers.write_unsigned_varint(out, uvarint.parse(value))
    assert wire.uvarint(value) == out.getvalue()
    assert wire.read_uvarint(b"x" + out.getvalue() + b"y", 1) == (value, 1 + len(out.getvalue()))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
@example(-(1 << 63))
@example((1 << 63) - 1)
def test_signed_varints_round_trip(value: int) -> None:
    raw = wire.varlong(value)
    assert wire.read_varlong(raw, 0) == (value, len(raw))
    assert readers.read_signed_varlong(raw, 0) == (value, len(raw))
    small = value >> 32
    raw = wire.varint(small)
    assert wire.read_varint(raw, 0) == (small, len(raw))


def test_varints_too_long_or_too_large_or_cut_short() -> None:
    for data in (b"", b"\x80", b"\xff\xff\xff\xff", b"\x80\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\x0f"):
        with pytest.raises(WireError):
            wire.read_uvarint(data, 0)
    with pytest.raises(WireError):
        wire.read_varint(b"\xff\xff\xff\xff\xff\x01", 0)
    with pytest.raises(WireError):
        wire.read_varlong(b"\xff" * 10 + b"\x01", 0)
    assert wire.read_uvarint(b"\x80\x80\x00", 0) == (0, 3)
    # As Kafka's reader, which drops what lies above 32 and 64 bits
    assert wire.read_varint(b"\xff\xff\xff\xff\x7f", 0) == (-(1 << 31), 5)
    assert wire.read_varlong(b"\xff" * 9 + b"\x02", 0) == (-(1 << 62), 10)


@given(st.none() | st.text(max_size=300))
def test_strings_round_trip(value: str | None) -> None:
    legacy, compact = wire.nullable_string(value), wire.compact_nullable_string(value)
    assert wire.read_nullable_string(legacy, 0) == (value, len(legacy))
    assert wire.read_compact_nullable_string(memoryview(compact), 0) == (value, len(compact))
    if value is None:
        for read, data in ((wire.read_string, legacy), (wire.read_compact_string, compact)):
            with pytest.raises(WireError, match="null"):
                read(data, 0)
    for data, read_nullable in ((legacy, wire.read_nullable_string), (compact, wire.read_compact_nullable_string)):
        for end in range(len(data)):
            with pytest.raises(WireError):
                read_nullable(data[:end], 0)


def test_strings_too_long_or_not_utf8() -> None:
    with pytest.raises(WireError, match="longer"):
        wire.read_compact_string(wire.uvarint(0x8001) + b"a" * 0x8000, 0)
    with pytest.raises(WireError, match="UTF-8"):
        wire.read_string(b"\0\2\xff\xfe", 0)
    assert wire.read_nullable_string(b"\xff\xfe", 0) == (None, 2)


def test_uuids() -> None:
    value = UUID("12345678-1234-5678-1234-567812345678")
    assert wire.read_uuid(b"x" + value.bytes, 1) == (value, 17)
    assert wire.read_uuid(bytes(16), 0) == (wire.ZERO_UUID, 16)
    with pytest.raises(WireError):
        wire.read_uuid(bytes(15), 0)


def test_counts_are_checked_before_anything_is_made() -> None:
    tracemalloc.start()
    try:
        for data, read in (
            (b"\x7f\xff\xff\xff" + bytes(100), wire.read_count),
            (wire.uvarint(1 << 30) + bytes(100), wire.read_compact_count),
        ):
            with pytest.raises(WireError, match="don't fit"):
                read(data, 0, 4)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert wire.read_count(b"\0\0\0\2" + bytes(8), 0, 4) == (2, 4)
    assert wire.read_count(b"\xff\xff\xff\xfe", 0, 4) == (-1, 4)
    assert wire.read_compact_count(b"\0", 0, 4) == (-1, 1)
    assert wire.read_compact_count(b"\3" + bytes(8), 0, 4) == (2, 1)


def test_tagged_fields_must_ascend_and_fit() -> None:
    good = b"\x02\x01\x02ab\x05\x00z"
    assert wire.read_tags(good, 0) == ({1: (3, 5), 5: (7, 7)}, 7)
    assert wire.skip_tags(good, 0) == 7
    assert wire.skip_tags(b"\0", 0) == 1
    for bad in (
        b"",
        b"\x02\x05\x00\x05\x00",
        b"\x02\x05\x00\x01\x00",
        b"\x01\x05\x03ab",
        b"\x7f\x01\x00",
        b"\xff\xff\xff\xff\x07",
        b"\x01\xff\xff\xff\xff\xff\x01\x00",
    ):
        for read in (wire.read_tags, wire.skip_tags):
            with pytest.raises(WireError):
                read(bad, 0)


@given(
    st.sampled_from(ApiKey),
    st.integers(0, 20),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.none() | st.text(max_size=40),
)
def test_request_headers_equal_kios(api: ApiKey, version: int, correlation_id: int, client_id: str | None) -> None:
    make: Any = HeaderV2 if version >= api.flexible_from else HeaderV1
    raw = to_bytes(
        make(
            request_api_key=api,
            request_api_version=version,
            correlation_id=correlation_id,
            client_id=client_id,
        )
    )
    wanted = RequestHeader(api, version, correlation_id, client_id)
    assert wire.read_request_header(memoryview(raw + b"body")) == (wanted, len(raw))
    for end in range(len(raw)):
        with pytest.raises(WireError):
            wire.read_request_header(raw[:end])


def test_unknown_api_and_odd_client_ids() -> None:
    with pytest.raises(WireError, match="unknown"):
        wire.read_request_header(b"\x03\xe8" + bytes(20))
    header, _ = wire.read_request_header(b"\0\3\0\0\0\0\0\1\0\2\xff\xfe")
    assert header.client_id == "\ufffd\ufffd"


def test_response_headers() -> None:
    assert wire.response_header(ApiKey.METADATA, 8, 7) == b"\0\0\0\7"
    assert wire.response_header(ApiKey.METADATA, 9, 7) == b"\0\0\0\7\0"
    assert wire.response_header(ApiKey.API_VERSIONS, 3, 7) == b"\0\0\0\7"
    assert wire.response_header(ApiKey.SASL_HANDSHAKE, 1, 7) == b"\0\0\0\7"
    assert wire.response_head(ApiKey.METADATA, 9, 7, 10) == b"\0\0\0\x0f\0\0\0\7\0"
    assert ApiKey.SASL_HANDSHAKE.flexible_from == NEVER
