"""`neve segment`: look into segment objects."""

from __future__ import annotations

from pathlib import Path

import typer

from neve.cli.output import OUTPUT_OPTION, Output, fail, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Segment objects.")


@app.callback()
def segment() -> None:
    """Segment objects."""


@app.command()
def show(
    file: Path = typer.Argument(..., exists=True, dir_okay=False, help="A segment object as a file."),
    output: Output = OUTPUT_OPTION,
) -> None:
    """Print a segment's header and its runs, with every checksum verified."""
    from schemas.segment import SegmentError, summarize

    try:
        found = summarize(file.read_bytes())
    except SegmentError as error:
        fail(f"{file}: {error}")
    if output is Output.json:
        print_json(found)
        return
    runs = found.pop("runs")
    typer.echo("  ".join(f"{name} {value}" for name, value in found.items()))
    if runs:
        print_table(list(runs[0]), [list(run.values()) for run in runs])
