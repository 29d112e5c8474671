"""Kafka's own command-line tools print the same with Neve as with Apache Kafka.

One session (`tests/tools/session.py`) is typed at both, each started empty; what stays different stands in one table,
`tests/tools/differences.py`, which docs/kafka-tools.md shows to users. Anything else fails, and so does a row that isn't
needed any more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import counterparts
from tests.agents import agent_on_folder, started
from tests.conftest import found
from tests.tools.compare import screen, unlike
from tests.tools.differences import DIFFERENCES
from tests.tools.driver import DriverClasses, Printed, compile_driver, driver, play, write_files
from tests.tools.normalise import Side
from tests.tools.session import FILES, SESSION
from tests.tools.steps import TOOLS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

PLAIN_KAFKA = "authorizer.class.name=\n"
"""A broker as delivered: without an authorizer."""
NEVE = {"NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "0"}
"""As the Kafka beside it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Both runs, compared."""

    kafka: Mapping[str, Printed]
    neve: Mapping[str, Printed]
    unlike: Mapping[str, list[str]]
    used: set[tuple[int, str]]


def side(bootstrap: str, printed: dict[str, Printed]) -> tuple[Side, dict[str, Printed]]:
    """What the comparison has to know; where the logs are said to be is taken from one of the steps."""
    shown = re.search(r'"logDir":"([^"]+)"', printed["log-dirs"].out)
    return Side(bootstrap, shown[1] if shown else "no log directory", time.time_ns() // 1_000_000), printed


def run_kafka(classes: DriverClasses, folder: Path) -> tuple[Side, dict[str, Printed]]:
    """The session against a real Kafka of its own."""
    with (
        counterparts.kafka(properties=PLAIN_KAFKA) as server,
        driver(classes, server.bootstrap, folder / "files", folder / "kafka-driver.log") as runner,
    ):
        return side(server.bootstrap, play(runner, SESSION))


def run_neve(classes: DriverClasses, folder: Path) -> tuple[Side, dict[str, Printed]]:
    """The session against an agent on a folder."""
    agent = agent_on_folder(folder, folder / "data", settings=NEVE)
    with started(agent), driver(classes, agent.kafka, folder / "files", folder / "neve-driver.log") as runner:
        return side(agent.kafka, play(runner, SESSION))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """One run of the session on each side, at the same time."""
    jars = found(counterparts.kafka_jars)
    folder = tmp_path_factory.mktemp("tools")
    for name in ("classes", "files"):
        (folder / name).mkdir()
    write_files(FILES, folder / "files")
    classes = found(lambda: compile_driver(jars, folder / "classes"))
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, classes, folder) for run in (run_kafka, run_neve)]
        (kafka_side, kafka), (neve_side, neve) = (run.result() for run in runs)
    used: set[tuple[int, str]] = set()
    differing = {
        step.name: unlike(
            step,
            screen(step, kafka[step.name], kafka_side),
            screen(step, neve[step.name], neve_side),
            DIFFERENCES,
            used,
        )
        for step in SESSION
    }
    return Session(kafka, neve, differing, used)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_screen_is_the_same(tool: str, session: Session) -> None:
    wrong = [
        "\n".join([f"== {step.name}: kafka-{tool} {step.arguments}", *session.unlike[step.name][:40]])
        for step in SESSION
        if step.tool == tool and session.unlike[step.name]
    ]
    if wrong:
        pytest.fail(f"{len(wrong)} commands print something else:\n" + "\n".join(wrong), pytrace=False)


def test_every_command_ends(session: Session) -> None:
    assert [name for name, printed in session.kafka.items() if printed.timed_out] == []
    assert [name for name, printed in session.neve.items() if printed.timed_out] == []


def test_every_allowed_difference_is_seen(session: Session) -> None:
    expected = {(number, name) for number, row in enumerate(DIFFERENCES) for name in row.steps}
    assert expected - session.used == set(), "these rows of the table are no longer needed there"
