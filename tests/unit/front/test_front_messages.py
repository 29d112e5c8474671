"""The schema-driven codec of small messages: equal to kio's in both directions, bounded, and never anything but WireError."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode

from broker.kafka.messages import ELEMENTS_MAX, read_request, write_response
from broker.kafka.registry import served_apis
from schemas.kafka.wire import WireError
from tests.kio_entities import entities, milliseconds, to_bytes

HAND_WRITTEN = (0, 1, 3)
PAIRS = [
    (key, version)
    for key, api in served_apis().items()
    if key not in HAND_WRITTEN
    for version in range(api.version_min, api.version_max + 1)
]


def plain(value: Any) -> Any:
    """A kio entity as the plain values our codec speaks."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, enum.Enum):
        return int(value.value)
    return value


@pytest.mark.parametrize(("key", "version"), PAIRS)
def test_requests_are_read_as_kio_wrote_them(key: int, version: int) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(entities(load_request_schema(key, version), with_tags=False))
    def check(entity: Any) -> None:
        assert read_request(key, version, b"xx" + to_bytes(entity), 2) == plain(entity)

    check()


@pytest.mark.parametrize(("key", "version"), PAIRS)
def test_responses_are_written_as_kio_writes_them(key: int, version: int) -> None:
    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(entities(load_response_schema(key, version), with_tags=True))
    def check(entity: Any) -> None:
        values = {**plain(entity), "a_field_of_another_version": 1}
        assert write_response(key, version, values) == to_bytes(entity)

    check()


@pytest.mark.parametrize(("key", "version"), PAIRS)
def test_any_bytes_are_read_or_refused(key: int, version: int) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.binary(max_size=60))
    def check(data: bytes) -> None:
        try:
            read_request(key, version, data)
        except WireError:
            pass

    check()


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (7, b"\xff\xff\xff\xff\x07"),
        (7, b"\xff\xff\xff\xff\x07" + b"\0" * 1000),
        (2, b"\x7f\xff\xff\xff" + b"\0" * 1000),
        (2, b"\0\0\0\1\0\1a\0\0\0\1\0\1\x7f\xff\xff\xff" + b"\0" * 1000),
        (7, b"\xff\xff\xff\xff\xff\xff"),
    ],
)
def test_a_hostile_count_allocates_nothing(version: int, body: bytes) -> None:
    """kio's own reader ends the process on the first of these."""
    with pytest.raises(WireError):
        read_request(19, version, body)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            read_request(19, version, body)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(body) + 64 * 1024
    finally:
        tracemalloc.stop()


def test_the_number_of_elements_is_bounded() -> None:
    names = b"\0\1a" * (ELEMENTS_MAX + 1)
    body = (ELEMENTS_MAX + 1).to_bytes(4, "big") + names + b"\0\0\0\0"
    with pytest.raises(WireError, match="more array elements"):
        read_request(20, 1, body)
    fewer = ELEMENTS_MAX.to_bytes(4, "big") + names[3:] + b"\0\0\0\0"
    assert len(read_request(20, 1, fewer)["topic_names"]) == ELEMENTS_MAX
    with pytest.raises(WireError, match="request_elements_max"):
        read_request(20, 1, fewer, elements_max=ELEMENTS_MAX - 1)


def test_tagged_fields_are_passed_over_and_must_ascend() -> None:
    body = b"\x01\0\0\0\1"
    assert read_request(20, 6, body + b"\x02\x00\x01x\x05\x02yy")["timeout"] == 1
    with pytest.raises(WireError, match="ascend"):
        read_request(20, 6, body + b"\x02\x05\x01x\x05\x02yy")
    with pytest.raises(WireError):
        read_request(20, 6, body + b"\x01\x05\x7fx")


def test_missing_fields_are_written_as_their_defaults() -> None:
    response: Any = load_response_schema(22, 0)
    entity = response(
        throttle_time=milliseconds(0), error_code=ErrorCode.leader_not_available, producer_id=-1, producer_epoch=0
    )
    assert write_response(22, 0, {"error_code": 5}) == to_bytes(entity)
