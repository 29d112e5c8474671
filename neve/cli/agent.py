"""`neve agent`: one agent in the foreground, or several processes on one machine."""

from __future__ import annotations

from pathlib import Path

import typer

from neve.cli.output import fail


def agent(
    data: Path | None = typer.Option(
        None, "--data", help="Embedded mode: one folder for metadata, objects and tables."
    ),
    bucket: str | None = typer.Option(None, "--bucket", help="Object store, s3://bucket/prefix."),
    metadata: str | None = typer.Option(None, "--metadata", help="Metadata database, postgresql://..."),
    kafka: str | None = typer.Option(None, "--kafka", help="Kafka listener, HOST:PORT (127.0.0.1:9092)."),
    http: str | None = typer.Option(None, "--http", help="HTTP port, HOST:PORT (127.0.0.1:8080)."),
    advertise: str | None = typer.Option(None, "--advertise", help="Address told to Kafka clients, HOST:PORT."),
    roles: str | None = typer.Option(None, "--roles", help="broker, compact, export; by comma (default all)."),
    zone: str | None = typer.Option(None, "--zone", help="Availability zone."),
    agents: int = typer.Option(1, "--agents", min=1, max=64, help="Processes on this machine, ports counted up."),
    ready_file: Path | None = typer.Option(None, "--ready-file", help="Write the addresses here as JSON once ready."),
) -> None:
    """Run an agent until SIGTERM, which drains and exits 0."""
    from neve.load_settings import SettingsError, load_settings
    from neve.run_agent import StartError, run_agents

    try:
        settings = load_settings(
            data=data,
            bucket=bucket,
            metadata=metadata,
            kafka=kafka,
            http=http,
            advertise=advertise,
            roles=roles,
            zone=zone,
        )
        code = run_agents(settings, agents, ready_file)
    except (SettingsError, StartError) as error:
        fail(str(error))
    raise typer.Exit(code)
