"""Neve answers as Apache Kafka does: the same requests go to a real Kafka broker and to a real agent process.

What the answers may differ in stands in one table, `tests/parity/differences.py`; anything else fails. Each row names the
sentence of the API module's docstring that tells users about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.kafka.registry import api_rows
from tests import counterparts
from tests.agents import agent_on_folder, started
from tests.conftest import found
from tests.counterparts import KafkaServer
from tests.parity import (  # noqa: F401  (importing registers the cases)
    cases_admin,
    cases_alter_configs,
    cases_configs,
    cases_delete_records,
    cases_fetch,
    cases_group_offsets,
    cases_groups,
    cases_idempotence,
    cases_list_offsets,
    cases_metadata,
    cases_produce,
    cases_protocol,
    cases_quotas,
    cases_tools,
    cases_topics,
    group_differences,
)
from tests.parity.broker import Broker
from tests.parity.cases import CASES, Case
from tests.parity.compare import both, judge
from tests.parity.differences import DIFFERENCES

AS_KAFKA = {"NEVE_NUM_PARTITIONS": "1", "NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "0"}
STRICT = "auto.create.topics.enable=false\nnum.partitions=3\nauthorizer.class.name=\n"
Pair = tuple[Broker, Broker]

RAN: set[str] = set()
USED: set[int] = set()


@pytest.fixture(scope="module")
def pair(kafka_server: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Kafka and an agent, both on their defaults, but that a group's first members wait for nobody."""
    folder = tmp_path_factory.mktemp("parity")
    agent = agent_on_folder(folder, folder / "data", settings=AS_KAFKA)
    with started(agent):
        kafka, neve = Broker("Kafka", kafka_server.bootstrap), Broker("Neve", agent.kafka)
        yield kafka, neve
        kafka.close()
        neve.close()


def check(name: str, case: Case, pair: Pair) -> None:
    """Run a case against both and fail with every difference that isn't in the table."""
    wrong = judge(name, both(case, *pair), USED)
    RAN.add(name)
    assert not wrong, f"{len(wrong)} answers differ:\n" + "\n".join(wrong[:40])


@pytest.mark.parametrize("name", CASES)
def test_answers_are_kafkas(name: str, pair: Pair) -> None:
    check(name, CASES[name], pair)


def test_answers_are_kafkas_without_auto_creation_and_authorizer(tmp_path: Path) -> None:
    found(counterparts.kafka_jars)
    settings = {"NEVE_AUTO_CREATE_TOPICS_ENABLE": "false", "NEVE_NUM_PARTITIONS": "3"}
    agent = agent_on_folder(tmp_path, tmp_path / "data", settings=settings)
    with counterparts.kafka(partitions=3, properties=STRICT) as server, started(agent):
        kafka, neve = Broker("Kafka", server.bootstrap), Broker("Neve", agent.kafka)
        check("without_auto_creation", cases_metadata.without_auto_creation, (kafka, neve))
        check("acls_without_authorizer", cases_tools.acls_without_authorizer, (kafka, neve))
        kafka.close()
        neve.close()


def test_every_row_of_the_table_is_needed() -> None:
    if CASES.keys() - RAN:
        pytest.skip("only where every case has run in this process")
    unused = [row for at, row in enumerate(DIFFERENCES) if at not in USED]
    assert not unused


def test_every_difference_is_told_to_users() -> None:
    told = {row.key: " ".join(row.deviations) for row in api_rows()}
    for row in DIFFERENCES:
        assert row.deviation in told[row.api], f"{row.api.name} doesn't say: {row.deviation}"
        assert row.reason
