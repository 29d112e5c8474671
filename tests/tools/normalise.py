"""What two runs of a session are bound to differ in becomes a word; everything else stays as it was printed.

Rates, latencies and times go only where a tool prints them, recognised by the whole line or by the words before them;
counts, offsets, sizes and codes stay. Pure: the moment of the run and the side's addresses come from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

NEAR_MS = 3_600_000
_WORD = re.compile(r"[\w.-]+")
_Replace = str | Callable[[re.Match[str]], str]


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one of the two brokers: its address, and where it says that it keeps its logs."""

    bootstrap: str
    log_dir: str
    now_ms: int


_NUMBER = r"-?\d+(?:\.\d+)?"
_RATE = rf"(?:{_NUMBER}|NaN|Infinity)"
_RULES: list[tuple[re.Pattern[str], _Replace]] = [
    # log4j's date, and the consumer performance tool's
    (re.compile(r"\[20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\]"), "[TIME]"),
    # ids that are drawn
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"(\bTopicId: )[\w-]{22}(?=\s)"), r"\1ID"),
    (re.compile(r"(\bCluster ID: )[\w-]{22,32}(?=\s)"), r"\1ID"),
    (re.compile(r"\b(console|perf)-consumer-\d+\b"), r"\1-consumer-NUMBER"),
    # numbers of this JVM's clients and of their requests: how often they ask depends on time
    (re.compile(r"\badminclient-\d+\b"), "adminclient-NUMBER"),
    (re.compile(r"(\bcorrelation id )\d+\b"), r"\1NUMBER"),
    # at which point of its retries a client that asks in vain runs out of time
    (
        re.compile(
            r"\bCall\(callName=(\w+\(api=\w+\)), deadlineMs=\w+, tries=\d+, nextAllowedTryMs=[\w-]+\) "
            r"timed out at \w+ after \d+ attempt\(s\)"
        ),
        r"\1 in vain",
    ),
    (re.compile(r"\bTimed out waiting for a node assignment\. Call: (\w+\(api=\w+\))"), r"\1 in vain"),
    # the producer performance tool: how many were sent stays
    (
        re.compile(
            rf"^(\d+ (?:steady state )?records sent), {_RATE} records/sec \({_RATE} MB/sec\), {_RATE} ms avg latency, "
            rf"{_RATE} ms max latency, \d+ ms 50th, \d+ ms 95th, \d+ ms 99th, \d+ ms 99\.9th\.$",
            re.MULTILINE,
        ),
        r"\1, at some RATE",
    ),
    # the consumer performance tool: how much was consumed stays
    (
        re.compile(
            rf"^20[\d :-]+\d, 20[\d :-]+\d, (\d+\.\d+), {_RATE}, (\d+), {_RATE}, {_RATE}, {_RATE}, {_RATE}, {_RATE}$",
            re.MULTILINE,
        ),
        r"TIME, TIME, \1, RATE, \2, RATE, MS, MS, RATE, RATE",
    ),
    # the latency tool
    (re.compile(rf"^\d+\t{_NUMBER}$", re.MULTILINE), "NUMBER\tMS"),
    (re.compile(rf"^Avg latency: {_NUMBER} ms$", re.MULTILINE), "Avg latency: MS"),
    (re.compile(r"^Percentiles: 50th = \d+, 99th = \d+, 99\.9th = \d+$", re.MULTILINE), "Percentiles: MS"),
    # the verifiable producer's summary
    (re.compile(rf'("avg_throughput":){_RATE}'), r"\1RATE"),
]


def normalise(text: str, side: Side) -> str:
    """`text` as it would be the same on both sides, if nothing but ids, times and addresses differ."""
    port = side.bootstrap.rpartition(":")[2]
    text = text.replace(side.log_dir, "LOGDIR")
    text = re.sub(rf"(?<!\d){re.escape(port)}(?!\d)", "PORT", text)
    text = re.sub(r"(?<!\d)\d{13}(?!\d)", lambda found: _moment(found.group(), side.now_ms), text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _moment(digits: str, now_ms: int) -> str:
    """Milliseconds since 1970 that are about now; any other number stays."""
    return "NOW" if abs(int(digits) - now_ms) < NEAR_MS else digits


def in_any_order(text: str) -> str:
    """Words and lines sorted, where a tool prints the content of a hash table."""
    return "\n".join(sorted(" ".join(sorted(_WORD.findall(line))) for line in text.splitlines()))
