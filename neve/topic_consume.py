"""`neve topic consume`: records of a topic as dictionaries, decoded in pure Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neve.kafka_client import KafkaClient, KafkaClientError


def text(value: bytes | None) -> str | None:
    """Bytes for a terminal: UTF-8, with escapes where they aren't."""
    return None if value is None else bytes(value).decode("utf-8", "backslashreplace")


async def consume_records(
    client: KafkaClient,
    topic: str,
    offset: str,
    count: int | None,
    follow: bool,
    partition: int | None,
    emit: Callable[[dict[str, Any]], None],
) -> None:
    """Emit records from `offset` on, to the high watermarks of now or for ever."""
    partitions = await client.partitions(topic) if partition is None else [partition]
    start = await start_offsets(client, topic, partitions, offset)
    until = None if follow else await client.offsets(topic, partitions, -1)
    left = count
    if left == 0:
        return
    async for found, batches in client.follow(topic, start, until):
        for record in decode(batches, found, start[found]):
            emit(record)
            if left is not None:
                left -= 1
                if left == 0:
                    return


async def start_offsets(client: KafkaClient, topic: str, partitions: list[int], offset: str) -> dict[int, int]:
    """`earliest`, `latest` or a number, for each partition."""
    if offset in ("earliest", "beginning"):
        return await client.offsets(topic, partitions, -2)
    if offset in ("latest", "end"):
        return await client.offsets(topic, partitions, -1)
    if offset.isdigit():
        return dict.fromkeys(partitions, int(offset))
    raise KafkaClientError(f"--offset wants earliest, latest or a number, not {offset!r}")


def decode(batches: bytes, partition: int, from_offset: int) -> list[dict[str, Any]]:
    """The records of whole batches at or above `from_offset`, as dictionaries."""
    from schemas.kafka.batch import batch_size
    from schemas.kafka.records import decode_batch

    found: list[dict[str, Any]] = []
    view = memoryview(batches)
    at = 0
    while at < len(view):
        size = batch_size(view, at)
        found.extend(
            {
                "partition": partition,
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": text(record.key),
                "value": text(record.value),
                "headers": [[text(name), text(value)] for name, value in record.headers],
            }
            for record in decode_batch(view[at : at + size])
            if record.offset >= from_offset
        )
        at += size
    return found
