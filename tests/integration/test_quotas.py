"""Real clients are held to their quotas by a real agent, within a tenth once what an idle client may use is used up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.kafka.api_keys import ApiKey
from tests.agents import agent_on_folder, started
from tests.parity.broker import Broker

RATE = 400_000
CHUNK = 10_000
WINDOW_S = 0.05
"""What may come at once, ten windows' worth, comes again whenever its window is forgotten: a test is much longer than that."""
SETTLED_S = 1.0
MEASURED_S = 6.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An agent that looks back over half a second, so that a test is much longer than that."""
    folder = tmp_path_factory.mktemp("quotas")
    agent = agent_on_folder(folder, folder / "data", settings={"NEVE_QUOTA_WINDOW_SIZE_SECONDS": str(WINDOW_S)})
    with started(agent):
        broker = Broker("Neve", agent.kafka)
        broker.create("limited")
        for client, quota in (("slow-producer", "producer_byte_rate"), ("slow-consumer", "consumer_byte_rate")):
            entry = {
                "entity": [{"entity_type": "client-id", "entity_name": client}],
                "ops": [{"key": quota, "value": float(RATE), "remove": False}],
            }
            answer = broker.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, {"entries": [entry], "validate_only": False})
            assert answer["entries"][0]["error_code"] == 0
        broker.close()
        yield agent.kafka


def measured(moments: list[tuple[float, int]]) -> float:
    """Bytes per second after what may come at once."""
    began = moments[0][0] + SETTLED_S
    assert moments[-1][0] > began + MEASURED_S - 0.5, "it went on to the end"
    return sum(size for at, size in moments if began <= at < began + MEASURED_S) / MEASURED_S


def test_a_producer_is_held_to_its_rate(address: str) -> None:
    done: list[tuple[float, int]] = []
    throttled: list[float] = []
    producer = Producer(
        {
            "bootstrap.servers": address,
            "client.id": "slow-producer",
            "linger.ms": 0,
            "batch.size": CHUNK,
            "queue.buffering.max.messages": 100,
            "throttle_cb": lambda event: throttled.append(event.throttle_time),
        }
    )

    def delivered(error: object, message: object) -> None:
        assert error is None
        done.append((time.monotonic(), CHUNK))

    until = time.monotonic() + SETTLED_S + MEASURED_S + 1
    while time.monotonic() < until:
        try:
            producer.produce("limited", value=b"x" * CHUNK, on_delivery=delivered)
        except BufferError:
            producer.poll(0.05)
        producer.poll(0)
    producer.purge()
    assert measured(done) == pytest.approx(RATE, rel=0.1)
    assert throttled, "the answers say so"


def test_a_consumer_is_held_to_its_rate_and_loses_nothing(address: str) -> None:
    fast = Producer({"bootstrap.servers": address, "client.id": "fast", "linger.ms": 5, "batch.size": CHUNK})
    count = round(RATE * (SETTLED_S + MEASURED_S + 2) / CHUNK)
    began = time.monotonic()
    for _ in range(count):
        fast.produce("limited", value=b"y" * CHUNK)
    fast.flush(30)
    assert time.monotonic() - began < SETTLED_S + MEASURED_S, "nobody else is held to it"
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "client.id": "slow-consumer",
            "group.id": "g",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 2 * CHUNK,
            "fetch.max.bytes": 2 * CHUNK,
            "message.max.bytes": CHUNK * 2,
            "queued.max.messages.kbytes": 1_000_000,
        }
    )
    consumer.assign([TopicPartition("limited", 0, 0)])
    got: list[tuple[float, int]] = []
    offsets: list[int] = []
    until = time.monotonic() + SETTLED_S + MEASURED_S + 1
    while time.monotonic() < until:
        message = consumer.poll(0.1)
        if message is not None:
            assert message.error() is None
            got.append((time.monotonic(), len(message.value() or b"")))
            offsets.append(message.offset() or 0)
    consumer.close()
    assert offsets == list(range(len(offsets)))
    assert measured(got) == pytest.approx(RATE, rel=0.1)
