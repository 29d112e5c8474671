"""`neve fsck`: metadata, segments and tables, compared; offline or beside running agents."""

from __future__ import annotations

from pathlib import Path

import typer

from neve.cli.output import fail, print_json, print_table


def fsck(
    data: Path | None = typer.Option(None, "--data", help="Embedded mode: the folder of the cluster."),
    bucket: str | None = typer.Option(None, "--bucket", help="Object store, s3://bucket/prefix."),
    metadata: str | None = typer.Option(None, "--metadata", help="Metadata database, postgresql://..."),
    deep: bool = typer.Option(False, "--deep", help="Read every segment and recompute its checksums."),
    repair: bool = typer.Option(False, "--repair", help="Put right what can't get worse; the rest says what to do."),
    tables: bool = typer.Option(True, "--tables/--no-tables", help="Check the tables too."),
    json: bool = typer.Option(False, "--json", help="The whole report as one JSON document."),
) -> None:
    """Find orphans, missing and doubly referenced objects, holes, wrong counts and damaged bytes, in segments and tables.

    Exit 0: clean (litter costs space, nothing else). Exit 1: damage is left. Exit 2: it could not be looked at.
    """
    import asyncio

    from broker.fsck.findings import KINDS
    from broker.objects.port import ObjectStoreError
    from catalog.database import DatabaseError
    from neve.load_settings import SettingsError, load_settings
    from neve.run_fsck import FsckImpossible, run_fsck

    try:
        settings = load_settings(data=data, bucket=bucket, metadata=metadata)
        report = asyncio.run(run_fsck(settings, deep=deep, repair=repair, tables=tables))
    except (SettingsError, FsckImpossible, DatabaseError, ObjectStoreError, OSError, ValueError) as error:
        fail(str(error), 2)
    if json:
        print_json(report.as_dict())
    else:
        if report.findings:
            rows = [[one.kind, KINDS[one.kind].severity, one.where, one.detail] for one in report.findings]
            print_table(["finding", "severity", "where", "detail"], rows)
        for kind, count in report.counts.items():
            repaired = report.repaired[kind]
            facts = KINDS[kind]
            done = f", {repaired} {facts.repair}" if repaired else ""
            typer.echo(f"{kind}: {count}{done} - {facts.means}" + ("" if repaired == count else f"; {facts.advice}"))
        for note in report.notes:
            typer.echo(note)
        looked = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in sorted(report.checked.items()))
        typer.echo(f"{'clean' if report.clean else 'damaged'}: {looked}")
    if not report.clean:
        raise typer.Exit(1)
