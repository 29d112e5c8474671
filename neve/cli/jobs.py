"""`neve jobs`: what the cluster does behind its clients' backs: who holds which job, how far it is, when it last succeeded."""

from __future__ import annotations

from typing import Any

import typer

from neve.cli.output import HTTP_OPTION, OUTPUT_OPTION, Output, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Jobs of the role compact: deletion, compaction and the like.")
COLUMNS = ("job", "scope", "holder", "progress", "last success", "due in", "failures", "error")


@app.command("list")
def list_(output: Output = OUTPUT_OPTION, http: str = HTTP_OPTION) -> None:
    """Every job of the cluster: its holder, its progress, the age of its last success."""
    from neve.cli.running import get_json

    jobs: list[dict[str, Any]] = get_json(http, "/v1/jobs")
    if output is Output.json:
        print_json(jobs)
        return
    print_table(COLUMNS, [_row(job) for job in jobs])


@app.command()
def run(
    job: str = typer.Argument(..., help="Name of the job."),
    scope: str = typer.Option("", "--scope", help="Its scope, where there are several of that name."),
    http: str = HTTP_OPTION,
) -> None:
    """Make a job due now, also one that waits after a failure."""
    from neve.cli.running import send_json

    send_json(http, "POST", "/v1/jobs", {"job": job, "scope": scope})
    typer.echo(f"{job} is due now; `neve jobs list` shows what becomes of it")


def _row(job: dict[str, Any]) -> list[Any]:
    age_s = job["success_age_s"]
    return [
        job["job"],
        job["scope"],
        job["holder"] or "nobody",
        job["progress"],
        "never" if age_s is None else f"{age_s:.1f} s ago",
        f"{job['due_in_s']:.1f} s",
        job["failures"],
        job["error"],
    ]
