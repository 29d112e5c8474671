"""docs/kafka-tools.md: which tools the session runs and where their screens differ, from the tables that the test holds.

`python -m tests.tools.page docs/kafka-tools.md` writes it (`make reference`); a test holds the file against the tables.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.tools.differences import DIFFERENCES
from tests.tools.session import SESSION
from tests.tools.steps import TOOLS

HEAD = """# Kafka's command-line tools

Made from `tests/tools` by `make reference`. One test (`tests/integration/test_kafka_tools.py`) types the same session of
{steps} commands, with good and bad input, at Apache Kafka 4.3.1's own tools, once against a real Kafka broker and once against
a Neve agent that both started empty, and fails unless stdout, stderr and exit code are the same. Taken out before they are
compared: ids that are drawn, moments, rates and latencies, addresses and folders.

| tool | commands |
|---|---|
"""
BETWEEN = """
## Where the screens differ

These and no others; a row that is no longer needed fails the test too.

| what | why | commands |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    counts = Counter(step.tool for step in SESSION)
    text = HEAD.format(steps=len(SESSION))
    text += "".join(f"| `kafka-{tool}` | {counts[tool]} |\n" for tool in TOOLS)
    text += BETWEEN
    typed = {step.name: f"{step.tool} {step.arguments}".strip() for step in SESSION}
    for row in DIFFERENCES:
        commands = "<br>".join(f"`{_cell(typed[name])}`" for name in row.steps)
        text += f"| {row.what} | {row.reason} | {commands} |\n"
    return text


def _cell(command: str) -> str:
    return command.replace("--bootstrap-server {at} ", "").replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
