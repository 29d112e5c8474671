"""Cases of idempotent producers: repeats, gaps, epochs and the wrap of sequence numbers (KIP-98, KIP-360)."""

from __future__ import annotations

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.requests import answered, batch, fetch_values, produce, sequenced

SEQUENCE_MAX = (1 << 31) - 1


def _send(broker: Broker, topic: str, data: bytes, version: int = 9) -> Answer:
    return answered(produce(broker, topic, data, version=version))


@case
def idempotence_repeats(broker: Broker) -> Observations:
    broker.create("repeats")
    for sequence in range(7):
        yield f"batch {sequence}", _send(broker, "repeats", sequenced(2 * sequence, 2))
    for sequence in range(7):
        for version in (3, 8, 13):
            yield f"batch {sequence} again v{version}", _send(broker, "repeats", sequenced(2 * sequence, 2), version)
    yield "the next", _send(broker, "repeats", sequenced(14))
    yield "stored", broker.call(ApiKey.FETCH, 12, fetch_values(broker, ("repeats", 0, 0)))


@case
def idempotence_gaps_and_overlaps(broker: Broker) -> Observations:
    broker.create("gaps")
    yield "first", _send(broker, "gaps", sequenced(0, 5))
    for name, data in (
        ("a gap of one", sequenced(6)),
        ("a large gap", sequenced(1000)),
        ("an overlap", sequenced(3, 5)),
        ("the beginning alone", sequenced(0, 2)),
        ("the end alone", sequenced(4)),
        ("more from the beginning", sequenced(0, 6)),
        ("from the beginning on", sequenced(0)),
        ("a repeat", sequenced(0, 5)),
        ("the next", sequenced(5)),
        ("another producer's first", sequenced(0, producer=2)),
        ("another producer's repeat", sequenced(0, producer=2)),
    ):
        yield name, _send(broker, "gaps", data)


@case
def idempotence_epochs(broker: Broker) -> Observations:
    broker.create("epochs")
    for name, data in (
        ("epoch 0", sequenced(0, 3)),
        ("epoch 1 not from 0", sequenced(3, epoch=1)),
        ("epoch 0 goes on", sequenced(3)),
        ("epoch 1", sequenced(0, epoch=1)),
        ("epoch 0 again", sequenced(4)),
        ("epoch 0's repeat", sequenced(0, 3)),
        ("epoch 1's repeat", sequenced(0, epoch=1)),
        ("epoch 1 goes on", sequenced(1, epoch=1)),
        ("epoch 9", sequenced(0, epoch=9)),
        ("epoch 8", sequenced(0, epoch=8)),
        ("epoch 8 not from 0", sequenced(7, epoch=8)),
    ):
        yield name, _send(broker, "epochs", data)


@case
def idempotence_without_state(broker: Broker) -> Observations:
    broker.create("unknown-producers")
    for name, data in (
        ("sequence 5", sequenced(5, producer=10)),
        ("sequence 6", sequenced(6, producer=10)),
        ("sequence 5 again", sequenced(5, producer=10)),
        ("sequence 4", sequenced(4, producer=10)),
        ("epoch 3, sequence 5", sequenced(5, producer=11, epoch=3)),
        ("epoch -1", sequenced(0, producer=12, epoch=-1)),
        ("a negative sequence", sequenced(-2, producer=13)),
        ("no sequence", sequenced(-1, producer=14)),
        ("no producer, a sequence", batch(base_sequence=5)),
        ("no producer, an epoch", batch(producer_epoch=5)),
        ("producer -2", sequenced(0, producer=-2)),
    ):
        yield name, _send(broker, "unknown-producers", data)


@case
def idempotence_at_the_wrap(broker: Broker) -> Observations:
    broker.create("wrap")
    broker.create("wrap-inside")
    for name, data in (
        ("near the end", sequenced(SEQUENCE_MAX - 4, 4, producer=20)),
        ("the last", sequenced(SEQUENCE_MAX, producer=20)),
        ("zero", sequenced(0, 2, producer=20)),
        ("zero again", sequenced(0, 2, producer=20)),
        ("the last again", sequenced(SEQUENCE_MAX, producer=20)),
        ("one", sequenced(1, producer=20)),
        ("two", sequenced(2, producer=20)),
    ):
        yield name, _send(broker, "wrap", data)
    for name, data in (
        ("over the end", sequenced(SEQUENCE_MAX - 1, 5, producer=21)),
        ("over the end again", sequenced(SEQUENCE_MAX - 1, 5, producer=21)),
        ("after it", sequenced(3, producer=21)),
        ("a gap after it", sequenced(9, producer=21)),
    ):
        yield name, _send(broker, "wrap-inside", data)


@case
def idempotence_repeats_on_a_stamped_topic(broker: Broker) -> Observations:
    broker.create("stamped-repeats", message__timestamp__type="LogAppendTime")
    first = _send(broker, "stamped-repeats", sequenced(0, 2))
    yield "first", first
    stamp = answered(broker.last)["log_append_time"]
    again = _send(broker, "stamped-repeats", sequenced(0, 2))
    yield "again", again
    yield "with the same time", answered(broker.last)["log_append_time"] == stamp


@case
def idempotence_repeats_of_part_of_a_request(broker: Broker) -> Observations:
    broker.create("partly", 2)
    yield "both", produce(broker, "partly", sequenced(0, 2), sequenced(0, 3))
    yield "one again, one new", produce(broker, "partly", sequenced(0, 2), sequenced(3, 3))
    yield "one again, one with a gap", produce(broker, "partly", sequenced(0, 2), sequenced(30, 3))
