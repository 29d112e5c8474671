"""Pages of the documentation that are made from the program: Kafka APIs, consumer groups, faults, settings, topic configs.

`make reference` writes them; a test holds the files against the program, so they can't drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.groups.slots import SLOTS
from broker.groups.states import drawing, rules_table
from broker.kafka.registry import api_rows
from schemas.fault_points import POINTS, SUBJECTS
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


def consumer_groups() -> str:
    """docs/consumer-groups.md."""
    return f"""# Consumer groups

Made from `broker/groups/states.py` by `make reference`.

Classic groups (eager and cooperative, dynamic and static members) behave as Apache Kafka's do; where they don't, [kafka-apis.md](kafka-apis.md)
says so. A group is coordinated by the agent that holds its slot, one of {SLOTS}. Slots are leased: when their agent dies, another one
takes them (`group_slot_lease_ms`) and goes on from the metadata database, with the members and assignments of the last stable
generation; what was being agreed on is agreed on anew. Every write of a coordinator names its slot's epoch, so that one that
was replaced can't change anything. Offsets and assignments are in the database before anybody is told of them.

## States

```mermaid
{drawing()}
```

## What requests do

Once the member is known to be who it says it is, and its generation is the group's:

{rules_table()}
"""


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


def faults() -> str:
    """docs/faults.md."""
    lines = [
        "# Faults on purpose",
        "",
        "Made from `schemas/fault_points.py` by `make reference`.",
        "",
        "A running staging system lets faults strike on purpose, and `neve workload` says whether anything was lost over them:",
        "",
        "```sh",
        "export NEVE_PROFILE=staging                      # of the agents; production, the default, refuses faults",
        "neve fault add put_landed_unknown --rate 0.2 --for 600",
        "neve fault add db_reply_lost --rate 0.05 --pattern 'CommitStore.*'",
        "neve fault add reply_lost --rate 0.01 --pattern 'Produce *' --times 50",
        "neve fault list",
        "neve fault remove --all",
        "```",
        "",
        "Rules are kept in the metadata database; every agent follows them (`fault_poll_interval_ms`), also one that starts later.",
        "`--for` is counted by the database's clock, `--times` on each agent. What strikes is counted in `neve_faults_total{point}`.",
        "The database's own faults never touch the rules, so that they can always be removed. A production agent has none of the",
        "wrappers and ignores the rules. The exporter has no faults. The simulation strikes with the same points, by the same table.",
        "",
        "`--pattern` is matched as file names are (`*`, `?`, `[...]`):",
        "",
        "| place | compared with |",
        "|---|---|",
        *(f"| {place} | {subject} |" for place, subject in SUBJECTS.items()),
        "",
        "| fault | place | what it does |",
        "|---|---|---|",
    ]
    for point in POINTS.values():
        does = point.does if point.survivable else f"{point.does} **Nothing survives that**: a workload must find it."
        lines.append(f"| `{point.name}` | {point.place} | {does} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "faults.md": faults,
    "kafka-apis.md": kafka_apis,
    "consumer-groups.md": consumer_groups,
    "settings.md": settings,
    "topic-configs.md": topic_configs,
}


def main() -> None:
    """Write the pages into the folder given."""
    folder = Path(sys.argv[1])
    for name, page in PAGES.items():
        (folder / name).write_text(page())


if __name__ == "__main__":
    main()
