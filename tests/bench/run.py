"""`make bench`: Neve beside Apache Kafka, interleaved in random order, medians of paired ratios, with the spread of two
identical Kafkas beside them. Writes docs/benchmarks/broker.json and the table in docs/benchmarks.md.

Usage: python -m tests.bench.run [--pairs 9] [--cases a,b,c,d,e,f,i] [--null-pairs 5] [--seconds 4]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.report import write_report
from tests.bench.servers import Server, kafka_server, measured, neve_server, run_load

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks"
RAW = "tests.bench.raw_load"
CLIENT = "tests.bench.client_load"
Answer = dict[str, float]
Case = Callable[[Server, str, float], Answer]
Start = Callable[[], AbstractContextManager[Server]]
PAIRS_PER_START = 3
WARM_RUNS = 2
"""Before the first pair, on both sides: a JVM reaches its speed in the second or third run of a case."""


def raw_produce(record: int, batch: int) -> Case:
    """Cases (a) and (b)."""

    def run(server: Server, topic: str, seconds: float) -> Answer:
        argv = [RAW, "produce", server.bootstrap, topic, "--record", str(record), "--batch", str(batch)]
        return measured(server, [*argv, "--seconds", str(seconds)])

    return run


def client_produce(batch_size: int, linger: int) -> Case:
    """Cases (c) and (d)."""

    def run(server: Server, topic: str, seconds: float) -> Answer:
        argv = [CLIENT, "produce", server.bootstrap, topic, "--batch-size", str(batch_size), "--linger", str(linger)]
        return measured(server, [*argv, "--seconds", str(seconds)])

    return run


def fill(server: Server, topic: str, seconds: float) -> Answer:
    """What the consumers of case (e) read: 1 KiB records in 64 KiB batches."""
    argv = [RAW, "produce", server.bootstrap, topic, "--seconds", str(min(seconds, 2.0)), "--batches", "16"]
    return run_load(argv)


def raw_fetch(server: Server, topic: str, seconds: float) -> Answer:
    """Case (e), raw Fetch requests over four connections, from the start."""
    filled = fill(server, topic, seconds)
    return measured(
        server, [RAW, "fetch", server.bootstrap, topic, "--connections", "4", "--bytes", str(int(filled["bytes"]))]
    )


def client_fetch(server: Server, topic: str, seconds: float) -> Answer:
    """Case (e), one confluent-kafka consumer, from the start."""
    filled = fill(server, topic, seconds)
    records = min(int(filled["records"]), 600_000)
    return measured(server, [CLIENT, "consume", server.bootstrap, topic, "--records", str(records // 16 * 16)])


def acknowledge(server: Server, topic: str, seconds: float) -> Answer:
    """Case (f): one record of 1 KiB in flight."""
    return measured(server, [RAW, "single", server.bootstrap, topic, "--batch", "1100", "--seconds", str(seconds)])


CASES: dict[str, tuple[str, Case]] = {
    "a": ("64 KiB batches x 16 per request, 1 KiB records, 8 connections x 5 in flight", raw_produce(1024, 65536)),
    "b": ("the same with 100-byte records in 4 KiB batches", raw_produce(100, 4096)),
    "c": ("one confluent-kafka producer, linger 5 ms, 16 KiB batches, idempotent", client_produce(16384, 5)),
    "d": ("one confluent-kafka producer, linger 100 ms, 1 MB batches, idempotent", client_produce(1_000_000, 100)),
    "e1": ("consume from the start, raw Fetch, 4 connections", raw_fetch),
    "e2": ("consume from the start, one confluent-kafka consumer", client_fetch),
    "f": ("acknowledgement of one 1 KiB record, one in flight", acknowledge),
}


def one(server: Server, case: str, label: str, seconds: float) -> Answer:
    """One run of a case on a topic of its own, deleted afterwards."""
    topic = f"bench-{case}-{label}"
    run_load([RAW, "create", server.bootstrap, topic])
    os.sync()  # what the run before left unwritten must not be written back during this one
    try:
        return CASES[case][1](server, topic, seconds)
    finally:
        run_load([RAW, "delete", server.bootstrap, topic])


def pairs(
    left: Start, right: Start, case: str, count: int, seconds: float, rng: random.Random
) -> list[dict[str, Answer]]:
    """Runs of two systems in random order, one at a time. Both are started afresh, and warmed, every few pairs."""
    found: list[dict[str, Answer]] = []
    while len(found) < count:
        with ExitStack() as stack:
            starts = [("left", left), ("right", right)]
            rng.shuffle(starts)  # whoever is started first finds another machine than the second
            servers = {side: stack.enter_context(start()) for side, start in starts}
            for n in range(WARM_RUNS):
                for server in servers.values():
                    one(server, case, f"warm-{len(found)}-{n}", seconds)
            for n in range(len(found), min(count, len(found) + PAIRS_PER_START)):
                sides = list(servers)
                rng.shuffle(sides)
                answers = {side: one(servers[side], case, f"run-{n}", seconds) for side in sides}
                found.append(answers)
                show(case, n, count, answers)
    return found


def show(case: str, n: int, count: int, answers: dict[str, Answer]) -> None:
    """One line per pair."""
    left, right = answers["left"], answers["right"]
    print(
        f"  {case} {n + 1}/{count}: {left['mb_s']:.0f} | {right['mb_s']:.0f} MB/s, "
        f"{left['cpu_s_per_gib']:.2f} | {right['cpu_s_per_gib']:.2f} CPU-s/GiB",
        flush=True,
    )


def summary(runs: list[dict[str, Answer]], key: str) -> dict[str, float]:
    """Medians of both sides, the median of the paired ratios (left / right) with quartiles, and the range."""
    ratios = sorted(run["left"][key] / run["right"][key] for run in runs if run["right"].get(key))
    if not ratios:
        return {}
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return {
        "left": statistics.median(run["left"][key] for run in runs),
        "right": statistics.median(run["right"][key] for run in runs),
        "ratio": statistics.median(ratios),
        "lower": quartiles[0],
        "upper": quartiles[2],
        "least": ratios[0],
        "most": ratios[-1],
    }


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--null-pairs", type=int, default=5, help="pairs of two identical Kafkas, 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "broker.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    started = time.monotonic()
    for case in args.cases.split(","):
        print(f"({case}) {CASES[case][0]}", flush=True)
        runs = pairs(neve_server, kafka_server, case, args.pairs, args.seconds, rng)
        keys = ["mb_s", "cpu_s_per_gib", "rss_mib"] + (["p50_ms", "p99_ms"] if "p50_ms" in runs[0]["left"] else [])
        entry: dict[str, Any] = {
            "what": CASES[case][0],
            "pairs": args.pairs,
            "seconds": args.seconds,
            "date": datetime.now(UTC).date().isoformat(),
            "against": {key: summary(runs, key) for key in keys},
            "rss_mib_most": max(run["left"]["rss_mib"] for run in runs),
        }
        if case == "f":
            always = pairs(lambda: neve_server(fsync="always"), kafka_server, case, args.pairs, args.seconds, rng)
            entry["fsync"] = {key: summary(always, key) for key in ("p50_ms", "p99_ms")}
        if args.null_pairs:
            null = pairs(kafka_server, kafka_server, case, args.null_pairs, args.seconds, rng)
            entry["null"] = {key: summary(null, key) for key in keys}
        results["cases"][case] = entry
        results["machine"] = f"{platform.system()} {platform.machine()}, 2 cores, Python {platform.python_version()}"
        path.write_text(json.dumps(results, indent=1) + "\n")
        write_report(results, ROOT / "docs" / "benchmarks.md")
    print(f"done in {time.monotonic() - started:.0f} s; docs/benchmarks.md")


if __name__ == "__main__":
    main()
