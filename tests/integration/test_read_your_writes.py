"""Two real agents on one PostgreSQL and one S3 server: acknowledged at one, at once read at the other.

10,000 times: ListOffsets at the other agent must not be short, and Fetch from the acknowledged offset must give the record
and never OFFSET_OUT_OF_RANGE, however far the other agent's view lags.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from schemas.kafka.batch import read_header
from schemas.kafka.records import build_batch, decode_batch
from tests.agents import agent_on_servers, started
from tests.counterparts import PostgresServer, S3Server

ROUNDS = 10_000
WORKERS = 40


async def write_here_read_there(write: str, read: str, partition: int, rounds: int) -> None:
    async with await KafkaClient.connect(write) as writer, await KafkaClient.connect(read) as reader:
        for n in range(rounds):
            value = f"{partition}:{n}".encode()
            offset = await writer.produce("echo", partition, bytes(build_batch([(n, None, value, ())])))
            assert offset == n
            latest = await reader.offsets("echo", [partition], -1)
            assert latest[partition] > offset, f"short ListOffsets: {latest[partition]} after {offset} was acknowledged"
            got = (await reader.fetch("echo", {partition: offset}, max_wait_ms=2000, max_bytes=1 << 20))[partition]
            assert got.records, f"nothing at acknowledged offset {offset}"
            header = read_header(got.records)
            assert header.base_offset == offset
            assert [bytes(record.value or b"") for record in decode_batch(memoryview(got.records)[: header.size])] == [
                value
            ]


@pytest.mark.timeout(240)
async def test_acknowledged_at_one_agent_is_read_at_the_other(
    tmp_path: Path, postgres_server: PostgresServer, versitygw_server: S3Server
) -> None:
    bucket = versitygw_server.create_bucket("echo")
    uri = postgres_server.create_database("echo")
    settings = {"NEVE_FLUSH_INTERVAL_MIN_MS": "0"}
    one = agent_on_servers(tmp_path, bucket, versitygw_server, uri, settings=settings)
    two = agent_on_servers(tmp_path, bucket, versitygw_server, uri, settings=settings)
    with started(one, two):
        async with await KafkaClient.connect(one.kafka) as client:
            await create_topic(client, "echo", WORKERS, {})
        async with asyncio.TaskGroup() as group:
            for worker in range(WORKERS):
                ends = (one.kafka, two.kafka) if worker % 2 else (two.kafka, one.kafka)
                group.create_task(write_here_read_there(*ends, worker, ROUNDS // WORKERS))
        assert one.terminate() == 0
        assert two.terminate() == 0
