"""A rolling restart: each of two agents gets SIGTERM under load and comes again; clients notice nothing that they must act on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from tests.agents import agent_on_folder, started
from tests.integration.groups import SETTINGS, TIMEOUT_S, fill

PARTITIONS = 6
OF_THE_CONNECTION = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
"""What librdkafka says where a connection ended: it makes another one by itself."""
QUICK = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 0}


class Load(threading.Thread):
    """An idempotent producer and a member of a group. `problems` is what wasn't retried by the clients themselves."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(daemon=True)
        config = {"bootstrap.servers": bootstrap, "error_cb": self._error, **QUICK}
        self.producer = Producer(config | {"enable.idempotence": True, "linger.ms": 2})
        self.consumer = Consumer(config | {"group.id": topic, "auto.offset.reset": "earliest"})
        self.consumer.subscribe([topic])
        self.topic = topic
        self.problems: list[str] = []
        self.sent = self.delivered = 0
        self.read: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
        self.ended = threading.Event()
        self.start()

    def _error(self, error: KafkaError) -> None:
        if error.fatal() or not (error.retriable() or error.code() in OF_THE_CONNECTION):
            self.problems.append(f"{error.name()}: {error.str()}")

    def _done(self, error: KafkaError | None, _: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.problems.append(f"not delivered: {error}")

    def run(self) -> None:
        deadline = time.monotonic() + 60
        while (not self.ended.is_set() or self.seen < self.sent) and time.monotonic() < deadline:
            if not self.ended.is_set() and len(self.producer) < 200:
                value = str(self.sent).encode()
                self.producer.produce(self.topic, value, partition=self.sent % PARTITIONS, on_delivery=self._done)
                self.sent += 1
            self.producer.poll(0)
            for message in self.consumer.consume(100, 0.001):
                if (error := message.error()) is not None:
                    self._error(error)
                else:
                    self.read[message.partition() or 0].append(int(message.value() or b""))
        self.producer.flush(TIMEOUT_S)
        self.consumer.close()

    @property
    def seen(self) -> int:
        """Different records that were read."""
        return len({number for numbers in self.read.values() for number in numbers})

    def progress(self) -> None:
        """Wait until more is delivered, and read, than now."""
        sent, deadline = self.sent + 200, time.monotonic() + TIMEOUT_S
        while self.delivered < sent or self.seen < sent:
            assert time.monotonic() < deadline, f"{self.delivered} delivered, {self.seen} read of {self.sent}"
            time.sleep(0.02)


@pytest.mark.timeout(120)
def test_a_rolling_restart_is_noticed_by_no_client(tmp_path: Path) -> None:
    pair = [agent_on_folder(tmp_path, tmp_path / "data", settings=SETTINGS) for _ in range(2)]
    with started(*pair):
        fill(pair[0].kafka, "rolling", [], PARTITIONS)
        load = Load(",".join(agent.kafka for agent in pair), "rolling")
        load.progress()
        for agent in pair:
            assert agent.terminate() == 0
            load.progress()
            agent.start()
            load.progress()
        load.ended.set()
        load.join(90)
        assert not load.problems, load.problems[:5]
        assert load.delivered == load.seen == load.sent
        for partition, numbers in load.read.items():
            once = list(dict.fromkeys(numbers))
            assert once == sorted(once), f"partition {partition} was reordered"
