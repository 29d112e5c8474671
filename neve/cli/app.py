"""The command tree. Importing this module must stay cheap: `neve --help` answers in under 0.3 s."""

from __future__ import annotations

import typer

from neve.cli import agent, demo, query, segment, settings, simulate, topic, verify

app = typer.Typer(
    name="neve",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="A Kafka-compatible broker that keeps everything in an object store and mirrors every topic into an Iceberg table.",
)
app.command("demo")(demo.demo)
app.command("agent")(agent.agent)
app.add_typer(topic.app, name="topic")
app.command("query")(query.query)
app.command("verify")(verify.verify)
app.command("settings")(settings.settings)
app.command("simulate")(simulate.simulate)
app.add_typer(segment.app, name="segment")


def main() -> None:
    """Entry point of the `neve` script."""
    app()
