"""Compiled code is kept on disk, and survives what happens to caches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse import compiled

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "import numpy as np\n"
    "from lakehouse.arrow_spans import binary_array\n"
    "from lakehouse.compiled import cache_folder\n"
    "spans = np.array([[1, 2], [0, -1]], dtype=np.int32)\n"
    "print(cache_folder(), binary_array(np.frombuffer(b'abcd', dtype=np.uint8), spans).to_pylist())\n"
)


def run(arguments: list[str], **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_damaged_or_emptied_cache_is_compiled_anew(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = run(["-c", SMALL], NEVE_JIT_CACHE=str(cache))
    assert first.split(" ", 1)[0].startswith(str(cache))
    kept = [path for path in cache.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:7])
    assert run(["-c", SMALL], NEVE_JIT_CACHE=str(cache)) == first
    for path in kept:
        path.write_bytes(b"")
    assert run(["-c", SMALL], NEVE_JIT_CACHE=str(cache)) == first


def test_a_folder_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("NEVE_JIT_CACHE", str(shared))
    compiled.cache_folder.cache_clear()
    try:
        assert compiled.cache_folder() is None
        assert list(shared.iterdir()) == []
    finally:
        compiled.cache_folder.cache_clear()


def test_no_cache_at_all_still_computes(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("not a folder")
    assert run(["-c", SMALL], NEVE_JIT_CACHE=str(nowhere)).startswith("None [b'bc', None]")
