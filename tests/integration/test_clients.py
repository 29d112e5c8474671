"""Six clients side by side: each produces with every codec, each reads what every other produced, record by record.

Beside that what each does alone: seeking, times, pausing, administration and errors, the last two held against what the
same client says with Apache Kafka.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests import counterparts
from tests.agents import AgentProcess, agent_on_folder, started
from tests.clients.drivers import CLIENTS, CODECS, ClientRefused, Driver
from tests.clients.fixtures import Drivers, all_drivers, an_hour_ago, at_once
from tests.clients.judge import Case, Runs, log_of
from tests.clients.records import RecordSet, Run
from tests.clients.results import SKIPS, hold
from tests.conftest import started as counterpart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

PER_CODEC = 20_000
RECORDS = PER_CODEC * len(CODECS)
PARTITIONS = 3
NO_NULL_HEADERS = ("kafka-python", "kafkajs")
"""They read header values that are null but refuse to send them."""
LARGE = 1 << 20
LARGE_EACH = 4
SETTINGS = {
    "NEVE_FSYNC": "never",
    "NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "NEVE_AUTO_CREATE_TOPICS_ENABLE": "false",
}
KAFKA = "auto.create.topics.enable=false\nauthorizer.class.name=\n"


class Written(NamedTuple):
    """What one client wrote, and what it was acknowledged."""

    topic: str
    records: RecordSet
    acknowledged: list[list[int]]


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with all_drivers(tmp_path_factory.mktemp("drivers")) as found:
        yield found


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    folder = tmp_path_factory.mktemp("clients")
    process = agent_on_folder(folder, folder / "data", settings=SETTINGS)
    with started(process):
        yield process


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """The address of an Apache Kafka that creates no topic unasked."""
    for server in counterpart(lambda: counterparts.kafka(properties=KAFKA)):
        yield server.bootstrap


@pytest.fixture(scope="module")
def written(agent: AgentProcess, drivers: Drivers) -> dict[str, Written]:
    """What each client that is here wrote with every codec, one after the other."""

    def write(driver: Driver) -> Written:
        topic, records = (
            f"from-{driver}",
            RecordSet(
                f"by-{driver}", an_hour_ago(), partitions=PARTITIONS, null_headers=driver.client not in NO_NULL_HEADERS
            ),
        )
        driver.admin("create", agent.kafka, topic=topic, partitions=PARTITIONS)
        runs: list[list[int]] = []
        for number, codec in enumerate(CODECS):
            told = driver.call(
                "produce", at=agent.kafka, topic=topic, set=records, first=number * PER_CODEC, count=PER_CODEC,
                codec=codec, idempotent=True,
            )  # fmt: skip
            assert told["count"] == PER_CODEC
            runs += told["runs"]
        return Written(topic, records, runs)

    return at_once(write, drivers.here)


@functools.cache
def judged(topic: str, records: RecordSet, acknowledged: tuple[Run, ...], read: tuple[Run, ...]) -> None:
    """The checker's verdict, once for readers that saw the same log."""
    producer = topic.removeprefix("from-")
    case = Case(topic, records, sent={producer: range(RECORDS)})
    case.acknowledged.append(Runs(producer, list(acknowledged)))
    case.read.append(Runs("reader", list(read)))
    case.hold()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_writes_with_every_codec(client: str, drivers: Drivers, written: dict[str, Written]) -> None:
    driver = drivers[client]
    log = log_of(written[client].acknowledged, PARTITIONS)
    assert sum(run.length for run in log) == RECORDS
    assert [(run.partition, run.offset, run.first) for run in log] == [(p, 0, p) for p in range(PARTITIONS)]
    hold(client, driver.version, "codecs")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reads_what_every_client_wrote(
    client: str, agent: AgentProcess, drivers: Drivers, written: dict[str, Written]
) -> None:
    driver = drivers[client]
    for topic, records, acknowledged in written.values():
        driver.call("open", reader=topic, at=agent.kafka, topic=topic, set=records)
        told = driver.call("read", reader=topic, count=RECORDS)
        driver.call("close", reader=topic)
        assert told["mismatches"] == []
        log = log_of(told["runs"], PARTITIONS)
        assert log == log_of(acknowledged, PARTITIONS), f"{client} read another log of {topic}"
        judged(topic, records, tuple(log_of(acknowledged, PARTITIONS)), tuple(log))
    hold(client, driver.version, "reads")


def test_a_record_that_is_another_is_told(agent: AgentProcess, drivers: Drivers, written: dict[str, Written]) -> None:
    """The comparison in every driver can fail: read with the set of somebody else."""

    def read(driver: Driver) -> int:
        topic, records, _ = written[driver.client]
        other = RecordSet("another", records.time_ms, partitions=PARTITIONS)
        driver.call("open", reader="other", at=agent.kafka, topic=topic, set=other)
        told = driver.call("read", reader="other", count=100)
        driver.call("close", reader="other")
        return len(told["mismatches"])

    assert all(at_once(read, drivers.here).values())


def test_records_of_a_mebibyte(agent: AgentProcess, drivers: Drivers) -> None:
    records = RecordSet("large", an_hour_ago(), size=LARGE, partitions=PARTITIONS)
    drivers.here[0].admin(
        "create", agent.kafka, topic="large", partitions=PARTITIONS, configs={"max.message.bytes": "4000000"}
    )
    case = Case("large", records)

    def write(driver: Driver) -> list[list[int]]:
        first = CLIENTS.index(driver.client) * LARGE_EACH
        case.sent[driver.client] = range(first, first + LARGE_EACH)
        told = driver.call(
            "produce", at=agent.kafka, topic="large", set=records, first=first, count=LARGE_EACH, codec="none",
            idempotent=True, request_max=3_000_000,
        )  # fmt: skip
        runs: list[list[int]] = told["runs"]
        return runs

    for client, runs in at_once(write, drivers.here).items():
        case.acknowledged.append(Runs.of(client, runs))

    def read(driver: Driver) -> dict[str, Any]:
        driver.call("open", reader="large", at=agent.kafka, topic="large", set=records)
        told: dict[str, Any] = driver.call("read", reader="large", count=LARGE_EACH * len(case.sent))
        driver.call("close", reader="large")
        return told

    for client, told in at_once(read, drivers.here).items():
        assert told["mismatches"] == []
        assert told["count"] == LARGE_EACH * len(case.sent)
        case.read.append(Runs.of(client, told["runs"]))
    case.hold()
    for driver in drivers.here:
        hold(driver.client, driver.version, "large")


def of_another(client: str, written: dict[str, Written]) -> Written:
    """What the next client in the row wrote."""
    names = list(written)
    return written[names[(names.index(client) + 1) % len(names)]]


@pytest.mark.parametrize("client", CLIENTS)
def test_seek(client: str, agent: AgentProcess, drivers: Drivers, written: dict[str, Written]) -> None:
    driver = drivers[client]
    topic, records, _ = of_another(client, written)
    ends = {str(p): len(range(p, RECORDS, PARTITIONS)) for p in range(PARTITIONS)}
    driver.call("open", reader="seek", at=agent.kafka, topic=topic, set=records)

    def firsts(count: int, offsets: dict[str, int]) -> dict[str, int]:
        driver.call("seek", reader="seek", offsets=offsets)
        told = driver.call("read", reader="seek", count=count)
        assert told["mismatches"] == []
        first: dict[str, int] = {}
        for run in told["runs"]:
            first.setdefault(str(run[0]), run[2])
        return first

    driver.call("read", reader="seek", count=100)
    forwards = {"0": 20_000, "1": 25_000, "2": 30_000}
    assert firsts(sum(ends.values()) - sum(forwards.values()), forwards) == forwards
    near_the_end = {p: end - 5 for p, end in ends.items()}
    assert firsts(5 * PARTITIONS, near_the_end) == near_the_end
    back = {"0": 0, "1": 7, "2": 33}
    assert firsts(sum(ends.values()) - sum(back.values()), back) == back
    driver.call("close", reader="seek")
    hold(client, driver.version, "seek")


@pytest.mark.parametrize("client", CLIENTS)
def test_offsets_for_times(client: str, agent: AgentProcess, drivers: Drivers, written: dict[str, Written]) -> None:
    driver = drivers[client]
    topic, records, _ = of_another(client, written)
    ends = driver.call("ends", at=agent.kafka, topic=topic, partitions=PARTITIONS)
    assert ends == {str(p): [0, len(range(p, RECORDS, PARTITIONS))] for p in range(PARTITIONS)}
    for index in (-5, 0, 1, 49_999, 50_000, RECORDS - 1):
        # record p + 3 * offset is at that offset of partition p
        expected = {str(p): max(0, -(-(index - p) // PARTITIONS)) for p in range(PARTITIONS)}
        expected = {p: offset if offset < ends[p][1] else -1 for p, offset in expected.items()}
        asked = {str(p): records.time_ms + index for p in range(PARTITIONS)}
        assert driver.call("times", at=agent.kafka, topic=topic, times=asked) == expected, index
    late = {str(p): records.time_ms + 10 * RECORDS for p in range(PARTITIONS)}
    assert driver.call("times", at=agent.kafka, topic=topic, times=late) == dict.fromkeys(late, -1)
    hold(client, driver.version, "times")


@pytest.mark.parametrize("client", CLIENTS)
def test_pause_and_resume(client: str, agent: AgentProcess, drivers: Drivers, written: dict[str, Written]) -> None:
    driver = drivers[client]
    topic, records, acknowledged = of_another(client, written)
    driver.call("open", reader="pause", at=agent.kafka, topic=topic, set=records)
    told = [driver.call("read", reader="pause", count=100)]
    driver.call("pause", reader="pause", partitions=[0, 2])
    told.append(driver.call("read", reader="pause", count=10_000))
    assert {run[0] for run in told[-1]["runs"]} == {1}
    driver.call("resume", reader="pause", partitions=[2])
    driver.call("pause", reader="pause", partitions=[1])
    told.append(driver.call("read", reader="pause", count=10_000))
    assert {run[0] for run in told[-1]["runs"]} == {2}
    if (client, "pause") in SKIPS:
        driver.call("close", reader="pause")
        hold(client, driver.version, "pause", "pauses, doesn't resume")
        return
    driver.call("resume", reader="pause", partitions=[0, 1])
    told.append(driver.call("read", reader="pause", count=RECORDS - sum(each["count"] for each in told)))
    driver.call("close", reader="pause")
    assert log_of([run for each in told for run in each["runs"]], PARTITIONS) == log_of(acknowledged, PARTITIONS)
    hold(client, driver.version, "pause")


Answers = list[tuple[str, Any]]


def said(call: Callable[[], Any]) -> Any:
    """What a call answers, or the library's own error."""
    try:
        return call()
    except ClientRefused as refused:
        return f"{refused.name} ({refused.code})"


def until(call: Callable[[], Any], expected: Any) -> Any:
    """Ask again for a while: Kafka's broker learns of changes a moment after they are answered."""
    deadline = time.monotonic() + 5
    while (answer := said(call)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def unknown(driver: Driver, at: str) -> Answers:
    """Asks for what isn't there."""
    topic = f"exists-{driver}"
    records = RecordSet("none", an_hour_ago(), partitions=1)
    driver.admin("create", at, topic=topic, partitions=1)
    until(lambda: driver.admin("partitions", at, topic=topic), 1)

    def read() -> Any:
        driver.call("open", reader="unknown", at=at, topic="missing", set=records)
        return driver.call("read", reader="unknown", count=1, timeout_s=3)

    def admin(call: str, **fields: Any) -> Any:
        return said(lambda: driver.admin(call, at, **fields))

    return [
        ("send to no topic", said(lambda: driver.call("send", at=at, topic="missing", bytes=10))),
        ("send to no partition", said(lambda: driver.call("send", at=at, topic=topic, partition=7, bytes=10))),
        ("read no topic", said(read)),
        ("partitions of no topic", admin("partitions", topic="missing")),
        ("grow no topic", admin("grow", topic="missing", partitions=5)),
        ("shrink", admin("grow", topic=topic, partitions=1)),
        ("delete no topic", admin("delete", topic="missing")),
        ("configs of no topic", admin("config", topic="missing", key="retention.ms")),
        ("alter no topic", admin("alter", topic="missing", key="retention.ms", value="1")),
        ("alter no config", admin("alter", topic=topic, key="no.such.config", value="1")),
        ("alter to nonsense", admin("alter", topic=topic, key="retention.ms", value="nonsense")),
        ("truncate no topic", admin("truncate", topic="missing", partition=0, offset=1)),
        ("create a bad name", admin("create", topic="bad name!", partitions=1)),
        ("create it again", admin("create", topic=topic, partitions=1)),
        ("create with a bad config", admin("create", topic=f"{topic}2", partitions=1, configs={"no.such": "1"})),
        ("create no partitions", admin("create", topic=f"{topic}2", partitions=0)),
    ]


def oversized(driver: Driver, at: str) -> Answers:
    """Sends too much: more than a topic takes, more than the client sends, more than the broker takes."""
    small, plain = f"small-{driver}", f"plain-{driver}"
    driver.admin("create", at, topic=small, partitions=1, configs={"max.message.bytes": "10000"})
    driver.admin("create", at, topic=plain, partitions=1)
    for topic in (small, plain):
        until(lambda topic=topic: driver.admin("partitions", at, topic=topic), 1)  # type: ignore[misc]

    def send(topic: str, size: int, **fields: Any) -> Any:
        return said(lambda: driver.call("send", at=at, topic=topic, bytes=size, **fields))

    return [
        ("fits", send(small, 9_000)),
        ("more than the topic takes", send(small, 20_000)),
        ("more than the client sends", send(plain, 2_000_000)),
        ("more than the broker takes", send(plain, 2_000_000, request_max=3_000_000)),
        ("fits still", send(small, 9_000)),
        ("fits there too", send(plain, 1_000_000)),
    ]


def administration(driver: Driver, at: str) -> Answers:
    """A topic's life, and a group's."""
    topic, group = f"admin-{driver}", f"group-{driver}"
    records = RecordSet("admin", an_hour_ago(), partitions=2)

    def admin(call: str, expected: Any = None, **fields: Any) -> tuple[str, Any]:
        if (driver.client, call) in SKIPS:
            assert said(lambda: driver.admin(call, at, **fields)) == "NoSuchCall (None)"
            return call, expected
        return call, until(lambda: driver.admin(call, at, **fields), expected)

    told = [
        admin("create", topic=topic, partitions=2, configs={"retention.ms": "86400000"}),
        admin("partitions", 2, topic=topic),
        admin("config", "86400000", topic=topic, key="retention.ms"),
        admin("alter", topic=topic, key="retention.ms", value="172800000"),
        admin("config", "172800000", topic=topic, key="retention.ms"),
    ]
    count = driver.call(
        "produce", at=at, topic=topic, set=records, first=0, count=20, codec="none", idempotent=False
    )["count"]  # fmt: skip
    driver.call("join", member="admin", at=at, topic=topic, group=group, set=records)
    told += [
        ("produced", count),
        ("consumed", until(lambda: driver.call("owned", member="admin")["count"], 20)),
        admin("groups", True, group=group),
    ]
    time.sleep(0.6)  # it commits while it goes on
    left = driver.call("leave", member="admin")
    told += [
        ("read", (left["mismatches"], left["count"])),
        admin("committed", {"0": 10, "1": 10}, group=group, topic=topic, partitions=2),
        admin("delete_group", group=group),
        *([admin("groups", False, group=group)] if (driver.client, "delete_group") not in SKIPS else []),
        admin("truncate", topic=topic, partition=1, offset=4),
        ("ends", driver.call("ends", at=at, topic=topic, partitions=2)),
        admin("grow", topic=topic, partitions=5),
        admin("partitions", 5, topic=topic),
        admin("delete", topic=topic),
    ]
    return told


PLAYS = {"admin": administration, "unknown": unknown, "oversized": oversized}
Compared = dict[str, dict[str, tuple[Answers, Answers]]]


@pytest.fixture(scope="module")
def compared(agent: AgentProcess, kafka: str, drivers: Drivers) -> Compared:
    """client -> scenario -> what it says with Neve and with Kafka. They wait for most of the time, so: all at once."""

    def play(driver: Driver) -> dict[str, tuple[Answers, Answers]]:
        return {name: (play(driver, agent.kafka), play(driver, kafka)) for name, play in PLAYS.items()}

    return at_once(play, drivers.here)


@pytest.mark.parametrize("scenario", PLAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_says_the_same_as_with_kafka(client: str, scenario: str, drivers: Drivers, compared: Compared) -> None:
    driver = drivers[client]
    neve, kafka = compared[client][scenario]
    assert neve == kafka
    hold(client, driver.version, scenario)


def test_skips_are_few() -> None:
    assert len(SKIPS) <= 5
