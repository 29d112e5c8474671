"""`neve topic`: create, list, describe, alter, delete, produce, consume - through the Kafka protocol, as any client would."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import typer

from neve.cli.output import HTTP_OPTION, OUTPUT_OPTION, Output, fail, print_json, print_table

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Topics: create, list, describe, alter, delete, produce, consume.")


def with_client(http: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run `work(client)` against the agent behind `http`."""
    import asyncio

    from neve.cli.running import kafka_address
    from neve.kafka_client import KafkaClient, KafkaClientError

    async def run() -> T:
        async with await KafkaClient.connect(kafka_address(http)) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except KafkaClientError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _pairs(config: list[str]) -> dict[str, str]:
    """NAME=VALUE of every --config."""
    settings = {}
    for item in config:
        key, separator, value = item.partition("=")
        if not separator or not key:
            fail(f"--config wants NAME=VALUE, not {item!r}", 2)
        settings[key] = value
    return settings


@app.command()
def create(
    name: str,
    partitions: int = typer.Option(-1, "--partitions", "-p", help="Partitions; the agent's num.partitions when unset."),
    config: list[str] = typer.Option([], "--config", help="Topic setting as NAME=VALUE; may be repeated."),
    http: str = HTTP_OPTION,
) -> None:
    """Create a topic."""
    settings = _pairs(config)

    from neve.topic_admin import create_topic

    created = with_client(http, lambda client: create_topic(client, name, partitions, settings))
    typer.echo(f"created topic {name} with {created} partition{'' if created == 1 else 's'}")


@app.command("list")
def list_topics(output: Output = OUTPUT_OPTION, http: str = HTTP_OPTION) -> None:
    """List topics."""
    from neve.topic_admin import list_topics as listing

    rows = with_client(http, listing)
    if output is Output.json:
        print_json(rows)
    else:
        print_table(["topic", "partitions", "topic id"], [[r["name"], r["partitions"], r["topic_id"]] for r in rows])


@app.command(short_help="Partitions with offsets; settings that were set.")
def describe(name: str, output: Output = OUTPUT_OPTION, http: str = HTTP_OPTION) -> None:
    """Partitions with their offsets, and every setting that differs from its default."""
    from neve.topic_admin import describe_topic

    found = with_client(http, lambda client: describe_topic(client, name))
    if output is Output.json:
        print_json(found)
        return
    typer.echo(f"{found['name']}  {found['topic_id']}")
    print_table(
        ["partition", "log start", "high watermark", "leader"],
        [[p["partition"], p["log_start"], p["high_watermark"], p["leader"]] for p in found["partitions"]],
    )
    if found["config"]:
        print_table(["setting", "value"], sorted(found["config"].items()))


@app.command(short_help="Set and reset settings; add partitions.")
def alter(
    name: str,
    partitions: int | None = typer.Option(
        None, "--partitions", "-p", help="Partitions the topic has afterwards; it can only get more."
    ),
    config: list[str] = typer.Option([], "--config", help="Topic setting as NAME=VALUE; may be repeated."),
    delete_config: list[str] = typer.Option(
        [], "--delete-config", help="Name of a setting to put back to its default; may be repeated."
    ),
    http: str = HTTP_OPTION,
) -> None:
    """Set settings of a topic, put them back to their defaults, and give it more partitions."""
    settings: dict[str, str | None] = dict.fromkeys(delete_config)
    twice = settings.keys() & (pairs := _pairs(config)).keys()
    if twice:
        fail(f"{sorted(twice)[0]} stands under --config and under --delete-config; choose one", 2)
    settings |= pairs
    if not settings and partitions is None:
        fail("nothing to change: give --partitions, --config or --delete-config", 2)

    from neve.topic_admin import alter_topic

    with_client(http, lambda client: alter_topic(client, name, partitions, settings))
    typer.echo(f"altered topic {name}")


@app.command()
def delete(
    name: str, yes: bool = typer.Option(False, "--yes", "-y", help="Don't ask."), http: str = HTTP_OPTION
) -> None:
    """Delete a topic. Its Iceberg table stays."""
    from neve.topic_admin import delete_topic

    if not yes and not typer.confirm(f"Delete topic {name} and all its records?", err=True):
        raise typer.Exit(1)
    with_client(http, lambda client: delete_topic(client, name))
    typer.echo(f"deleted topic {name}; its table stays")


@app.command(short_help="Send each line of standard input as one record.")
def produce(
    name: str,
    key_separator: str | None = typer.Option(
        None, "--key-separator", help="Split each line at the first of these into key and value."
    ),
    partition: int | None = typer.Option(None, "--partition", help="Partition; by key hash, else in turn, when unset."),
    null_value: str | None = typer.Option(
        None, "--null-value", help="A value equal to this is sent as null (a tombstone)."
    ),
    http: str = HTTP_OPTION,
) -> None:
    """Send each line of standard input as one record, acknowledged before the command ends."""
    from neve.topic_produce import produce_lines

    count = with_client(
        http, lambda client: produce_lines(client, name, sys.stdin.buffer, key_separator, partition, null_value)
    )
    typer.echo(f"{count} record{'' if count == 1 else 's'} acknowledged", err=True)


@app.command(short_help="Print records, as text or as JSON lines.")
def consume(
    name: str,
    offset: str = typer.Option("earliest", "--offset", help="earliest, latest, or a number."),
    count: int | None = typer.Option(None, "--count", "-n", help="End after this many records."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Wait for more records at the end."),
    partition: int | None = typer.Option(None, "--partition", help="One partition only."),
    output: Output = OUTPUT_OPTION,
    http: str = HTTP_OPTION,
) -> None:
    """Print records: key, a tab and the value; or JSON lines with offsets, timestamps and headers."""
    from neve.topic_consume import consume_records

    def emit(record: dict[str, Any]) -> None:
        if output is Output.json:
            print_json(record)
        else:
            key = "" if record["key"] is None else f"{record['key']}\t"
            sys.stdout.write(f"{key}{'' if record['value'] is None else record['value']}\n")

    with_client(http, lambda client: consume_records(client, name, offset, count, follow, partition, emit))
