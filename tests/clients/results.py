"""Which scenario each client passed: results.json, written by a test run and held by every other.

With NEVE_TEST_WRITE_CLIENTS=1 a run writes what it found; without, a test fails where the file says something else.
docs/clients.md is made from it: `python -m tests.clients.results docs/clients.md` (`make reference`).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "results.json"
WRITE = "NEVE_TEST_WRITE_CLIENTS"
PASSED = "passed"
CLIENTS = ("confluent-kafka", "kafka-python", "aiokafka", "Java", "kafkajs", "franz-go")

SCENARIOS = {
    "codecs": "produces with every codec: none, gzip, snappy, lz4, zstd",
    "reads": "reads 100,000 records of each client: every codec, headers, null keys, values and headers",
    "large": "1 MiB records",
    "seek": "seek",
    "times": "offsets for times, first and end offsets",
    "pause": "pause and resume",
    "admin": "topics, partitions, configs, groups, offsets, deletion of records, beside Kafka",
    "unknown": "its own errors for topics, partitions and configs that don't exist, as with Kafka",
    "oversized": "its own errors for messages that are too large, as with Kafka",
    "idempotence": "idempotence over cut connections and killed agents",
    "group": "a group of all clients, churning, while agents are killed",
    "static": "static members that restart, while agents are killed",
    "cooperative": "cooperative members, while agents are killed",
}

SKIPS = {
    ("kafkajs", "static"): "the library has no static membership, with any broker",
    ("kafkajs", "cooperative"): "the library has no cooperative assignment, with any broker",
    ("aiokafka", "cooperative"): "the library has no cooperative assignment, with any broker",
    (
        "kafka-python",
        "pause",
    ): "pauses, but reads a partition that had records fetched no more once it is resumed; with "
    "Apache Kafka 4.3.1 just the same",
    ("aiokafka", "delete_group"): "the library's admin client can't delete groups, with any broker",
}
"""(client, scenario or admin call) -> why it is left out; at most five."""


def hold(client: str, version: str, scenario: str, outcome: str = PASSED) -> None:
    """Note an outcome, or hold it against the file."""
    assert scenario in SCENARIOS, scenario
    if os.environ.get(WRITE) != "1":
        known = json.loads(FILE.read_text())[client]
        assert (known["version"], known["scenarios"][scenario]) == (version, outcome), f"run with {WRITE}=1"
        return
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        results: dict[str, Any] = json.loads(file.read() or "{}")
        known = results.setdefault(client, {"version": version, "scenarios": {}})
        known["version"] = version
        known["scenarios"][scenario] = outcome
        file.truncate(0)
        file.write(json.dumps(results, indent=1, sort_keys=True) + "\n")


HEAD = """# Clients

Made from `tests/clients/results.json` by `make reference`; the tests that write the file hold it in every run
(`tests/integration/test_clients.py`, `test_clients_under_kills.py`). Six client libraries, each in a process of its own behind
one interface (`tests/clients/protocol.md`), play the same scenarios. Each writes 100,000 records, 20,000 with every codec, and
each reads what every one wrote and compares record by record: 36 pairs. In a group of all clients 100,000 records of one
client are shared by the others. The checker of the simulation judges what was sent, acknowledged and read.

"""


def page(results: dict[str, Any]) -> str:
    """docs/clients.md."""
    rows = ["| | " + " | ".join(CLIENTS) + " |", "|---|" + "---|" * len(CLIENTS)]
    rows.append("| version | " + " | ".join(results[client]["version"] for client in CLIENTS) + " |")
    for scenario, text in SCENARIOS.items():
        cells = [results[client]["scenarios"][scenario] for client in CLIENTS]
        rows.append(f"| {text} | " + " | ".join(cells) + " |")
    left_out = [f"- {client}, {what}: {why}." for (client, what), why in SKIPS.items()]
    return HEAD + "\n".join(rows) + "\n\n## Left out\n\n" + "\n".join(left_out) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(json.loads(FILE.read_text())))
