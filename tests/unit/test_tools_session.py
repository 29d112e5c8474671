"""The comparison of Kafka's tools: what is taken out before, what is not, and what the rows of allowed differences do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.compare import screen, unlike
from tests.tools.differences import DIFFERENCES, MOST, Difference
from tests.tools.driver import Printed
from tests.tools.normalise import NEAR_MS, Side, in_any_order, normalise
from tests.tools.page import page
from tests.tools.session import FILES, SESSION
from tests.tools.steps import TOOLS, Step

NOW_MS = 1_795_455_717_310
SIDE = Side("127.0.0.1:41234", "/tmp/somewhere/data", NOW_MS)
STEP = Step("describe", "topics", "--describe")


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        ("at 127.0.0.1:41234 (id: 1)", "at 127.0.0.1:PORT (id: 1)"),
        ("127.0.0.1 41234      null", "127.0.0.1 PORT      null"),
        ("offset 412345", "offset 412345"),
        ("[2026-11-23 17:41:33,202] ERROR x", "[TIME] ERROR x"),
        ("consumer-work-1-5e0a38ec-1c5a-4bb1-8d44-4fd2b1a1a3f0 /", "consumer-work-1-UUID /"),
        ("Topic: a\tTopicId: WaNHa2sES0aK4A4ZgTcByg\tPartitionCount: 1", "Topic: a\tTopicId: ID\tPartitionCount: 1"),
        ("CreateTime:1795455717310\tx", "CreateTime:NOW\tx"),
        (f"CreateTime:{NOW_MS - NEAR_MS}", f"CreateTime:{NOW_MS - NEAR_MS}"),
        ("retention.ms=1700000000000", "retention.ms=1700000000000"),
        ("flush.ms=9223372036854775807", "flush.ms=9223372036854775807"),
        ("clientId=adminclient-12]", "clientId=adminclient-NUMBER]"),
        ("correlation id 4 : {a=X}", "correlation id NUMBER : {a=X}"),
        ("group console-consumer-97994", "group console-consumer-NUMBER"),
        ('"logDir":"/tmp/somewhere/data"', '"logDir":"LOGDIR"'),
        ("plain:0:8", "plain:0:8"),
        ("exit 17", "exit 17"),
        (
            "5000 records sent, 27173.913043 records/sec (2.59 MB/sec), 24.42 ms avg latency, 151.00 ms max latency, 24 ms 50th, 34 ms 95th, 36 ms 99th, 36 ms 99.9th.",
            "5000 records sent, at some RATE",
        ),
        (
            "2026-11-23 17:44:03:609, 2026-11-23 17:44:03:693, 0.4774, 5.6829, 5200, 61904.7619, 21, 63, 7.5772, 82539.6825",
            "TIME, TIME, 0.4774, RATE, 5200, RATE, MS, MS, RATE, RATE",
        ),
        ("0\t8.925412", "NUMBER\tMS"),
        (
            "x.TimeoutException: Call(callName=a(api=B), deadlineMs=1795455717310, tries=9, nextAllowedTryMs=1795455717310) timed out at 1795455717310 after 9 attempt(s). More",
            "x.TimeoutException: a(api=B) in vain. More",
        ),
        (
            "x.TimeoutException: Timed out waiting for a node assignment. Call: a(api=B)",
            "x.TimeoutException: a(api=B) in vain",
        ),
        ("Avg latency: 4.1377 ms", "Avg latency: MS"),
        ("readers         plain           0          8               8               0", None),
    ],
)
def test_only_what_is_bound_to_differ_is_taken_out(printed: str, left: str | None) -> None:
    assert normalise(printed, SIDE) == (printed if left is None else left)


def test_counts_of_a_performance_run_still_differ() -> None:
    line = "{} records sent, 1.0 records/sec (1.0 MB/sec), 1.0 ms avg latency, 1.0 ms max latency, 1 ms 50th, 1 ms 95th, 1 ms 99th, 1 ms 99.9th."
    assert normalise(line.format(5000), SIDE) != normalise(line.format(4999), SIDE)


def test_the_content_of_a_hash_table_has_no_order_but_is_all_there() -> None:
    assert in_any_order("b 1\na 2") == in_any_order("2 a\nb 1")
    assert in_any_order("b 1\na 2") != in_any_order("b 2\na 1")
    assert in_any_order("a\na") != in_any_order("a")


def printed(out: str, err: str = "", code: int = 0, *, timed_out: bool = False) -> Printed:
    return Printed(out, err, code, timed_out, 1)


def differing(kafka: Printed, neve: Printed, *rows: Difference) -> tuple[list[str], set[tuple[int, str]]]:
    used: set[tuple[int, str]] = set()
    lines = unlike(STEP, screen(STEP, kafka, SIDE), screen(STEP, neve, SIDE), rows, used)
    return lines, used


@pytest.mark.parametrize(
    ("kafka", "neve"),
    [
        (printed("a"), printed("b")),
        (printed("a"), printed("a\nb")),
        (printed("a", "x"), printed("a", "y")),
        (printed("a", code=1), printed("a")),
        (printed("a"), printed("a", timed_out=True)),
        (printed("a\n"), printed("a ")),
        (printed("", "a"), printed("a", "")),
    ],
)
def test_every_difference_is_seen(kafka: Printed, neve: Printed) -> None:
    assert differing(kafka, neve)[0]
    assert not differing(kafka, kafka)[0]


def test_a_row_allows_its_lines_and_no_others() -> None:
    row = Difference("internal topics", "there are none", ("describe",), kafka="__.*")
    assert differing(printed("__offsets\na"), printed("a"), row) == ([], {(0, "describe")})
    assert differing(printed("__offsets\na"), printed("b"), row)[0]
    assert differing(printed("a"), printed("__offsets\na"), row)[0]
    assert differing(printed("a"), printed("a"), row) == ([], set())


def test_a_row_of_another_step_allows_nothing() -> None:
    row = Difference("internal topics", "there are none", ("list",), kafka="__.*")
    assert differing(printed("__offsets\na"), printed("a"), row)[0]


def test_a_row_allows_the_ends_that_it_names() -> None:
    row = Difference("any", "so", ("describe",), kafka_ends="exit code 1", neve_ends="exit code 0")
    assert differing(printed("a", code=1), printed("a"), row) == ([], {(0, "describe")})
    assert differing(printed("a"), printed("a", code=1), row)[0]
    assert differing(printed("a", code=2), printed("a"), row)[0]


def test_the_session_is_long_and_its_steps_have_names_of_their_own() -> None:
    names = [step.name for step in SESSION]
    assert len(names) == len(set(names)) >= 120
    assert {step.tool for step in SESSION} == TOOLS.keys()


def test_every_file_of_the_session_is_used() -> None:
    typed = " ".join(step.arguments for step in SESSION)
    assert [name for name in FILES if f"{{files}}/{name}" not in typed] == []


def test_what_was_started_is_stopped() -> None:
    running: set[str] = set()
    for step in SESSION:
        if step.kind == "start":
            running.add(step.subject)
        elif step.kind == "stop":
            running.remove(step.subject)
    assert not running


def test_few_differences_are_allowed_and_each_says_why() -> None:
    assert len(DIFFERENCES) <= MOST
    names = {step.name for step in SESSION}
    for row in DIFFERENCES:
        assert row.what
        assert row.reason
        assert row.steps
        assert names.issuperset(row.steps), row


def test_the_page_is_what_the_tables_say() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "kafka-tools.md"
    assert path.read_text() == page(), "run `make reference`"
