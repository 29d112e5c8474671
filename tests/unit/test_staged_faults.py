"""Faults of a running agent: refused in production, followed by other agents, always removable, told over HTTP, metered."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from broker.faults.staged import StagedFaults, faults_allowed
from broker.objects.faulty import FaultyStore
from broker.objects.memory import MemoryStore
from broker.objects.port import Unavailable
from catalog.database import Transaction, Unreachable
from catalog.inline import InlineDatabase
from catalog.migrate import migrate
from neve.http_faults import fault_routes
from schemas.fault_points import FaultRule, WrongFault
from schemas.settings import Settings


class Clock:
    """Both clocks of an agent, by hand."""

    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Cluster:
    """Agents over one database."""

    def __init__(self, clock: Clock, inner: InlineDatabase) -> None:
        self.clock = clock
        self.inner = inner

    @classmethod
    async def made(cls) -> Cluster:
        clock = Clock()
        inner = InlineDatabase(clock.now_ms)
        await migrate(inner)
        return cls(clock, inner)

    def agent(self, registry: CollectorRegistry | None = None, **settings: Any) -> StagedFaults:
        chosen = Settings(profile="staging", **settings)
        faults = StagedFaults(chosen, self.clock, random.Random(1), registry)
        self.database = faults.wrap_database(self.inner)
        return faults


def test_production_is_the_default_and_allows_none() -> None:
    assert not faults_allowed(Settings())
    assert faults_allowed(Settings(profile="staging"))
    assert faults_allowed(Settings(profile="development"))
    with pytest.raises(AssertionError):
        StagedFaults(Settings(), Clock(), random.Random(1))


async def test_a_rule_holds_here_at_once_and_elsewhere_after_a_look() -> None:
    cluster = await Cluster.made()
    registry = CollectorRegistry()
    one, other = cluster.agent(registry), cluster.agent()
    store = one.wrap_store(MemoryStore(cluster.clock.now_ms))
    assert isinstance(store, FaultyStore)
    number = await one.add(FaultRule("get_refused", times=2), None)
    with pytest.raises(Unavailable):
        await store.get("a/b")
    assert other.strike("get_refused", "a/b") is None
    await other.follow()
    assert other.strike("get_refused", "a/b") is not None
    assert [(fault.rule.number, fault.fired) for fault in await one.in_force()] == [(number, 1)]
    assert registry.get_sample_value("neve_faults_total", {"point": "get_refused"}) == 1
    assert await other.remove(number) == 1
    await one.follow()
    assert one.strike("get_refused", "a/b") is None


async def test_a_duration_is_by_the_clock_even_when_the_database_cannot_be_asked() -> None:
    cluster = await Cluster.made()
    one = cluster.agent()
    await one.add(FaultRule("put_refused"), 5_000)
    cluster.clock.ms += 4_999
    assert one.strike("put_refused", "x") is not None
    cluster.clock.ms += 1
    assert one.strike("put_refused", "x") is None
    assert await one.in_force() == []


async def test_faults_of_the_database_never_keep_their_own_removal_from_it() -> None:
    cluster = await Cluster.made()
    one = cluster.agent()
    await one.add(FaultRule("db_refused"), None)

    async def body(tx: Transaction) -> int:
        return await tx.now_ms()

    with pytest.raises(Unreachable):
        await cluster.database.snapshot(body)
    assert await one.remove(None) == 1
    assert await cluster.database.snapshot(body) == cluster.clock.ms


async def test_rules_are_bounded() -> None:
    cluster = await Cluster.made()
    one = cluster.agent(faults_max=2)
    await one.add(FaultRule("put_slow"), 10)
    await one.add(FaultRule("put_slow"), None)
    with pytest.raises(WrongFault, match="faults_max"):
        await one.add(FaultRule("put_slow"), None)
    cluster.clock.ms += 10  # the first one's time is over
    await one.add(FaultRule("put_slow"), None)
    assert [fault.rule.number for fault in await one.in_force()] == [2, 3]


async def ask(faults: StagedFaults | None, method: str, body: Any = None, query: str = "") -> tuple[int, Any]:
    """One request to the application, without a server."""
    app = Starlette(routes=fault_routes(lambda: SimpleNamespace(faults=faults)))  # type: ignore[arg-type,return-value]
    data = b"" if body is None else json.dumps(body).encode()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": "/faults",
        "raw_path": b"/faults",
        "query_string": query.encode(),
        "headers": [],
        "root_path": "",
        "scheme": "http",
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_over_http() -> None:
    cluster = await Cluster.made()
    one = cluster.agent()
    assert await ask(one, "POST", {"point": "put_refused", "rate": 0.5, "for_ms": 100}) == (201, {"fault": 1})
    status, rows = await ask(one, "GET")
    assert status == 200
    assert rows == [
        {
            "fault": 1,
            "point": "put_refused",
            "rate": 0.5,
            "pattern": "*",
            "delay_ms": 1000,
            "times": None,
            "left_ms": 100,
            "fired_here": 0,
        }
    ]
    assert await ask(one, "DELETE", query="fault=all") == (200, {"removed": 1})
    assert await ask(one, "GET") == (200, [])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"point": "x"}, "doesn't exist"),
        ({"point": "put_slow", "rate": 2.0}, "rate 2"),
        ({"point": "put_slow", "speed": 2}, "speed"),
        ({"point": "put_slow", "for_ms": 0}, "for 0 ms"),
        ({}, "point"),
        ([], "body"),
    ],
)
async def test_nonsense_over_http_is_refused(body: Any, says: str) -> None:
    cluster = await Cluster.made()
    status, answer = await ask(cluster.agent(), "POST", body)
    assert status == 400
    assert says in answer["error"]


async def test_production_refuses_over_http() -> None:
    for method in ("GET", "POST", "DELETE"):
        status, answer = await ask(None, method, {"point": "put_slow"})
        assert status == 403
        assert "profile is production" in answer["error"]
