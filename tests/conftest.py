"""Fixtures for real counterparts, one of each per test session (per worker). A missing one skips the test and says so,
or fails it where NEVE_TEST_REQUIRE_ALL=1; with that, any test that is skipped fails the session."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests import counterparts
from tests.counterparts import CounterpartMissing, KafkaJars, KafkaServer, PostgresServer, S3Server

T = TypeVar("T")
REQUIRE_ALL = "NEVE_TEST_REQUIRE_ALL"


def skip_reasons(reporter: pytest.TerminalReporter) -> Counter[str]:
    """How many tests were skipped, by what they say."""
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each thing that is missing here."""
    for reason, count in sorted(skip_reasons(terminalreporter).items()):
        terminalreporter.write_line(f"SKIPPED {count}: {reason}", yellow=True)


def pytest_configure() -> None:
    """Ended by its budget, a session still ends the servers that it started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything has to be here, nothing may be skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        reporter is not None
        and os.environ.get(REQUIRE_ALL) == "1"
        and skip_reasons(reporter)
        and not session.exitstatus
    ):
        reporter.write_line(f"\n{REQUIRE_ALL}=1: tests were skipped")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def refuse(missing: CounterpartMissing) -> None:
    """Skip, or fail where everything has to be here."""
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(str(missing), pytrace=False)
    pytest.skip(str(missing))


def found(look: Callable[[], T]) -> T:
    """What `look` finds; a skip or failure where it doesn't."""
    try:
        return look()
    except CounterpartMissing as missing:
        refuse(missing)
        raise


def started(start: Callable[[], contextlib.AbstractContextManager[T]]) -> Iterator[T]:
    """A running counterpart for a yield fixture."""
    with contextlib.ExitStack() as stack:
        yield found(lambda: stack.enter_context(start()))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """PostgreSQL; call `create_database` for one of your own, or use `postgres_uri`."""
    yield from started(counterparts.postgres)


@pytest.fixture
def postgres_uri(postgres_server: PostgresServer) -> Iterator[str]:
    """URI of an empty database that belongs to this test alone."""
    name = f"t{uuid.uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def versitygw_server() -> Iterator[S3Server]:
    """A real S3 server process."""
    yield from started(counterparts.versitygw)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """moto's S3 (and Glue) in a process."""
    yield from started(counterparts.moto_server)


@pytest.fixture(scope="session")
def kafka_jars() -> KafkaJars:
    """Java and Kafka's jars, for the Java clients and tools."""
    return found(counterparts.kafka_jars)


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """A real Apache Kafka broker to compare with."""
    yield from started(counterparts.kafka)


@pytest.fixture(scope="session")
def kcat() -> Path:
    """The kcat binary."""
    return found(counterparts.kcat_binary)
