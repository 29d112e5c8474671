"""The log side of `neve verify`: a topic's batches read from a running agent over the Kafka protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing

from neve.kafka_client import KafkaClient


class KafkaLog:
    """Reads batches from the agent at `address` (host:port); usable as `lakehouse.verify.ReadLog`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __call__(self, topic: str, first: Mapping[int, int], next_: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        """(partition, whole batches) of `[first, next)`, one fetch at a time. Raises KafkaClientError."""
        with closing(asyncio.new_event_loop()) as loop:
            client = loop.run_until_complete(KafkaClient.connect(self._address))
            batches = client.follow(topic, dict(first), dict(next_))
            try:
                while True:
                    try:
                        yield loop.run_until_complete(anext(batches))
                    except StopAsyncIteration:
                        return
            finally:
                loop.run_until_complete(batches.aclose())  # type: ignore[attr-defined]
                loop.run_until_complete(client.__aexit__(None, None, None))
