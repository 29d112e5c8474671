"""SIGTERM with a store that hangs: the agent is gone in time, and its producers were told to send again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.agent import Agent
from broker.objects.local_files import LocalFiles
from broker.objects.port import Buffer
from catalog import threads
from neve.kafka_client import KafkaClient, KafkaClientError
from neve.topic_admin import create_topic
from schemas.kafka.records import NewRecord, build_batch
from schemas.settings import Settings

DRAIN_MS = 400


async def test_a_store_that_hangs_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, healed, stuck = LocalFiles.put, threading.Event(), threading.Event()

    def hanging(self: LocalFiles, key: str, parts: Sequence[Buffer], if_absent: bool) -> None:
        if "/segments/" in key:
            stuck.set()
            healed.wait()
        put(self, key, parts, if_absent)

    monkeypatch.setattr(LocalFiles, "put", hanging)
    monkeypatch.setattr(threads, "CLOSE_S", 0.2)
    agent = Agent(Settings(data=tmp_path, kafka="127.0.0.1:0", http="127.0.0.1:0", drain_ms=DRAIN_MS))
    await agent.start()
    try:
        async with await KafkaClient.connect(f"127.0.0.1:{agent.kafka_address[1]}") as client:
            await create_topic(client, "t", 1, {})
            records = bytes(build_batch([NewRecord(1, None, b"a")]))
            sending = asyncio.ensure_future(client.produce("t", 0, records))
            assert await asyncio.to_thread(stuck.wait, 10)
            began_s = time.monotonic()
            await agent.drain()
            assert time.monotonic() - began_s < DRAIN_MS / 1000 + 1.0
            with pytest.raises(KafkaClientError, match="produce to t-0"):
                await sending
        await agent.stop()
        assert time.monotonic() - began_s < DRAIN_MS / 1000 + 3.0
        assert agent.core is not None
        assert agent.core.supervisor.failure is None
    finally:
        healed.set()
        await agent.stop()
