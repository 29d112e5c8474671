"""Which quota holds for whom, and the account of what clients use."""

from __future__ import annotations

import pytest

from broker.quotas.entities import FETCH, PRODUCE, REQUEST, entity_of
from broker.quotas.limiter import ANONYMOUS, Limiter
from broker.quotas.precedence import Held, Limits, Sharers
from catalog.quotas import Quotas

NOW = 1_000_000.0
Parts = dict[str, str | None]
LEVELS: tuple[tuple[Parts, Sharers], ...] = (
    ({"user": "u", "client-id": "c"}, Sharers("u", "c")),
    ({"user": "u", "client-id": None}, Sharers("u", "c")),
    ({"user": "u"}, Sharers("u", None)),
    ({"user": None, "client-id": "c"}, Sharers("u", "c")),
    ({"user": None, "client-id": None}, Sharers("u", "c")),
    ({"user": None}, Sharers("u", None)),
    ({"client-id": "c"}, Sharers(None, "c")),
    ({"client-id": None}, Sharers(None, "c")),
)
"""Kafka's order, with the connections that share the quota, for user u and client id c."""


def quotas(*rows: tuple[Parts, str, float]) -> Quotas:
    found: dict[object, dict[str, float]] = {}
    for parts, quota, amount in rows:
        found.setdefault(entity_of(parts.items()), {})[quota] = amount
    return found  # type: ignore[return-value]


def limiter(*rows: tuple[Parts, str, float], windows: int = 11, clients: int = 100) -> Limiter:
    made = Limiter(windows, 1000, clients)
    made.replace(quotas(*rows))
    return made


@pytest.mark.parametrize("most_specific", range(len(LEVELS)))
def test_the_most_specific_quota_holds(most_specific: int) -> None:
    rows: list[tuple[Parts, str, float]] = [
        (parts, PRODUCE, float(at + 1)) for at, (parts, _) in enumerate(LEVELS) if at >= most_specific
    ]
    # others that don't fit, and another quota on a more specific level, change nothing
    rows += [({"user": "x"}, PRODUCE, 99.0), ({"user": "u", "client-id": "y"}, PRODUCE, 99.0)]
    rows += [({"user": "u", "client-id": "c"}, FETCH, 99.0), ({"ip": "1.2.3.4"}, "connection_creation_rate", 9.0)]
    held = Limits(quotas(*rows), PRODUCE).of("u", "c")
    assert held == Held(LEVELS[most_specific][1], most_specific + 1)


def test_without_a_client_id_only_quotas_of_users_hold() -> None:
    by_client = quotas(*((parts, PRODUCE, 1.0) for parts, _ in LEVELS if "client-id" in parts))
    assert Limits(by_client, PRODUCE).of("u", "") is None
    by_user = quotas(({"user": None}, PRODUCE, 3.0), ({"user": "u", "client-id": None}, PRODUCE, 1.0))
    assert Limits(by_user, PRODUCE).of("u", "") == Held(Sharers("u", None), 3.0)


def test_nothing_is_counted_without_quotas() -> None:
    idle = limiter(
        ({"user": "somebody"}, "controller_mutation_rate", 1.0), ({"ip": None}, "connection_creation_rate", 1)
    )
    assert not idle.active
    assert idle.used(PRODUCE, "c", 1e9, NOW) == 0
    assert idle.most_at_once(FETCH, "c") is None
    assert limiter(({"user": "somebody"}, REQUEST, 1.0)).active


def test_a_users_quota_is_shared_by_its_clients_and_a_default_client_quota_is_not() -> None:
    shared = limiter(({"user": ANONYMOUS}, PRODUCE, 100.0))
    assert shared.used(PRODUCE, "a", 1000, NOW) == 0
    assert shared.used(PRODUCE, "b", 1000, NOW) == 10_000
    apart = limiter(({"client-id": None}, PRODUCE, 100.0))
    assert apart.used(PRODUCE, "a", 1000, NOW) == 0
    assert apart.used(PRODUCE, "b", 1000, NOW) == 0
    assert apart.used(PRODUCE, "a", 1000, NOW) == 10_000
    assert apart.used(PRODUCE, "", 1e9, NOW) == 0


def test_changing_a_quota_forgets_nothing_that_was_used() -> None:
    changing = limiter(({"client-id": "c"}, PRODUCE, 1000.0))
    assert changing.used(PRODUCE, "c", 2000, NOW) == 0
    changing.replace(quotas(({"client-id": "c"}, PRODUCE, 100.0)))
    assert changing.used(PRODUCE, "c", 0, NOW) == 10_000
    changing.replace({})
    assert not changing.active
    assert changing.used(PRODUCE, "c", 1e9, NOW) == 0


def test_what_was_given_back_was_not_used() -> None:
    giving = limiter(({"client-id": "c"}, FETCH, 100.0))
    assert giving.most_at_once(FETCH, "c") == 1000
    assert giving.used(FETCH, "c", 1000, NOW) == 0
    assert giving.used(FETCH, "c", 500, NOW) == 5000
    giving.give_back(FETCH, "c", 500, NOW)
    assert giving.used(FETCH, "c", 0, NOW) == 0


def test_a_request_quota_never_waits_longer_than_a_window() -> None:
    busy = limiter(({"client-id": "c"}, REQUEST, 1.0))
    assert busy.used(REQUEST, "c", 100 * 60, NOW) == 1000


def test_remembered_clients_are_bounded_and_idle_ones_go_first() -> None:
    full = limiter(({"client-id": None}, PRODUCE, 100.0), clients=3)
    full.used(PRODUCE, "old", 5000, NOW)
    for name in ("a", "b", "c"):
        assert full.used(PRODUCE, name, 2000, NOW + 20_000) == 10_000
    assert full.used(PRODUCE, "a", 0, NOW + 20_000) == 10_000, "the idle one was forgotten, not this"
    for n in range(1000):
        full.used(PRODUCE, f"n{n}", 1, NOW + 20_000)
    assert full.used(PRODUCE, "a", 0, NOW + 20_000) == 0
