"""`make bench-many`: many connections, and Metadata of many partitions, of Neve and of Apache Kafka beside it.

Usage: python -m tests.bench.bench_many [--idle 5000] [--active 500] [--churn 2000] [--seconds 10] [--partitions 5000]
Writes docs/benchmarks/many.json and the table in docs/benchmarks.md. Floors (issue "as every client knows it"): memory of
an idle connection at most 32 KiB, Metadata at most twice Kafka's p99; below one it ends with code 1.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.bench.crowd import crowd
from tests.bench.report import write_many
from tests.bench.servers import Server, kafka_server, neve_server
from tests.parity.broker import Broker
from tests.parity.wire import Nothing

ROOT = Path(__file__).resolve().parents[2]
IDLE_BYTES_MAX = 32 * 1024
METADATA_RATIO_MAX = 2.0
ROUNDS = 3
ASKED = 200


def files_needed(connections: int) -> None:
    """Let this process and its children open that many sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 512
    if most != resource.RLIM_INFINITY and wanted > most:
        raise SystemExit(f"{wanted} open files are needed, {most} are allowed: raise the hard limit (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def metadata_ms(server: Server, topic: str) -> list[float]:
    """How long Metadata v12 of one topic takes, over one connection, until the last byte is here."""
    broker = Broker(server.name, server.bootstrap)
    request = broker.frame(ApiKey.METADATA, 12, {"topics": [{"name": topic}]})
    took = []
    with broker.connect() as wire:
        for _ in range(ASKED + ASKED // 10):
            began = time.perf_counter()
            wire.send(request)
            answer = wire.receive()
            took.append((time.perf_counter() - began) * 1000)
            assert not isinstance(answer, Nothing)
            assert len(answer) > 10_000, "not the whole topic"
    broker.close()
    return took[ASKED // 10 :]


def quantile(values: list[float], share: float) -> float:
    """The value below which this share lies."""
    return statistics.quantiles(values, n=1000)[round(share * 1000) - 1]


def measure(start: AbstractContextManager[Server], args: argparse.Namespace) -> dict[str, Any]:
    """Everything for one system."""
    with start as server:
        broker = Broker(server.name, server.bootstrap)
        broker.create("crowd", 16)
        found = crowd(server, "crowd", idle=args.idle, active=args.active, churn=args.churn, seconds=args.seconds)
        broker.create("wide", args.partitions)
        broker.close()
        took = [metadata_ms(server, "wide") for _ in range(ROUNDS)]
    return {
        **asdict(found),
        "metadata_p50_ms": statistics.median(quantile(values, 0.5) for values in took),
        "metadata_p99_ms": statistics.median(quantile(values, 0.99) for values in took),
    }


def main() -> None:
    """Measure both, write the figures, fail below a floor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--active", type=int, default=500)
    parser.add_argument("--churn", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--partitions", type=int, default=5000)
    args = parser.parse_args()
    files_needed(args.idle + args.active)
    neve = measure(neve_server(), args)
    kafka = measure(kafka_server(), args)
    results = {
        "machine": f"{platform.system()} {platform.machine()}, 2 cores, Python {platform.python_version()}",
        "date": datetime.now(UTC).date().isoformat(),
        "partitions": args.partitions,
        "neve": neve,
        "kafka": kafka,
    }
    (ROOT / "docs" / "benchmarks" / "many.json").write_text(json.dumps(results, indent=1) + "\n")
    write_many(results, ROOT / "docs" / "benchmarks.md")
    print(json.dumps(results, indent=1))
    low = []
    if neve["idle_bytes_each"] > IDLE_BYTES_MAX:
        low.append(f"an idle connection costs {neve['idle_bytes_each']:.0f} bytes, more than {IDLE_BYTES_MAX}")
    ratio = neve["metadata_p99_ms"] / kafka["metadata_p99_ms"]
    if ratio > METADATA_RATIO_MAX:
        low.append(f"Metadata at p99 takes {ratio:.2f} times as long as Kafka's, more than {METADATA_RATIO_MAX}")
    print("\n".join(low) or "above every floor")
    sys.exit(1 if low else 0)


if __name__ == "__main__":
    main()
