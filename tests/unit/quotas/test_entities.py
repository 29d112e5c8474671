"""What may be set for whom, and what a filter finds."""

from __future__ import annotations

import math

import pytest

from broker.quotas.entities import ANY, DEFAULT, EXACT, Component, Op, Refused, changes, entity_of, find
from catalog.quotas import QuotaChange
from schemas.kafka.errors import ErrorCode

U = entity_of([("user", "u")])
UC = entity_of([("user", "u"), ("client-id", "c")])
DD = entity_of([("client-id", None), ("user", None)])
C = entity_of([("client-id", "c")])
IP = entity_of([("ip", "10.0.0.1")])
ALL = {entity: {"producer_byte_rate": 1.0} for entity in (U, UC, DD, C, IP)}


def test_an_entity_has_one_form() -> None:
    assert entity_of([("user", "u"), ("client-id", "c")]) == entity_of([("client-id", "c"), ("user", "u")])
    assert entity_of([("user", "a"), ("user", "b")]) == (("user", "b"),)


def test_changes_of_one_entity() -> None:
    assert changes(
        UC, [Op("producer_byte_rate", 5.0), Op("request_percentage", 0.5), Op("consumer_byte_rate", None)]
    ) == [
        QuotaChange(UC, "producer_byte_rate", 5.0),
        QuotaChange(UC, "request_percentage", 0.5),
        QuotaChange(UC, "consumer_byte_rate", None),
    ]
    assert changes(U, [Op("nope", None)]) == [], "taking away what can't be there is no mistake, and nothing to store"
    assert changes(entity_of([("ip", None)]), [Op("connection_creation_rate", 3.0)])


@pytest.mark.parametrize(
    ("parts", "quota", "amount", "message"),
    [
        ([], "producer_byte_rate", 1.0, "empty client quota entity"),
        ([("user", "")], "producer_byte_rate", 1.0, "Empty user"),
        ([("thing", "x")], "producer_byte_rate", 1.0, "entity type: thing"),
        ([("ip", "1.1.1.1"), ("user", "u")], "connection_creation_rate", 1.0, "combined"),
        ([("ip", "no host")], "connection_creation_rate", 1.0, "no host is not a valid IP"),
        ([("ip", "1.1.1.1")], "producer_byte_rate", 1.0, "Invalid configuration key producer_byte_rate"),
        ([("user", "u")], "connection_creation_rate", 1.0, "Invalid configuration key"),
        ([("user", "u")], "producer_byte_rate", 0.0, "greater than 0"),
        ([("user", "u")], "producer_byte_rate", 1.5, "fractional"),
        ([("user", "u")], "producer_byte_rate", 1e30, "too large for a LONG"),
        ([("user", "u")], "request_percentage", math.nan, "must be a number"),
        ([("ip", "::1")], "connection_creation_rate", 2.0**31, "too large for an INT"),
        ([("user", "u" * 2001)], "producer_byte_rate", 1.0, "at most 2000 bytes"),
    ],
)
def test_what_is_refused(parts: list[tuple[str, str | None]], quota: str, amount: float, message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        changes(entity_of(parts), [Op(quota, amount)])
    assert refused.value.error == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("components", "strict", "found"),
    [
        ([], False, [U, UC, DD, C, IP]),
        ([], True, []),
        ([Component("user", EXACT, "u")], False, [U, UC]),
        ([Component("user", EXACT, "u")], True, [U]),
        ([Component("user", ANY, None)], False, [U, UC, DD]),
        ([Component("user", DEFAULT, None), Component("client-id", ANY, None)], True, [DD]),
        ([Component("client-id", EXACT, "c"), Component("user", ANY, None)], True, [UC]),
        ([Component("ip", ANY, None)], True, [IP]),
        ([Component("ip", DEFAULT, None)], False, []),
    ],
)
def test_what_a_filter_finds(components: list[Component], strict: bool, found: list[object]) -> None:
    assert find(ALL, components, strict=strict) == found


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ([Component("", ANY, None)], "empty entity type"),
        ([Component("user", ANY, None), Component("user", ANY, None)], "more than once"),
        ([Component("user", EXACT, None)], "null"),
        ([Component("user", DEFAULT, "x")], "DEFAULT"),
        ([Component("user", ANY, "x")], "SPECIFIED"),
        ([Component("user", 9, None)], "match type 9"),
        ([Component("ip", ANY, None), Component("client-id", ANY, None)], "combination"),
    ],
)
def test_filters_that_are_refused(components: list[Component], message: str) -> None:
    with pytest.raises(Refused, match=message):
        find(ALL, components, strict=False)


def test_an_unknown_type_is_one_of_a_later_version() -> None:
    with pytest.raises(Refused) as refused:
        find(ALL, [Component("thing", ANY, None)], strict=False)
    assert refused.value.error == ErrorCode.UNSUPPORTED_VERSION
