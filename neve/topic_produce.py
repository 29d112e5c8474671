"""`neve topic produce`: lines of standard input to record batches, acknowledged one batch after another."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import BinaryIO

from neve.kafka_client import KafkaClient
from schemas.kafka.partitioner import partition_of

RECORDS_PER_BATCH = 1000
BATCH_BYTES_MAX = 512 * 1024
Pair = tuple[bytes | None, bytes | None]


async def produce_lines(
    client: KafkaClient,
    topic: str,
    lines: BinaryIO,
    key_separator: str | None,
    partition: int | None,
    null_value: str | None,
) -> int:
    """Send each line as one record; returns how many were acknowledged."""
    partitions = await client.partitions(topic) if partition is None else [partition]
    waiting: dict[int, list[Pair]] = defaultdict(list)
    sizes: dict[int, int] = defaultdict(int)
    sent = turn = 0
    while line := await asyncio.to_thread(lines.readline):
        key, value = split_line(line.rstrip(b"\n"), key_separator, null_value)
        if key is None:
            target = partitions[turn // RECORDS_PER_BATCH % len(partitions)]
            turn += 1
        else:
            target = partitions[partition_of(key, len(partitions))]
        waiting[target].append((key, value))
        sizes[target] += len(key or b"") + len(value or b"")
        if len(waiting[target]) >= RECORDS_PER_BATCH or sizes[target] >= BATCH_BYTES_MAX:
            sent += await _send(client, topic, target, waiting.pop(target))
            sizes.pop(target)
    for target in sorted(waiting):
        sent += await _send(client, topic, target, waiting[target])
    return sent


def split_line(line: bytes, key_separator: str | None, null_value: str | None) -> Pair:
    """One line as (key, value); the whole line is the value where there is no separator."""
    key: bytes | None = None
    value: bytes | None = line
    if key_separator:
        head, found, tail = line.partition(key_separator.encode())
        if found:
            key, value = head, tail
    if null_value is not None and value == null_value.encode():
        value = None
    return key, value


async def _send(client: KafkaClient, topic: str, partition: int, records: list[Pair]) -> int:
    from schemas.kafka.records import build_batch

    now_ms = time.time_ns() // 1_000_000
    await client.produce(topic, partition, bytes(build_batch([(now_ms, key, value, ()) for key, value in records])))
    return len(records)
