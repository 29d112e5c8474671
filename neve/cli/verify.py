"""`neve verify`: recompute a topic from its log and from its tables, and compare."""

from __future__ import annotations

import typer

from neve.cli.output import HTTP_OPTION, fail, print_json, print_table


def verify(
    topic: str = typer.Argument(..., help="Topic name."),
    json: bool = typer.Option(False, "--json", help="The whole report as one JSON document."),
    http: str = HTTP_OPTION,
) -> None:
    """Compare log and tables: rows, offsets and checksums per partition, at a pinned watermark. Exit 1 on a difference."""
    try:
        from lakehouse.verify import VerifyError, verify_topic
    except ModuleNotFoundError as error:
        fail(f"`neve verify` needs the lake packages ({error.name} is missing): pip install 'neve[lake]'")
    from neve.cli.running import kafka_address
    from neve.kafka_client import KafkaClientError
    from neve.read_log import log_reader

    try:
        report = verify_topic(topic, http=http, read_log=log_reader(kafka_address(http)))
    except (VerifyError, KafkaClientError) as error:
        fail(str(error))
    if json:
        print_json(report.as_dict())
    else:
        print_table(report.columns(), report.rows(), title=report.title())
        typer.echo(report.verdict())
    if not report.equal:
        raise typer.Exit(1)
