"""Which client quotas there are, what may be asked for, and which entities a filter finds. Pure.

Rules and messages are Kafka's; `Refused` carries its error code.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from catalog.quotas import Entity, QuotaChange, Quotas, entity_text
from schemas.kafka.errors import ErrorCode

USER, CLIENT_ID, IP = "user", "client-id", "ip"
TYPES = (USER, CLIENT_ID, IP)
PRODUCE, FETCH, REQUEST = "producer_byte_rate", "consumer_byte_rate", "request_percentage"
MUTATION, CONNECTION = "controller_mutation_rate", "connection_creation_rate"
_WHOLE_MAX: Mapping[str, tuple[str, float]] = {
    PRODUCE: ("a LONG", float(2**63)),
    FETCH: ("a LONG", float(2**63)),
    CONNECTION: ("an INT", float(2**31 - 1)),
}
"""Quotas that are whole numbers: Kafka's word for the type, and its largest value."""
_CLIENT_QUOTAS = (PRODUCE, FETCH, REQUEST, MUTATION)
_EPSILON = 1e-6
ENTITY_BYTES_MAX = 2000
"""An entity is part of a primary key; PostgreSQL takes a little more."""
EXACT, DEFAULT, ANY = 0, 1, 2


class Refused(Exception):
    """What was asked for can't be done; the text is for the client."""

    def __init__(self, message: str, error: ErrorCode = ErrorCode.INVALID_REQUEST) -> None:
        super().__init__(message)
        self.error = error


class Op(NamedTuple):
    """One quota to set, or to take away where the amount is None."""

    quota: str
    amount: float | None


class Component(NamedTuple):
    """One condition of a filter: entities with a part of this type that has this name, the default, or any."""

    type: str
    match_type: int
    match: str | None


def entity_of(parts: Iterable[tuple[str, str | None]]) -> Entity:
    """An entity in its one form; of two parts of one type the last counts."""
    return tuple(sorted(dict(parts).items()))


def changes(entity: Entity, ops: Sequence[Op]) -> list[QuotaChange]:
    """What to store for the changes of one entity. Raises Refused."""
    allowed = _quotas_of(entity)
    for quota, amount in ops:
        if amount is not None:
            _check(quota, amount, allowed)
    return [QuotaChange(entity, quota, amount) for quota, amount in ops if quota in allowed]


def _quotas_of(entity: Entity) -> Sequence[str]:
    """The quotas that an entity may have. Raises Refused."""
    if not entity:
        raise Refused("Invalid empty client quota entity")
    for kind, name in entity:
        if kind not in TYPES:
            raise Refused(f"Unhandled client quota entity type: {kind}")
        if name == "":
            raise Refused(f"Empty {kind} not supported")
    parts = dict(entity)
    if IP in parts:
        if len(parts) > 1:
            raise Refused("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
        if parts[IP] is not None and not _is_address(parts[IP]):
            raise Refused(f"{parts[IP]} is not a valid IP or resolvable host.")
    if len(entity_text(entity).encode()) > ENTITY_BYTES_MAX:
        raise Refused(f"A client quota entity may have at most {ENTITY_BYTES_MAX} bytes")
    return (CONNECTION,) if IP in parts else _CLIENT_QUOTAS


def _is_address(text: str | None) -> bool:
    try:
        ipaddress.ip_address(text or "")
    except ValueError:
        return False
    return True


def _check(quota: str, amount: float, allowed: Sequence[str]) -> None:
    if quota not in allowed:
        raise Refused(f"Invalid configuration key {quota}")
    if math.isnan(amount):
        raise Refused(f"Quota {quota} must be a number")
    if amount <= 0:
        raise Refused(f"Quota {quota} must be greater than 0")
    if quota in _WHOLE_MAX:
        kind, most = _WHOLE_MAX[quota]
        if amount > most:
            raise Refused(f"Proposed value for {quota} is too large for {kind}.")
        if abs(math.floor(amount + _EPSILON) - amount) > _EPSILON:
            raise Refused(f"{quota} cannot be a fractional value.")


def find(quotas: Quotas, components: Sequence[Component], *, strict: bool) -> list[Entity]:
    """The entities that meet every condition, and have no other part where `strict`. Raises Refused."""
    wanted = _conditions(components)
    return [entity for entity in quotas if _meets(entity, wanted, strict)]


def _conditions(components: Sequence[Component]) -> dict[str, Component]:
    wanted: dict[str, Component] = {}
    for component in components:
        kind, match_type, match = component
        if not kind:
            raise Refused("Invalid empty entity type.")
        if kind in wanted:
            raise Refused(f"Entity type {kind} cannot appear more than once in the filter.")
        if kind not in TYPES:
            raise Refused(f"Unsupported entity type {kind}", ErrorCode.UNSUPPORTED_VERSION)
        if match_type == EXACT and match is None:
            raise Refused("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        if match_type in (DEFAULT, ANY) and match is not None:
            name = "DEFAULT" if match_type == DEFAULT else "SPECIFIED"
            raise Refused(f"Request specified MATCH_TYPE_{name}, but also specified a match string.")
        if match_type not in (EXACT, DEFAULT, ANY):
            raise Refused(f"Unknown match type {match_type}")
        wanted[kind] = component
    if IP in wanted and len(wanted) > 1:
        raise Refused(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId "
            "filter component."
        )
    return wanted


def _meets(entity: Entity, wanted: Mapping[str, Component], strict: bool) -> bool:
    parts = dict(entity)
    if strict and len(parts) != len(wanted):
        return False
    return all(
        kind in parts and (match_type == ANY or parts[kind] == match)
        for kind, match_type, match in wanted.values()
    )  # fmt: skip
