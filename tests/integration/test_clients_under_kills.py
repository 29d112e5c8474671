"""Six clients while agents are killed and connections are cut: idempotent producers, and groups that all clients share.

The checker of the simulation judges each run: nothing acknowledged is lost, nothing is there twice, order holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.agents import AgentProcess, agent_on_folder, started
from tests.clients.cutting_proxy import CuttingProxy
from tests.clients.drivers import CLIENTS, CODECS, ClientRefused, Driver
from tests.clients.fixtures import Drivers, all_drivers, an_hour_ago, at_once, wait_for
from tests.clients.judge import Case, Runs
from tests.clients.records import RecordSet
from tests.clients.results import SKIPS, hold
from tests.integration.groups import look

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

SETTINGS = {"NEVE_FSYNC": "never", "NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "500"}
EACH = 18_000
PER_S = 900
PARTITIONS = 3
SHARED = 100_000
CALM_S = 1.0
SHARED_PARTITIONS = 12


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with all_drivers(tmp_path_factory.mktemp("drivers")) as found:
        yield found


def test_idempotence_over_cut_connections_and_killed_agents(tmp_path: Path, drivers: Drivers) -> None:
    agent = agent_on_folder(tmp_path, tmp_path / "data", settings=SETTINGS)
    proxy = CuttingProxy(agent.kafka)
    clients = drivers.here
    agent.settings = SETTINGS | {"NEVE_ADVERTISE": proxy.address}
    cases = {driver.client: Case(f"killed-{driver}", RecordSet(f"k-{driver}", an_hour_ago())) for driver in clients}
    producing: set[str] = set()

    def write(driver: Driver) -> list[list[int]]:
        case = cases[driver.client]
        codec = CODECS[CLIENTS.index(driver.client) % len(CODECS)]
        told = driver.call(
            "produce", at=proxy.address, topic=case.topic, set=case.records, first=0, count=EACH, codec=codec,
            idempotent=True, per_s=PER_S,
        )  # fmt: skip
        producing.discard(driver.client)
        assert told["count"] == EACH
        runs: list[list[int]] = told["runs"]
        return runs

    with started(agent), ThreadPoolExecutor(len(cases)) as pool:
        for driver in clients:
            driver.admin("create", agent.kafka, topic=cases[driver.client].topic, partitions=PARTITIONS)
        producing |= set(cases)
        writing = {driver.client: pool.submit(write, driver) for driver in clients}
        time.sleep(1)
        hits = []
        for number in range(6):
            time.sleep(0.4)
            hits.append((len(producing), proxy.cut()))
            if number % 3 == 2:
                agent.kill()
                agent.start()
        for client, written in writing.items():
            if written.done() and (error := written.exception()):
                raise AssertionError(f"{client} gave up at {hits}") from error
        # a slow machine takes so long to start the agent again that clients may be done before the hits after the first kill
        assert all(at_work == len(cases) and connections for at_work, connections in hits[:3]), hits
        for client, written in writing.items():
            cases[client].sent[client] = range(EACH)
            cases[client].acknowledged.append(Runs.of(client, written.result(120)))

        def read(driver: Driver) -> None:
            other = clients[(clients.index(driver) + 1) % len(cases)].client
            case = cases[other]
            driver.call("open", reader="killed", at=agent.kafka, topic=case.topic, set=case.records)
            ends = driver.call("ends", at=agent.kafka, topic=case.topic, partitions=PARTITIONS)
            told = driver.call("read", reader="killed", count=sum(end for _, end in ends.values()))
            driver.call("close", reader="killed")
            assert told["mismatches"] == []
            case.read.append(Runs.of(driver.client, told["runs"]))

        at_once(read, clients)
    proxy.close()
    for case in cases.values():
        case.hold()
        assert sum(run.length for told in case.read for run in told.runs) == EACH
    for driver in clients:
        hold(driver.client, driver.version, "idempotence")


class Group:
    """Members of one group, some of them gone again; what each read is kept."""

    def __init__(self, agents: list[AgentProcess], topic: str, records: RecordSet, **fields: Any) -> None:
        self.agents = agents
        self.topic = topic
        self.records = records
        self.fields = fields
        self.at = ",".join(agent.kafka for agent in agents)
        self.members: dict[str, Driver] = {}
        self.case = Case(topic, records)
        self.mismatches: list[str] = []
        self._joins = 0

    def join(self, driver: Driver, name: str, **fields: Any) -> None:
        """A client joins under a name."""
        driver.call(
            "join",
            member=name,
            at=self.at,
            topic=self.topic,
            set=self.records,
            group=self.topic,
            **self.fields,
            **fields,
        )
        self.members[name] = driver

    def leave(self, name: str) -> int:
        """A member closes; returns how many records it read."""
        told = self.members.pop(name).call("leave", member=name)
        self._joins += 1
        self.mismatches += told["mismatches"]
        self.case.read.append(Runs.of(f"{name} {self._joins}", told["runs"]))
        return int(told["count"])

    def owned(self) -> dict[str, set[int]]:
        """Partitions by member, as members say."""
        return {name: set(driver.call("owned", member=name)["owned"]) for name, driver in self.members.items()}

    def settled(self, seconds: float = 60) -> dict[str, set[int]]:
        """Wait until every partition is owned once, everybody owns some, and the coordinator, too, has been calm for a
        while: cooperative members that give something up join again at once."""
        owned: dict[str, set[int]] = {}
        calm_since = 0.0

        def done() -> bool:
            nonlocal owned, calm_since
            before, owned = owned, self.owned()
            seen = look(self.agents, self.topic)
            everything = list(range(self.records.partitions))
            if (
                seen is None
                or seen[1:] != ("Stable", everything, len(self.members))
                or sorted(partition for each in owned.values() for partition in each) != everything
                or not all(owned.values())
                or owned != before
            ):
                calm_since = time.monotonic()
            return time.monotonic() - calm_since > CALM_S

        wait_for(done, lambda: f"not settled: {owned}, {self.errors()}, {look(self.agents, self.topic)}", seconds)
        return owned

    def told(self) -> dict[str, Any]:
        """What members say of themselves."""
        return {name: driver.call("owned", member=name) for name, driver in self.members.items()}

    def errors(self) -> dict[str, str]:
        """What members ran into, by member."""
        return {name: driver.call("owned", member=name)["error"] for name, driver in self.members.items()}

    def count(self) -> int:
        """Records read by who is in the group now."""
        return sum(driver.call("owned", member=name)["count"] for name, driver in self.members.items())

    def coordinator(self) -> AgentProcess:
        """Who coordinates the group now."""
        while (seen := look(self.agents, self.topic)) is None:
            time.sleep(0.1)
        return seen.agent


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[list[AgentProcess]]:
    pair = [agent_on_folder(tmp_path, tmp_path / "data", settings=SETTINGS) for _ in range(2)]
    with started(*pair):
        yield pair


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """For a writer beside the test; one that hangs is ended with its driver."""
    threads = ThreadPoolExecutor(1)
    yield threads
    threads.shutdown(wait=False, cancel_futures=True)


def produced(pool: ThreadPoolExecutor, driver: Driver, group: Group, count: int, per_s: int) -> Future[dict[str, Any]]:
    """One client writes the group's records."""
    return pool.submit(
        driver.call, "produce", at=group.at, topic=group.topic, set=group.records, first=0, count=count, codec="lz4",
        idempotent=True, per_s=per_s,
    )  # fmt: skip


def finish(group: Group, writer: Driver, told: dict[str, Any], count: int, read_before: int) -> None:
    """Everybody leaves once all is read; the checker judges, and committed offsets are the end."""
    group.case.sent[writer.client] = range(count)
    group.case.acknowledged.append(Runs.of(writer.client, told["runs"]))
    wait_for(
        lambda: read_before + group.count() >= count,
        lambda: f"{read_before} + {group.told()} of {count} read, {look(group.agents, group.topic)}",
    )
    time.sleep(1)  # commits go on
    for name in list(group.members):
        group.leave(name)
    assert group.mismatches == []
    group.case.hold()
    partitions = group.records.partitions
    expected = {str(p): len(range(p, count, partitions)) for p in range(partitions)}
    committed: list[Any] = []

    def all_committed() -> bool:
        try:
            committed.append(
                writer.admin("committed", group.at, topic=group.topic, group=group.topic, partitions=partitions)
            )
        except ClientRefused as refused:
            committed.append(refused)
        return bool(committed[-1] == expected)

    wait_for(all_committed, lambda: f"committed: {committed[-1]}", 15)


def test_a_group_of_all_clients_while_agents_are_killed(
    agents: list[AgentProcess], drivers: Drivers, pool: ThreadPoolExecutor
) -> None:
    records = RecordSet("shared", an_hour_ago(), partitions=SHARED_PARTITIONS)
    group = Group(agents, "shared", records)
    clients = drivers.here
    writer = clients[-1]
    writer.admin("create", group.at, topic="shared", partitions=SHARED_PARTITIONS)
    for driver in clients:
        group.join(driver, driver.client)
    group.settled()
    # a process of its own would be in the way of the writer's member: one driver answers one call at a time
    second = drivers["confluent-kafka"]
    writing = produced(pool, writer, group, SHARED, 0)
    before = 0
    told = writing.result(60)
    for number in range(2):
        agent = group.coordinator()
        agent.kill()
        time.sleep(0.5)
        agent.start()
        group.join(second, f"second {number}")
        group.settled()
        before += group.leave(clients[number].client)
        group.settled()
        group.join(clients[number], clients[number].client)
        group.settled()
    finish(group, writer, told, SHARED, before)
    for driver in clients:
        hold(driver.client, driver.version, "group")


@pytest.mark.parametrize("scenario", ["static", "cooperative"])
def test_members_keep_what_they_have_while_agents_are_killed(
    scenario: str, agents: list[AgentProcess], drivers: Drivers, pool: ThreadPoolExecutor
) -> None:
    count = 20_000
    records = RecordSet(scenario, an_hour_ago(), partitions=SHARED_PARTITIONS)
    group = Group(agents, scenario, records, cooperative=scenario == "cooperative", session_ms=15_000)
    clients = [driver for driver in drivers.here if (driver.client, scenario) not in SKIPS]
    writer = drivers["aiokafka" if scenario == "cooperative" else "kafkajs"]  # not a member here
    writer.admin("create", group.at, topic=group.topic, partitions=SHARED_PARTITIONS)
    instances = {driver.client: driver.client if scenario == "static" else "" for driver in clients}
    for driver in clients:
        group.join(driver, driver.client, instance=instances[driver.client])
    before = group.settled()
    writing = produced(pool, writer, group, count, 2_000)
    read = 0
    for driver in clients[:2]:
        agent = group.coordinator()
        agent.kill()
        time.sleep(0.5)
        agent.start()
        now = group.settled()
        if scenario == "static":
            assert now == before, "the next coordinator knows the members"
        else:  # franz-go gives its membership up, with any broker, after a few refused connections: it joins anew
            kept = sum(len(before[client] & now[client]) for client in now)
            assert kept >= SHARED_PARTITIONS // 2, "the next coordinator knows the members"
            before = now
        read += group.leave(driver.client)
        group.join(driver, driver.client, instance=instances[driver.client])
        now = group.settled()
        if scenario == "static":
            assert now == before, "a static member that restarts keeps what it has"
        else:
            kept = sum(len(before[client] & now[client]) for client in now if client != driver.client)
            assert kept >= SHARED_PARTITIONS // 2, "the others keep most of what they had"
            before = now
    finish(group, writer, writing.result(60), count, read)
    for driver in clients:
        hold(driver.client, driver.version, scenario)
    for client, left_out in SKIPS:
        if left_out == scenario:
            hold(client, drivers[client].version, scenario, "not in the library")
