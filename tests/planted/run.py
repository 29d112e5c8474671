"""Plant every bug of tests/planted/*.patch into a copy of the tree and demand that the simulation, or a test, finds it.

Fails where a bug is not found, and where a patch doesn't apply any more (then the code has changed: plant the bug anew).
A patch begins with what it breaks, then `Profile:` (of `neve simulate`) and `Expect:` (rules, any of which counts). Where the
simulation is not what finds it, `Test:` names a file of tests instead, and `Expect:` tests in it.

    python tests/planted/run.py [--seeds N] [--jobs N] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = ("schemas", "catalog", "broker", "neve")
SEEDS = 60
TIMEOUT_S = 240


@dataclass(frozen=True)
class Planted:
    """One patch with what its head says."""

    path: Path
    profile: str
    rules: str
    test: str = ""

    @classmethod
    def read(cls, path: Path) -> Planted:
        """Parse the head. Raises ValueError where a line is missing."""
        fields = {}
        for line in path.read_text().split("\n--- ", 1)[0].splitlines():
            name, _, value = line.partition(": ")
            fields[name] = value.strip()
        if not (fields.get("Profile") or fields.get("Test")) or not fields.get("Expect"):
            raise ValueError(f"{path.name} has no Profile: (or Test:), or no Expect: line")
        return cls(path, fields.get("Profile", ""), fields["Expect"].replace(" ", ","), fields.get("Test", ""))

    def command(self, seeds: int) -> list[str]:
        """What looks for it, to be run in the patched copy."""
        if self.test:
            return [sys.executable, "-P", str(HERE / "hunt_tests.py"), self.test, self.rules]
        return [sys.executable, "-P", str(HERE / "hunt.py"), self.profile, self.rules, str(seeds)]


@dataclass(frozen=True)
class Verdict:
    """What became of one planted bug."""

    name: str
    found: bool
    seconds: float
    text: str


def plant(bug: Planted, folder: Path) -> str | None:
    """Copy the tree into `folder` and break it. Returns what went wrong, or None."""
    for package in (*PACKAGES, *(("tests",) if bug.test else ())):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    applied = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(bug.path)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        check=False,
    )
    return None if applied.returncode == 0 else f"the patch doesn't apply any more: {applied.stderr.strip()}"


def hunt(bug: Planted, seeds: int) -> Verdict:
    """Plant one bug and let the simulation look for it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="neve-planted-") as name:
        folder = Path(name)
        problem = plant(bug, folder)
        if problem is not None:
            return Verdict(bug.path.stem, False, time.monotonic() - began, problem)
        try:
            ran = subprocess.run(
                bug.command(seeds),
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict(bug.path.stem, False, time.monotonic() - began, f"not found within {TIMEOUT_S} s")
        text = (ran.stdout + ran.stderr[-2000:]).strip()
        if f"simulating {folder.resolve()}" not in text:
            return Verdict(bug.path.stem, False, time.monotonic() - began, f"the patched copy was not used: {text}")
        return Verdict(bug.path.stem, ran.returncode == 0, time.monotonic() - began, text.splitlines()[-1])


def bugs(names: list[str]) -> list[Planted]:
    """The patches by name, or all of them."""
    paths = sorted(HERE.glob("*.patch"))
    unknown = [name for name in names if name not in [path.stem for path in paths]]
    if unknown or not paths:
        raise SystemExit(f"no such planted bug: {', '.join(unknown) or 'there are none'}")
    return [Planted.read(path) for path in paths if not names or path.stem in names]


def main() -> int:
    """Hunt all; 0 when every bug was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    began = time.monotonic()
    failed = 0
    with ThreadPoolExecutor(args.jobs) as pool:
        for verdict in pool.map(lambda bug: hunt(bug, args.seeds), bugs(args.names)):
            failed += not verdict.found
            mark = "found" if verdict.found else "NOT FOUND"
            print(f"{verdict.name}: {mark} in {verdict.seconds:.1f} s: {verdict.text}", flush=True)
    print(f"{failed} of the planted bugs not found, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
