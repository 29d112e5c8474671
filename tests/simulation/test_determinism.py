"""I10: one seed gives one trace in processes with other hash seeds and another allocator."""

from __future__ import annotations

import os
import subprocess
import sys

SEEDS = (
    ("swarm", 1),
    ("swarm", 12),
    ("zombie", 2),
    ("network", 1),
    ("database", 2),
    ("store", 2),
    ("groups", 1),
    ("coordinators", 2),
)
PROGRAM = """
import sys
from neve.simulation.run import run_seed
for name in sys.argv[1:]:
    profile, seed = name.split(":")
    result = run_seed(int(seed), profile)
    print(name, result.steps, result.trace, result.acked, sorted(result.errors.items()), result.findings)
"""


def start(**environment: str) -> subprocess.Popen[str]:
    names = [f"{profile}:{seed}" for profile, seed in SEEDS]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *names], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )


def test_the_same_seed_gives_the_same_trace_in_two_processes() -> None:
    running = [start(PYTHONHASHSEED="1"), start(PYTHONHASHSEED="4242", PYTHONMALLOC="malloc")]
    first, second = (process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert len(first.splitlines()) == len(SEEDS)
    assert first == second
