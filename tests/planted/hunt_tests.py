"""Run tests until one of the expected ones fails: 0 when it did, 1 when all passed or something else failed.

Started by tests/planted/run.py with PYTHONPATH pointing at the patched copy. `FILE TESTS`, names by comma.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


class Failures:
    """Names of tests that failed when they were called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hear of each phase of each test."""
        if report.when == "call" and report.failed:
            self.names.append(report.nodeid.rpartition("::")[2].partition("[")[0])


def main(file: str, tests: list[str]) -> int:
    """Hunt, and say what was found where."""
    import broker.compaction

    print(f"simulating {Path(str(broker.compaction.__file__)).parents[2]}")
    failures = Failures()
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", file], plugins=[failures])
    found = [name for name in failures.names if name in tests]
    print(f"found by {found[0]}" if found else f"not found: {', '.join(failures.names) or 'nothing'} failed")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2].split(",")))
