"""Cases of the client quota APIs: what may be set, what is refused and in which words, what a filter finds."""

from __future__ import annotations

import math
import time

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case

USER, CLIENT, IP = "user", "client-id", "ip"
EXACT, DEFAULT, ANY = 0, 1, 2
Parts = tuple[tuple[str, str | None], ...]
Ops = tuple[tuple[str, float | None], ...]
SEEN_S = 5.0


def _alter(broker: Broker, *entries: tuple[Parts, Ops], version: int = 1, validate_only: bool = False) -> Answer:
    """With entities in one order: Kafka's come in the order of hash tables."""
    values = {
        "entries": [
            {
                "entity": [{"entity_type": kind, "entity_name": name} for kind, name in parts],
                "ops": [{"key": key, "value": value or 0.0, "remove": value is None} for key, value in ops],
            }
            for parts, ops in entries
        ],
        "validate_only": validate_only,
    }
    return _in_order(broker.call(ApiKey.ALTER_CLIENT_QUOTAS, version, values))


def _describe(
    broker: Broker, *components: tuple[str, int, str | None], strict: bool = False, version: int = 1
) -> Answer:
    asked = [{"entity_type": kind, "match_type": how, "match": name} for kind, how, name in components]
    return _in_order(broker.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, version, {"components": asked, "strict": strict}))


def _in_order(answer: Answer) -> Answer:
    for entry in answer["entries"] or ():
        entry["entity"].sort(key=str)
        entry.get("values", []).sort(key=str)
    if answer["entries"]:
        answer["entries"].sort(key=str)
    return answer


def _settle(broker: Broker, count: int) -> None:
    """Kafka's broker sees what its controller stored a moment later."""
    deadline = time.monotonic() + SEEN_S
    while len(_describe(broker)["entries"]) != count:
        assert time.monotonic() < deadline, _describe(broker)
        time.sleep(0.02)


@case
def quotas_set_and_found(broker: Broker) -> Observations:
    yield "none", _describe(broker)
    for version in (0, 1):
        name = f"q{version}"
        yield f"v{version} one", _alter(broker, (((USER, name),), (("producer_byte_rate", 1000.0),)), version=version)
    yield (
        "several",
        _alter(
            broker,
            (((USER, "q1"), (CLIENT, "c1")), (("consumer_byte_rate", 5.0), ("producer_byte_rate", 6.0))),
            (((USER, None), (CLIENT, None)), (("request_percentage", 50.25),)),
            (((IP, "10.1.1.1"),), (("connection_creation_rate", 5.0),)),
            (((IP, None),), (("connection_creation_rate", 6.0),)),
            (((CLIENT, None),), (("controller_mutation_rate", 1.5),)),
        ),
    )
    yield "only checked", _alter(broker, (((USER, "checked"),), (("producer_byte_rate", 1.0),)), validate_only=True)
    _settle(broker, 7)
    filters: tuple[tuple[tuple[str, int, str | None], ...], ...] = (
        (),
        ((USER, EXACT, "q1"),),
        ((USER, EXACT, "nobody"),),
        ((USER, ANY, None),),
        ((USER, DEFAULT, None),),
        ((USER, EXACT, "q1"), (CLIENT, EXACT, "c1")),
        ((USER, DEFAULT, None), (CLIENT, DEFAULT, None)),
        ((CLIENT, ANY, None),),
        ((IP, ANY, None),),
        ((IP, DEFAULT, None),),
        ((USER, ANY, None), (CLIENT, ANY, None)),
    )
    for number, components in enumerate(filters):
        for strict in (False, True):
            for version in (0, 1):
                found = _describe(broker, *components, strict=strict, version=version)
                yield f"v{version} filter {number} {strict}", found
    gone: list[tuple[Parts, Ops]] = [
        (((USER, "q0"),), (("producer_byte_rate", None), ("nope", None))),
        (((USER, "q1"),), (("producer_byte_rate", None),)),
        (((USER, "q1"), (CLIENT, "c1")), (("consumer_byte_rate", None), ("producer_byte_rate", None))),
        (((USER, None), (CLIENT, None)), (("request_percentage", None),)),
        (((IP, "10.1.1.1"),), (("connection_creation_rate", None),)),
        (((IP, None),), (("connection_creation_rate", None),)),
        (((CLIENT, None),), (("controller_mutation_rate", None),)),
    ]
    yield "taken away", _alter(broker, *gone)
    _settle(broker, 0)
    yield "none again", _describe(broker)


@case
def quotas_refused(broker: Broker) -> Observations:
    one: Ops = (("producer_byte_rate", 1000.0),)
    entities: tuple[Parts, ...] = (
        (),
        ((USER, ""),),
        (("x", "y"),),
        (("", "y"),),
        ((IP, "1.1.1.1"), (USER, "u")),
        ((IP, "no such host."),),
        ((IP, "::1"),),
    )
    for number, parts in enumerate(entities):
        yield f"entity {number}", _alter(broker, (parts, one))
    values = (
        ("nope", 1.0),
        ("producer_byte_rate", 1.5),
        ("producer_byte_rate", -1.0),
        ("producer_byte_rate", 0.0),
        ("producer_byte_rate", 1e30),
        ("consumer_byte_rate", math.inf),
        ("request_percentage", -3.0),
        ("request_percentage", 0.0),
        ("controller_mutation_rate", -0.5),
        ("connection_creation_rate", 1.0),
    )
    for key, value in values:
        yield f"user {key} {value}", _alter(broker, (((USER, "refused"),), ((key, value),)))
    for key, value in (
        ("connection_creation_rate", 1.5),
        ("connection_creation_rate", 1e10),
        ("request_percentage", 1.0),
    ):
        yield f"ip {key} {value}", _alter(broker, (((IP, "1.2.3.4"),), ((key, value),)))
    yield "not a number", _alter(broker, (((USER, "nan"),), (("request_percentage", math.nan),)), validate_only=True)
    yield "nothing", _alter(broker)
    yield "no ops", _alter(broker, (((USER, "refused"),), ()))
    yield "takes away what isn't there", _alter(broker, (((USER, "refused"),), (("producer_byte_rate", None),)))
    yield "one good, one bad", _alter(broker, (((USER, "refused"),), (("producer_byte_rate", 7.0), ("nope", 1.0))))
    yield (
        "a key twice",
        _alter(broker, (((USER, "refused"),), (("producer_byte_rate", 1.0), ("producer_byte_rate", 2.0)))),
    )
    twice: Parts = ((USER, "twice"),)
    yield "an entity twice", _alter(broker, (twice, one), (twice, (("nope", 2.0),)), (((USER, "good"),), one))
    _settle(broker, 2)
    yield "what came of it", _describe(broker)
    gone: Ops = (("producer_byte_rate", None),)
    yield "taken away", _alter(broker, (twice, gone), (((USER, "good"),), gone))
    _settle(broker, 0)


@case
def quota_filters_refused(broker: Broker) -> Observations:
    filters: tuple[tuple[tuple[str, int, str | None], ...], ...] = (
        (("", ANY, None),),
        (("x", ANY, None),),
        ((USER, ANY, None), (USER, DEFAULT, None)),
        ((USER, EXACT, None),),
        ((USER, DEFAULT, "x"),),
        ((USER, ANY, "x"),),
        ((USER, 9, None),),
        ((USER, -1, "x"),),
        ((USER, ANY, None), (IP, ANY, None)),
    )
    for number, components in enumerate(filters):
        yield f"filter {number}", _describe(broker, *components)
