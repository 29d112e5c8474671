"""The command tree. Importing this module must stay cheap: `neve --help` answers in under 0.3 s."""

from __future__ import annotations

import typer

from neve.cli import (
    agent,
    demo,
    fault,
    fsck,
    jobs,
    query,
    restore,
    segment,
    settings,
    simulate,
    topic,
    verify,
    workload,
)

app = typer.Typer(
    name="neve",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # formatting help with rich would take longer than everything else together
    help="A Kafka-compatible broker that keeps everything in an object store and mirrors every topic into an Iceberg table.",
)
app.command("demo", short_help="The whole system on real data, in one command.")(demo.demo)
app.command("agent", short_help="Run an agent until SIGTERM, which drains it.")(agent.agent)
app.add_typer(topic.app, name="topic")
app.command("query", short_help="Ask the tables in SQL, with DuckDB.")(query.query)
app.command("verify", short_help="Recompute a topic from its log and its tables; compare.")(verify.verify)
app.command("fsck", short_help="Metadata, segments and tables, checked for damage.")(fsck.fsck)
app.command("restore", short_help="Build a lost metadata database from the bucket.")(restore.restore)
app.command("settings", short_help="Every effective setting and where it comes from.")(settings.settings)
app.command("simulate", short_help="The whole system under seeds, with faults, judged.")(simulate.simulate)
app.command("workload", short_help="Writers and readers against a running cluster, judged.")(workload.workload)
app.add_typer(jobs.app, name="jobs")
app.add_typer(fault.app, name="fault")
app.add_typer(segment.app, name="segment")


def main() -> None:
    """Entry point of the `neve` script."""
    app()
