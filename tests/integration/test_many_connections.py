"""Many connections at once on a real agent: what they cost, and that all are served. `make bench-many` does it with thousands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.bench_many import IDLE_BYTES_MAX, files_needed
from tests.bench.crowd import crowd
from tests.bench.servers import Server, neve_server
from tests.parity.broker import Broker

IDLE, ACTIVE, CHURN = 1500, 100, 1500
CHURN_BYTES_MAX = 32 << 20


@pytest.fixture
def server() -> Iterator[Server]:
    files_needed(IDLE + ACTIVE)
    with neve_server() as started:
        yield started


def test_idle_connections_cost_little_and_those_that_went_nothing(server: Server) -> None:
    broker = Broker(server.name, server.bootstrap)
    broker.create("crowd", 16)
    found = crowd(server, "crowd", idle=IDLE, active=ACTIVE, churn=CHURN, seconds=2.0)
    broker.close()
    assert found.idle_bytes_each < IDLE_BYTES_MAX
    assert found.idle_cpu_share < 0.25, "nobody works for those who are silent"
    assert found.produce_per_s > ACTIVE / 2
    assert found.fetch_per_s > ACTIVE / 2
    assert found.churn_left_bytes < CHURN_BYTES_MAX
