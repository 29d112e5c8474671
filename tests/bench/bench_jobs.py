"""`python -m tests.bench.bench_jobs`: what producers feel of jobs that never have enough, on one machine with their agent.

Four producers send at a steady rate whatever the answers do (an answer is late from the moment its request was due). Rounds
without and with the role compact alternate, each with a fresh agent. Floor (issue "many agents, one bucket"): the median of
the rounds' produce p99 stays below twice its value without jobs, and each of three greedy jobs gets its share; below it ends
with code 1. Writes docs/benchmarks/jobs.json with --write.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import threading
import time
import urllib.request
from collections import deque
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from tests.bench.raw_load import build, check_produce, connect, in_threads, produce_request, receive
from tests.counterparts import free_port, running, work_folder

ROOT = Path(__file__).resolve().parents[2]
RATIO_MAX = 2.0
SHARE_MIN = 0.5
"""Of an equal part, what the least of the greedy jobs must have worked."""
PARTITIONS = 16


def steady(
    bootstrap: str, topic: str, *, connections: int, bytes_s: float, batch_bytes: int, seconds: float
) -> list[float]:
    """Latencies in ms of an open loop: requests are due at fixed times."""
    batch, _ = build(1024, batch_bytes)
    gap_s = connections * len(batch) / bytes_s
    found: list[list[float]] = [[] for _ in range(connections)]
    begin = time.monotonic() + 0.2

    def worker(index: int) -> None:
        sock = connect(bootstrap)
        due: deque[float] = deque()
        wake = threading.Semaphore(0)
        requests = [b"".join(produce_request(topic, n, batch, 1, PARTITIONS, 1)) for n in range(PARTITIONS)]
        count = int(seconds / gap_s)

        def read() -> None:
            for _ in range(count):
                wake.acquire()
                check_produce(receive(sock), topic)
                found[index].append((time.monotonic() - due.popleft()) * 1000)

        reader = threading.Thread(target=read)
        reader.start()
        for n in range(count):
            at = begin + (n + index / connections) * gap_s
            time.sleep(max(0.0, at - time.monotonic()))
            due.append(at)
            sock.sendall(requests[(index + n) % PARTITIONS])
            wake.release()
        reader.join()
        sock.close()

    in_threads(connections, worker)
    return sorted(latency for one in found for latency in one)


async def made(bootstrap: str, topic: str) -> None:
    """Create the topic."""
    async with await KafkaClient.connect(bootstrap) as client:
        await create_topic(client, topic, PARTITIONS, {})


def one_round(args: argparse.Namespace, roles: str) -> dict[str, float]:
    """A fresh agent under the load; p50 and p99 in ms, and what the jobs worked meanwhile, in seconds."""
    with ExitStack() as stack:
        folder = stack.enter_context(work_folder("bench-jobs"))
        port, http, ready = free_port(), free_port(), folder / "ready.json"
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEVE_") or k.startswith("NEVE_JOB_")}
        env |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT), "NEVE_FSYNC": args.fsync, "NEVE_LOG_LEVEL": "warning"}
        env |= {"NEVE_NUM_PARTITIONS": str(PARTITIONS)}
        argv = [
            sys.executable,
            "-m",
            "tests.bench.busy_jobs",
            "agent",
            "--data",
            str(folder / "data"),
            "--roles",
            roles,
        ]
        argv += ["--kafka", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http}", "--ready-file", str(ready)]
        stack.enter_context(running("neve", argv, ready.exists, folder / "log", env))
        bootstrap = f"127.0.0.1:{port}"
        asyncio.run(made(bootstrap, "load"))
        rate = args.mb_s * 1e6
        load = {"connections": 4, "bytes_s": rate, "batch_bytes": args.batch}
        steady(bootstrap, "load", seconds=2.0, **load)
        before = worked_s(http)
        latencies = steady(bootstrap, "load", seconds=args.seconds, **load)
        after = worked_s(http)
        answer = {"p50": latencies[len(latencies) // 2], "p99": latencies[len(latencies) * 99 // 100]}
        return answer | {job: after[job] - before.get(job, 0.0) for job in after}


def worked_s(http: int) -> dict[str, float]:
    """Seconds that each greedy job has worked."""
    prefix = 'neve_job_worked_seconds_total{job="bench-'
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        line[len(prefix) :].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(prefix)
    }


def main() -> None:
    """Alternate rounds, print, judge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--mb-s", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--fsync", default="never")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rounds = []
    for _ in range(args.rounds):
        pair = {roles: one_round(args, roles) for roles in ("broker", "broker,compact")}
        rounds.append(pair)
        print(json.dumps(pair), flush=True)
    medians = {
        what: {roles: statistics.median(pair[roles][what] for pair in rounds) for roles in rounds[0]}
        for what in ("p50", "p99")
    }
    ratio = medians["p99"]["broker,compact"] / medians["p99"]["broker"]
    jobs = [job for job in rounds[0]["broker,compact"] if job not in medians]
    worked = {job: sum(pair["broker,compact"][job] for pair in rounds) for job in jobs}
    least = min(worked.values()) / (sum(worked.values()) / len(worked))
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "what": f"{args.mb_s} MB/s from 4 producers, batches of {args.batch} bytes, fsync {args.fsync}, {args.seconds} s x {args.rounds}",
        "ms": medians,
        "p99_ratio": ratio,
        "worked_s": worked,
        "least_share": least,
        "rounds": rounds,
    }
    print(json.dumps({name: value for name, value in result.items() if name != "rounds"}))
    if args.write:
        path = ROOT / "docs" / "benchmarks" / "jobs.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    if ratio >= RATIO_MAX or least < SHARE_MIN:
        raise SystemExit(f"below the floor: p99 {ratio:.2f} times its value without jobs, least share {least:.2f}")


if __name__ == "__main__":
    main()
