"""`make bench-lake`: the export, segment to committed table, in one process pinned to one core; and its memory behind a backlog.

Usage: python -m tests.bench.bench_lake [--cases flights,raw100,raw1k] [--backlog-gib 10]

A broker takes the records, then an exporter starts on the backlog. Time runs from its first committed row range to its last
(start-up and loading of compiled code are reported apart), resident memory is its peak. Writes docs/benchmarks/lake.json and
the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from neve.demo.flights import FLIGHT_TYPES, columns, encode, flights
from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from schemas.kafka.records import build_batch
from tests.bench.report import write_lake_report
from tests.bench.servers import neve_server
from tests.counterparts import work_folder

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "benchmarks" / "lake.json"
PARTITIONS = 4
BATCH_BYTES = 256 * 1024
NOW_MS = 1_700_000_000_000
JSON_FLIGHTS = {"iceberg.mode": "json", "iceberg.columns": columns(FLIGHT_TYPES)}


def batches(case: str) -> tuple[list[bytes], list[int], dict[str, str]]:
    """Batches to repeat, the records in each, and the topic's settings."""
    if case == "flights":
        values = [encode(flight) for _, flight in zip(range(20_000), flights(), strict=False)]
        config = JSON_FLIGHTS
    else:
        size = 100 if case == "raw100" else 1024
        values = [os.urandom(size // 2).hex().encode() for _ in range(max(2000, 4_000_000 // size))]
        config = {"iceberg.mode": "raw"}
    built, counts, chunk, total = [], [], [], 0
    for value in values:
        chunk.append((NOW_MS, None, value, ()))
        total += len(value)
        if total >= BATCH_BYTES:
            built.append(bytes(build_batch(chunk)))
            counts.append(len(chunk))
            chunk, total = [], 0
    return built, counts, config


async def fill(bootstrap: str, case: str, goal_bytes: int) -> tuple[int, int]:
    """Produce batches round and round to `goal_bytes`; returns records and bytes."""
    built, counts, config = batches(case)
    records = total = 0
    async with await KafkaClient.connect(bootstrap) as client:
        await create_topic(client, case, PARTITIONS, {**config, "max.message.bytes": "10485760"})
    work = iter(endless(built, counts, goal_bytes))

    async def worker(partition: int) -> None:
        nonlocal records, total
        async with await KafkaClient.connect(bootstrap) as client:
            for batch, count in work:
                await client.produce(case, partition, batch)
                records += count
                total += len(batch)

    async with asyncio.TaskGroup() as group:
        for partition in range(PARTITIONS):
            group.create_task(worker(partition))
    return records, total


def endless(built: list[bytes], counts: list[int], goal_bytes: int) -> Iterator[tuple[bytes, int]]:
    """The batches again and again, to a number of bytes."""
    sent = n = 0
    while sent < goal_bytes:
        yield built[n % len(built)], counts[n % len(built)]
        sent += len(built[n % len(built)])
        n += 1


def exported(database: Path) -> int:
    """Records committed to the tables so far."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute("SELECT offsets FROM exports WHERE kind = 'main'").fetchall()
    return sum(sum(json.loads(row[0]).values()) for row in rows)


def export(data: Path, records: int, total_bytes: int) -> dict[str, Any]:
    """Run the exporter pinned to one core until the table has every record."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NEVE_")}
    env |= {"NEVE_DATA": str(data), "NEVE_FSYNC": "never", "NEVE_LOG_LEVEL": "warning", "PYTHONSAFEPATH": "1"}
    started = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "lakehouse.export_process"], env=env, stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    process.cpu_affinity([0])
    first_at = first = 0.0
    peak = done = 0
    cpu_first = 0.0
    while done < records:
        time.sleep(0.1)
        assert child.poll() is None, "the exporter ended"
        peak = max(peak, process.memory_info().rss)
        done = exported(data / "neve.db")
        if done and not first:
            first, first_at = float(done), time.monotonic()
            cpu_first = sum(process.cpu_times()[:2])
    ended = time.monotonic()
    cpu_s = sum(process.cpu_times()[:2])
    assert child.stdin is not None
    child.terminate()
    child.wait(30)
    child.stdin.close()
    share = (records - first) / records
    wall_s = ended - first_at
    return {
        "records": records,
        "bytes": total_bytes,
        "seconds_in_all": ended - started,
        "cpu_s_in_all": cpu_s,
        "rows_s_in_all": records / (ended - started),
        "mib_s_in_all": total_bytes / 2**20 / (ended - started),
        "rows_s": (records - first) / wall_s if share > 0.3 else 0.0,
        "mib_s": total_bytes * share / 2**20 / wall_s if share > 0.3 else 0.0,
        "cpu_s_after_first": cpu_s - cpu_first,
        "peak_rss_mib": peak / 2**20,
    }


def measure(case: str, goal_bytes: int) -> dict[str, Any]:
    """One case: fill, then export."""
    with work_folder("lake") as folder:
        data = folder / "data"
        with neve_server(data=data, partitions=PARTITIONS) as server:
            records, total = asyncio.run(fill(server.bootstrap, case, goal_bytes))
        return export(data, records, total)


def main() -> None:
    """Run the cases and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="flights,raw100,raw1k")
    parser.add_argument("--gib", type=float, default=1.0, help="log bytes of each case")
    parser.add_argument("--backlog-gib", type=float, default=10.0, help="log bytes of raw1k, for the memory floor")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": {}}
    for case in args.cases.split(","):
        gib = args.backlog_gib if case == "raw1k" else args.gib
        found = measure(case, int(gib * 2**30))
        found["date"] = datetime.now(UTC).date().isoformat()
        found["gib"] = gib
        results["cases"][case] = found
        print(
            f"{case}: {found['rows_s_in_all']:,.0f} rows/s, {found['mib_s_in_all']:.0f} MiB/s in all; after the first commit "
            f"{found['rows_s']:,.0f} rows/s, {found['mib_s']:.0f} MiB/s; peak {found['peak_rss_mib']:.0f} MiB",
            flush=True,
        )
    results["machine"] = f"{platform.system()} {platform.machine()}, one of 2 cores, Python {platform.python_version()}"
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_lake_report(results, ROOT / "docs" / "benchmarks.md")


if __name__ == "__main__":
    main()
