"""What two runs of a session printed, side by side."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tests.tools.differences import Difference
from tests.tools.driver import Printed
from tests.tools.normalise import Side, in_any_order, normalise
from tests.tools.steps import Step

Lines = list[str]
Screen = tuple[Lines, Lines, str]
"""Lines of stdout, of stderr, and how the tool ended."""


def screen(step: Step, printed: Printed, side: Side) -> Screen:
    """What stood on the screen, without what is bound to differ."""
    texts = [normalise(text, side) for text in (printed.out, printed.err)]
    if not step.ordered:
        texts = [in_any_order(text) for text in texts]
    ended = "did not end" if printed.timed_out else f"exit code {printed.code}"
    return texts[0].splitlines(), texts[1].splitlines(), ended


def unlike(step: Step, kafka: Screen, neve: Screen, allowed: Sequence[tuple[int, Difference]], used: set[int]) -> Lines:
    """How the screens differ beyond what the rows of `allowed` take away; `used` gets the rows that took something."""
    lines: Lines = []
    for stream, at in (("stdout", 0), ("stderr", 1)):
        ours, theirs = list(neve[at]), list(kafka[at])
        for number, row in allowed:
            if step.name not in row.steps:
                continue
            kept_theirs, kept_ours = row.without_kafka(theirs), row.without_neve(ours)
            if kept_theirs != theirs or kept_ours != ours:
                used.add(number)
            theirs, ours = kept_theirs, kept_ours
        if ours != theirs:
            lines += difflib.unified_diff(theirs, ours, f"{stream} of Kafka", f"{stream} of Neve", lineterm="", n=1)
    ends = {(row.kafka_ends, row.neve_ends): number for number, row in allowed if step.name in row.steps}
    if kafka[2] != neve[2]:
        if (kafka[2], neve[2]) in ends:
            used.add(ends[kafka[2], neve[2]])
        else:
            lines += [f"- {kafka[2]}", f"+ {neve[2]}"]
    return lines
