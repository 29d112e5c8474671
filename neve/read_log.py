"""A topic's log through the Kafka protocol, as a plain iterator: what `neve verify` compares the tables with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING

from neve.kafka_client import KafkaClient

if TYPE_CHECKING:
    from lakehouse.verify import ReadLog

FETCH_BYTES_MAX = 16 * 1024 * 1024


def log_reader(bootstrap: str) -> ReadLog:
    """A reader of whole batches from the agent at `bootstrap`: (topic, first offsets, next offsets) -> (partition, batches)."""

    def read(topic: str, first: Mapping[int, int], next_: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
        with asyncio.Runner() as runner:
            client = runner.run(KafkaClient.connect(bootstrap))
            try:
                batches = client.follow(topic, dict(first), dict(next_), max_bytes=FETCH_BYTES_MAX)
                while (found := runner.run(_next(batches))) is not None:
                    yield found
            finally:
                runner.run(client.__aexit__(None, None, None))

    return read


async def _next(batches: AsyncIterator[tuple[int, bytes]]) -> tuple[int, bytes] | None:
    return await anext(batches, None)
