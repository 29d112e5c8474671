"""Pages of the documentation that are made from the program: Kafka APIs, settings, topic configs.

`make reference` writes them; a test holds the files against the program, so they can't drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.kafka.registry import api_rows
from schemas.settings import Settings
from schemas.topic_config import TOPIC_CONFIGS


def kafka_apis() -> str:
    """docs/kafka-apis.md."""
    lines = [
        "# Kafka APIs",
        "",
        "Made from the registry by `make reference`. What isn't listed isn't advertised; a request for it closes the connection, as in Kafka.",
        "",
        "| key | API | versions | what it does |",
        "|---|---|---|---|",
    ]
    rows = api_rows()
    for row in rows:
        _, _, does = row.summary.partition(": ")
        lines.append(f"| {row.key} | {row.name} | {row.versions} | {does} |")
    for row in rows:
        if row.deviations:
            lines += ["", f"## {row.name}: where it deviates from Kafka", ""]
            lines += [f"- {deviation}" for deviation in row.deviations]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from `schemas/settings.py` by `make reference`. Each is a flag or `NEVE_` + its upper-case name in the environment, or a line in `neve.toml`.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{str(field.default).replace('|', chr(92) + '|')}`"
        lines.append(f"| `{name}` | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def topic_configs() -> str:
    """docs/topic-configs.md."""
    lines = [
        "# Topic configs",
        "",
        "Made from `schemas/topic_config.py` by `make reference`: Kafka 4.3's, which clients and tools read, and the tables' own (`iceberg.*`).",
        "",
        "| name | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{config.name}` | {config.type.name.lower()} | `{config.default}` | {config.documentation} |"
        for config in TOPIC_CONFIGS.values()
    ]
    return "\n".join(lines) + "\n"


PAGES = {"kafka-apis.md": kafka_apis, "settings.md": settings, "topic-configs.md": topic_configs}


def main() -> None:
    """Write the pages into the folder given."""
    folder = Path(sys.argv[1])
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    main()
