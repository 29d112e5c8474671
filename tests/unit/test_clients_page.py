"""docs/clients.md is what the results say, the results are whole, and the records and runs of the drivers are right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.judge import Case, Runs, log_of
from tests.clients.records import RecordSet, Run, Told
from tests.clients.results import CLIENTS, FILE, PASSED, SCENARIOS, SKIPS, page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_made_from_the_results() -> None:
    assert (DOCS / "clients.md").read_text() == page(json.loads(FILE.read_text())), "run `make reference`"


def test_every_client_passed_every_scenario_but_the_skips() -> None:
    results = json.loads(FILE.read_text())
    missing = [
        (client, scenario)
        for client in CLIENTS
        for scenario in SCENARIOS
        if results[client]["scenarios"].get(scenario) != PASSED
    ]
    assert missing == [skip for skip in missing if skip in SKIPS]
    assert len(SKIPS) <= 5


def told(records: RecordSet, indexes: list[int]) -> Told:
    made = Told(records)
    for offset, index in enumerate(indexes):
        partition = index % records.partitions
        made.read(
            partition,
            0,
            offset,
            records.time_ms + index,
            records.key(index),
            records.value(index),
            records.headers(index),
        )
    return made


def test_runs_tell_gaps_and_order() -> None:
    records = RecordSet("x", 1_000, partitions=2)
    assert told(records, [0, 2, 4]).runs == [[0, 0, 0, 0, 3]]
    assert told(records, [0, 4]).runs == [[0, 0, 0, 0, 1], [0, 0, 1, 4, 1]]
    assert log_of([[0, 1, 3, 6, 2], [0, 0, 0, 0, 3]], 2) == [Run(0, 0, 0, 0, 5)]


@pytest.mark.parametrize("index", [0, 3, 5, 7])
def test_a_record_that_is_another_is_a_mismatch(index: int) -> None:
    records, other = RecordSet("x", 0, partitions=1), RecordSet("y", 0, partitions=1)
    made = Told(records)
    made.read(0, 0, 0, index, records.key(index), records.value(index), records.headers(index))
    assert made.mismatches == []
    wrong = {0: (records.key(0), other.value(0), records.headers(0)), 3: (b"", records.value(3), []),
             5: (records.key(5), records.value(5), []), 7: (records.key(7), b"", [])}[index]  # fmt: skip
    made.read(0, 0, 1, index, *wrong)
    assert len(made.mismatches) == 1


def case(read: list[list[int]]) -> Case:
    made = Case("t", RecordSet("x", 0, partitions=1), sent={"a": range(10)})
    made.acknowledged.append(Runs.of("a", [[0, 0, 0, 0, 10]]))
    made.read.append(Runs.of("b", read))
    return made


@pytest.mark.parametrize(
    ("rule", "read"),
    [
        ("unseen", [[0, 0, 0, 0, 9]]),
        ("poll_skip", [[0, 0, 0, 0, 4], [0, 0, 5, 5, 5]]),
        ("duplicate", [[0, 0, 0, 0, 10], [0, 0, 10, 9, 1]]),
        ("nonmonotonic_poll", [[0, 0, 0, 0, 10], [0, 0, 3, 3, 1]]),
        ("inconsistent_offsets", [[0, 0, 0, 0, 5], [0, 0, 5, 6, 4]]),
    ],
)
def test_the_checker_finds_it(rule: str, read: list[list[int]]) -> None:
    assert rule in {finding.rule for finding in case(read).verdict().findings}


def test_the_checker_lets_pass_what_is_right() -> None:
    assert case([[0, 0, 0, 0, 4], [0, 1, 2, 2, 8]]).verdict().findings == []
