"""The HTTP port: health, readiness, metrics, mounts, and a server that leaves signals alone."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from broker.http.app import make_app, run_checks
from broker.http.metrics import FrontCollector
from broker.http.server import HttpServer
from tests.front_fakes import Client, Fakes, batch, make, running, settings

Address = tuple[str, int]


async def get(address: Address, path: str) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


class Checks:
    """Readiness checks that a test can turn."""

    def __init__(self) -> None:
        self.bucket: str | None = None
        self.metadata: Exception | None = None
        self.slow_s = 0.0

    async def check_bucket(self) -> str | None:
        await asyncio.sleep(self.slow_s)
        return self.bucket

    async def check_metadata(self) -> str | None:
        if self.metadata is not None:
            raise self.metadata
        return None


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"{scope['root_path']} {scope['path']}")(scope, receive, send)


@pytest.fixture
async def address(checks: Checks, registry: CollectorRegistry) -> AsyncIterator[Address]:
    app = make_app(
        {"bucket": checks.check_bucket, "metadata": checks.check_metadata},
        registry,
        check_timeout_ms=100,
        mounts={"/iceberg": mounted},
    )
    server = HttpServer(app, drain_ms=1000)
    yield await server.start("127.0.0.1", 0)
    await server.stop()


async def test_health_and_readiness(address: Address, checks: Checks) -> None:
    assert (await get(address, "/healthz"))[::2] == (200, b"ok\n")

    async def ready() -> tuple[int, Any]:
        status, _, body = await get(address, "/readyz")
        return status, json.loads(body)

    assert await ready() == (200, {"ready": True, "checks": {"bucket": "ok", "metadata": "ok"}})
    checks.bucket = "put failed: access denied; check s3_access_key_id"
    checks.metadata = ConnectionError("refused")
    status, found = await ready()
    assert (status, found["ready"]) == (503, False)
    assert found["checks"] == {
        "bucket": "put failed: access denied; check s3_access_key_id",
        "metadata": "ConnectionError: refused",
    }
    checks.bucket, checks.metadata, checks.slow_s = None, None, 5.0
    assert await ready() == (503, {"ready": False, "checks": {"bucket": "no answer within 100 ms", "metadata": "ok"}})
    assert (await get(address, "/healthz"))[0] == 200


async def test_checks_run_at_the_same_time() -> None:
    async def slow() -> str | None:
        await asyncio.sleep(0.1)
        return None

    began = asyncio.get_running_loop().time()
    assert set((await run_checks({str(n): slow for n in range(20)}, 1000)).values()) == {"ok"}
    assert asyncio.get_running_loop().time() - began < 1


async def test_mounts_and_unknown_paths(address: Address) -> None:
    status, _, body = await get(address, "/iceberg/v1/config")
    assert (status, body) == (200, b"/iceberg /iceberg/v1/config")
    assert (await get(address, "/nothing"))[0] == 404


async def test_metrics_of_the_front_door(address: Address, registry: CollectorRegistry) -> None:
    fakes = Fakes(settings())
    fakes.topics.add("t")
    async with running(fakes) as (listener, kafka):
        registry.register(FrontCollector(listener.statistics))
        client = await Client.connect(kafka)
        records = batch(3)
        part = {"index": 0, "records": records}
        request = make(
            0, 9, transactional_id=None, acks=-1, timeout=1, topic_data=[{"name": "t", "partition_data": [part]}]
        )
        await client.call(request)
        await client.call(make(22, 1, transactional_id="x", transaction_timeout=1))
        status, headers, body = await get(address, "/metrics")
        await client.close()
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert all(family.documentation for family in families.values())
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value for f in families.values() for sample in f.samples
    }
    assert values["neve_requests_total", "Produce", "ok"] == 1
    assert values["neve_requests_total", "InitProducerId", "error"] == 1
    assert values["neve_request_duration_seconds_count", "Produce"] == 1
    assert values["neve_request_duration_seconds_bucket", "+Inf", "Produce"] == 1
    assert values[("neve_produced_bytes_total",)] == len(records)
    assert values[("neve_produced_records_total",)] == 3
    assert values[("neve_connections",)] == 1


async def test_the_server_leaves_signal_handlers_alone(address: Address) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler, "what tests/conftest.py has set"
    assert address[1] > 0


async def test_a_taken_port_is_an_error_at_once(address: Address, registry: CollectorRegistry) -> None:
    server = HttpServer(make_app({}, registry, check_timeout_ms=100), drain_ms=1000)
    with pytest.raises(OSError, match="in use"):
        await server.start(*address)
    await server.stop()
