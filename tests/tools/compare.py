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


def unlike(step: Step, kafka: Screen, neve: Screen, rows: Sequence[Difference], used: set[tuple[int, str]]) -> Lines:
    """How the screens differ beyond what `rows` take away.

    `used` gets, as number and step, the rows that took something away here.
    """
    lines: Lines = []
    here = [(number, row) for number, row in enumerate(rows) if step.name in row.steps]
    for stream, at in (("stdout", 0), ("stderr", 1)):
        theirs, ours = list(kafka[at]), list(neve[at])
        for number, row in here:
            left = row.without_kafka(theirs), row.without_neve(ours)
            if left != (theirs, ours):
                used.add((number, step.name))
            theirs, ours = left
        if ours != theirs:
            lines += difflib.unified_diff(theirs, ours, f"{stream} of Kafka", f"{stream} of Neve", lineterm="", n=1)
    if kafka[2] != neve[2]:
        allowing = [number for number, row in here if (row.kafka_ends, row.neve_ends) == (kafka[2], neve[2])]
        used.update((number, step.name) for number in allowing)
        if not allowing:
            lines += [f"- {kafka[2]}", f"+ {neve[2]}"]
    return lines
