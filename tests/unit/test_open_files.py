"""The limit of open files, in a process of its own: a limit that was lowered can't be raised again."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from broker.open_files import allow_connections
fit = allow_connections(wanted)
print("fit", fit, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fit", "then", "warned"),
    [
        (300, 900, 200, 200, 712, False),
        (300, 900, 2000, 388, 900, True),
        (900, 900, 100, 100, 900, False),
        (400, 400, 100, 0, 400, True),
    ],
)
def test_as_many_files_as_connections_need(
    soft: int, hard: int, wanted: int, fit: int, then: int, warned: bool
) -> None:
    argv = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert f"fit {fit} {then}" in done.stdout
    assert ("ulimit -n" in done.stdout + done.stderr) is warned
