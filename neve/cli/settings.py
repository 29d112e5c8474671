"""`neve settings`: every effective setting with its source."""

from __future__ import annotations

import typer

from neve.cli.output import OUTPUT_OPTION, Output, print_json, print_table

SECRETS = ("secret", "password")


def settings(
    output: Output = OUTPUT_OPTION,
    describe: bool = typer.Option(False, "--describe", help="Say what each setting means."),
) -> None:
    """Print the effective settings and where each comes from: environment, neve.toml or default."""
    from neve.load_settings import effective_settings

    rows = effective_settings()
    for row in rows:
        if any(word in row["name"] for word in SECRETS) and row["value"]:
            row["value"] = "********"
    if output is Output.json:
        print_json(rows)
        return
    columns = ["name", "value", "source"] + (["description"] if describe else [])
    print_table(columns, [[str(row[c]) for c in columns] for row in rows])
