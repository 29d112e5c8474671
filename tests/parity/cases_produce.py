"""Cases of Produce: what is taken over, what is refused and with which code, in the versions where it matters."""

from __future__ import annotations

import lz4.frame

from schemas.kafka.api_keys import ApiKey
from schemas.kafka.batch import HEADER_BYTES
from schemas.kafka.records import NewRecord, build_batch, wrap_payload
from tests.fuzz.corpus import bad_batches
from tests.parity.broker import Broker, Observations, now_ms
from tests.parity.cases import case
from tests.parity.requests import OLD_MS, answered, batch, fetch_values, in_order, produce, produce_values
from tests.parity.wire import Nothing

VERSIONS = range(3, 14)
SPREAD = (3, 7, 8, 9, 12, 13)
"""Versions with another layout or another rule than the one before."""


@case
def produce_in_every_version(broker: Broker) -> Observations:
    broker.create("versions", 2)
    for version in VERSIONS:
        yield f"v{version}", produce(broker, "versions", batch(2), batch(1), version=version)
        yield f"v{version} acks=1", produce(broker, "versions", batch(3), version=version, acks=1)
        yield f"v{version} no partitions", produce(broker, "versions", version=version)
        yield f"v{version} no topics", broker.call(ApiKey.PRODUCE, version, {"acks": -1, "timeout": 1000})
    yield "stored", broker.call(ApiKey.FETCH, 12, fetch_values(broker, ("versions", 0, 0), ("versions", 1, 0)))


def compressed(codec: int) -> bytes:
    """Five records; LZ4 in independent blocks, which is all that Kafka reads."""
    if codec != 3:
        return batch(5, codec=codec, value=b"v" * 100)
    plain = batch(5, value=b"v" * 100)
    payload = lz4.frame.compress(plain[HEADER_BYTES:], block_linked=False, store_size=False)
    stamps = {"base_timestamp": OLD_MS, "max_timestamp": OLD_MS + 4}
    return wrap_payload(payload, attributes=3, record_count=5, last_offset_delta=4, **stamps)


@case
def produce_of_every_codec(broker: Broker) -> Observations:
    broker.create("codecs")
    for codec in range(5):
        for version in (3, 6, 7, 9):
            data = compressed(codec)
            yield f"codec {codec} v{version}", produce(broker, "codecs", data, version=version)
    for version in (4, 9, 10, 12):
        yield f"fetched v{version}", broker.call(ApiKey.FETCH, version, fetch_values(broker, ("codecs", 0, 0)))


@case
def produce_of_bad_batches(broker: Broker) -> Observations:
    for at, bad in enumerate(bad_batches()):
        topic = f"bad-{at}"
        broker.create(topic)
        for version in SPREAD:
            yield f"{bad.name} v{version}", produce(broker, topic, bad.data, version=version)
        yield f"{bad.name}: then a good one", answered(produce(broker, topic, batch()))["base_offset"]


@case
def produce_to_what_is_not_there(broker: Broker) -> Observations:
    broker.create("there", 2)
    for version in SPREAD:
        yield f"v{version} no such topic", produce(broker, "not-there", batch(), version=version)
        for index in (2, -1, 1 << 30):
            answer = produce(broker, "there", batch(), version=version, partitions=[index])
            yield f"v{version} partition {index}", answer
        answer = produce(broker, "there", batch(), batch(), batch(), version=version, partitions=[1, 5, 0])
        yield f"v{version} some of them", answer


@case
def produce_acks(broker: Broker) -> Observations:
    broker.create("acks")
    for version in SPREAD:
        for acks in (2, -2, 100):
            yield f"v{version} acks={acks}", produce(broker, "acks", batch(), version=version, acks=acks)
    for version in (3, 9, 13):
        with broker.connect() as wire:
            wire.send(broker.frame(ApiKey.PRODUCE, version, produce_values(broker, "acks", batch(), acks=0)))
            yield f"v{version} acks=0", wire.receive(0.25)
            wire.send(broker.frame(ApiKey.METADATA, 1, {"topics": ()}))
            yield f"v{version} then another request", isinstance(wire.receive(), bytes)
    yield "stored", answered(produce(broker, "acks", batch()))["base_offset"]
    for name, topic, data in (("a bad checksum", "acks", batch()[:-1] + b"!"), ("an unknown topic", "none", batch())):
        with broker.connect() as wire:
            wire.send(broker.frame(ApiKey.PRODUCE, 9, produce_values(broker, topic, data, acks=0)))
            yield f"acks=0 with {name}", wire.receive(5.0) is Nothing.CLOSED


@case
def produce_too_large(broker: Broker) -> Observations:
    broker.create("small", max__message__bytes="1000")
    fits = batch(value=b"v" * 900)
    exact = batch(value=b"v" * (900 + 1000 - len(fits)))
    for version in SPREAD:
        for name, data in (("fits", exact), ("one more", batch(value=b"v" * (900 + 1001 - len(fits))))):
            yield f"{name} {len(data)} v{version}", produce(broker, "small", data, version=version)
    broker.create("usual")
    data = batch(value=b"v" * 1_048_588)
    yield "larger than the default", produce(broker, "usual", data)
    yield "larger than the default, acks=1", produce(broker, "usual", data, acks=1)


def _at(*times: int) -> bytes:
    return build_batch([NewRecord(at, b"key", b"value") for at in times])


@case
def produce_timestamps(broker: Broker) -> Observations:
    broker.create("times")
    broker.create("times-bound", message__timestamp__before__max__ms="60000", message__timestamp__after__max__ms="1000")
    now = now_ms()
    hour = 3_600_000
    for topic, name, data in (
        ("times", "in an hour, nearly", _at(now + hour - 20_000)),
        ("times", "in an hour and more", _at(now + hour + 20_000)),
        ("times", "the last of three", _at(now, now, now + hour + 20_000)),
        ("times", "the first of three", _at(now + hour + 20_000, now, now)),
        ("times", "no timestamp", _at(-1)),
        ("times", "zero", _at(0)),
        ("times", "a negative one", _at(-5)),
        ("times", "very far ahead", _at(1 << 62)),
        ("times-bound", "now", _at(now)),
        ("times-bound", "too old", _at(now - 90_000)),
        ("times-bound", "one of two too old", _at(now, now - 90_000)),
        ("times-bound", "too far ahead", _at(now + 30_000)),
    ):
        for version in (3, 9):
            yield f"{topic}: {name} v{version}", produce(broker, topic, data, version=version)


@case
def produce_with_append_time(broker: Broker) -> Observations:
    broker.create("stamped", message__timestamp__type="LogAppendTime")
    for version in SPREAD:
        yield f"v{version}", produce(broker, "stamped", batch(2), version=version)
    yield "far ahead", produce(broker, "stamped", _at(4_000_000_000_000))
    yield "no timestamp", produce(broker, "stamped", _at(-1))
    yield "compressed", produce(broker, "stamped", batch(3, codec=4))
    yield "the bit set by the client", produce(broker, "stamped", batch(attributes=0x08))
    answer = broker.call(ApiKey.FETCH, 12, fetch_values(broker, ("stamped", 0, 0)))
    yield "stored", answer


@case
def produce_to_a_compacted_topic(broker: Broker) -> Observations:
    broker.create("compacted", cleanup__policy="compact")
    broker.create("compacted-and-deleted", cleanup__policy="compact,delete")
    mixed = build_batch([NewRecord(OLD_MS, key, b"v") for key in (b"a", None, b"b", None)])
    for topic in ("compacted", "compacted-and-deleted"):
        for version in SPREAD:
            yield f"{topic} v{version} keyed", produce(broker, topic, batch(3), version=version)
            yield f"{topic} v{version} null key", produce(broker, topic, batch(3, key=None), version=version)
            yield f"{topic} v{version} mixed", produce(broker, topic, mixed, version=version)
        yield f"{topic} compressed", produce(broker, topic, batch(2, key=None, codec=1))
        yield f"{topic} an empty key", produce(broker, topic, batch(1, key=b""))
        yield f"{topic} a bad checksum too", produce(broker, topic, batch(2, key=None)[:-1] + b"!")


@case
def produce_of_records_that_lie(broker: Broker) -> Observations:
    """Records are looked at on compacted topics alone; Kafka always looks."""
    record = b"\x0e\0\0\0\x02a\x01\0"
    stamps = {"base_timestamp": OLD_MS, "max_timestamp": OLD_MS}
    for name, data in (
        ("a record longer than the batch", wrap_payload(b"\x7f" + record[1:], **stamps)),
        ("bytes behind the records", wrap_payload(record + b"\0", **stamps)),
        ("an offset delta that skips", wrap_payload(b"\x0e\0\0\x04\x02a\x01\0", **stamps)),
        ("garbage said to be gzip", wrap_payload(b"garbage of some length", attributes=1, **stamps)),
        (
            "a max timestamp that isn't one of them",
            wrap_payload(record, base_timestamp=OLD_MS, max_timestamp=OLD_MS + 5),
        ),
    ):
        topic = "liar-" + name.replace(" ", "-").replace("'", "")
        broker.create(topic)
        yield name, produce(broker, topic, data)
        broker.create(f"{topic}-compacted", cleanup__policy="compact")
        yield f"{name}, compacted", produce(broker, f"{topic}-compacted", data)


@case
def produce_of_null_records(broker: Broker) -> Observations:
    broker.create("nulls")
    values = produce_values(broker, "nulls", None)
    yield "v9", broker.call(ApiKey.PRODUCE, 9, values, patience_s=1.0)


@case
def produce_in_a_transaction(broker: Broker) -> Observations:
    broker.create("transacted")
    yield "an id that nobody has", produce(broker, "transacted", batch(), transactional_id="nobody")
    data = batch(producer_id=4711, producer_epoch=0, base_sequence=0, attributes=0x10)
    yield "a transactional batch without an id", produce(broker, "transacted", data)


@case
def produce_of_several_topics(broker: Broker) -> Observations:
    broker.create("several-a", 2)
    broker.create("several-b", 1, max__message__bytes="200")
    big = batch(value=b"v" * 300)
    for version in SPREAD:
        topics = [
            {"name": name, "topic_id": broker.id_of(name), "partition_data": parts}
            for name, parts in (
                ("several-b", [{"index": 0, "records": big}]),
                ("several-a", [{"index": 1, "records": batch(2)}, {"index": 0, "records": big}]),
                ("several-none", [{"index": 0, "records": batch(2)}]),
            )
        ]
        answer = broker.call(ApiKey.PRODUCE, version, {"acks": -1, "timeout": 9000, "topic_data": topics})
        yield f"v{version}", in_order(answer)


@case
def produce_of_a_partition_twice(broker: Broker) -> Observations:
    broker.create("twice")
    yield "in one topic", produce(broker, "twice", batch(), batch(2), partitions=[0, 0])
    part = [{"index": 0, "records": batch(3)}]
    data = [{"name": "twice", "topic_id": broker.id_of("twice"), "partition_data": part}] * 2
    answer = broker.call(ApiKey.PRODUCE, 9, {"acks": -1, "timeout": 9000, "topic_data": data})
    yield "in two topics", in_order(answer)
    yield "stored", answered(produce(broker, "twice", batch()))
