"""Compiled decoding under hostile input, with every access to memory checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_hostile_input_never_leaves_its_arrays() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.checked_decoding", "5", "1500"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "NEVE_JIT_CHECKED": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert all(count > 100 for count in counts.values()), counts
