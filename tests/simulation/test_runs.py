"""A few seeds of every profile, whole: enough to notice that the simulation or the product under it broke."""

from __future__ import annotations

import json

import pytest

from neve.simulation.profiles import FAULTS_MIN, PROFILES, RECORDS_MIN
from neve.simulation.run import Result, Summary, json_line, repeat_line, run_seed, simulate


@pytest.mark.parametrize(
    ("seed", "profile"),
    [(1, "swarm"), (2, "swarm"), (3, "swarm"), *((1, name) for name in PROFILES if name != "swarm")],
)
def test_a_seed_has_no_finding(seed: int, profile: str) -> None:
    result = run_seed(seed, profile)
    assert result.findings == [], repeat_line(result)
    assert result.acked >= RECORDS_MIN
    assert result.read >= result.acked or result.judged["deletion_undone"]
    assert profile == "calm" or sum(result.faults.values()) >= FAULTS_MIN


def test_simulate_gives_one_result_per_seed_in_order_and_a_summary() -> None:
    results: list[Result] = []
    summary = simulate(5, 3, "calm", 2, results.append)
    assert [result.seed for result in results] == [5, 6, 7]
    assert summary.ok
    assert summary.seeds == 3
    line = json.loads(json_line(results[0]))
    assert (line["seed"], line["trace"], line["findings"]) == (5, results[0].trace, [])
    assert len(line["trace"]) == 64
    assert repeat_line(results[0]) == "neve simulate --seed 5 --profile calm"


def test_what_never_came_up_fails_a_long_run() -> None:
    summary = Summary(seeds=100)
    summary.conclude(["kill"])
    assert "fault kill" in summary.never
    assert "rule lost_write judged" in summary.never
    assert "rule lost_write fired" in summary.never
    assert not summary.ok
    short = Summary(seeds=99)
    short.conclude(["kill"])
    assert short.ok
