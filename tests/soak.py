"""`make soak`: what takes longer than CI may. Many seeds of the simulation, planted bugs over more seeds, and the kill test
several times over; the result is written to docs/soak.md, to be committed.

Usage: python -m tests.soak [--seeds 3000] [--kills 3] [--jobs 2]
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "soak.md"


def simulate(seeds: int, jobs: int) -> dict[str, Any]:
    """Run seeds; returns counts and findings."""
    argv = [
        sys.executable,
        "-m",
        "neve",
        "simulate",
        "--seed",
        "1",
        "--seeds",
        str(seeds),
        "--jobs",
        str(jobs),
        "--json",
    ]
    started = time.monotonic()
    faults: Counter[str] = Counter()
    findings: list[str] = []
    steps = ran = 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith("{"):
                continue
            result = json.loads(line)
            if "seed" not in result:
                continue
            ran += 1
            steps += result["steps"]
            faults.update(result.get("faults", {}))
            findings += [f"seed {result['seed']}: {finding}" for finding in result["findings"]]
            if ran % 100 == 0:
                print(f"{ran} seeds, {len(findings)} findings, {time.monotonic() - started:.0f} s", flush=True)
    return {"seeds": ran, "steps": steps, "faults": faults, "findings": findings, "seconds": time.monotonic() - started}


def kills(rounds: int) -> list[str]:
    """Run the kill test `rounds` times; returns its last lines."""
    lines = []
    for n in range(rounds):
        argv = [sys.executable, "-m", "pytest", "-q", "tests/integration/test_kills.py"]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False)
        lines.append(done.stdout.strip().splitlines()[-1])
        print(f"kills, round {n + 1}: {lines[-1]}", flush=True)
    return lines


def main() -> None:
    """Soak and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    found = simulate(args.seeds, args.jobs)
    killed = kills(args.kills)
    fired = "\n".join(f"| {name} | {count} |" for name, count in sorted(found["faults"].items()))
    bad = "\n".join(f"- {finding}" for finding in found["findings"]) or "None."
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    PAGE.write_text(
        f"""# Soak

Written by `make soak` on {datetime.now(UTC).date()} at revision {revision.stdout.strip()} ({platform.system()} {platform.machine()}, 2 cores).

{found["seeds"]} seeds of the simulation, {found["steps"]} steps, {found["seconds"]:.0f} s. Findings:

{bad}

| fault | fired |
|---|---|
{fired}

Kill test (50 x kill -9 of agent and exporter each): {"; ".join(killed) or "not run"}.
"""
    )
    sys.exit(1 if found["findings"] else 0)


if __name__ == "__main__":
    main()
