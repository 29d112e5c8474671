"""`neve restore`: build a lost metadata database again from the bucket."""

from __future__ import annotations

from pathlib import Path

import typer

from neve.cli.output import cell, fail, print_json, print_table


def restore(
    data: Path | None = typer.Option(None, "--data", help="Embedded mode: the folder whose neve.db was lost."),
    bucket: str | None = typer.Option(None, "--bucket", help="Object store, s3://bucket/prefix."),
    metadata: str | None = typer.Option(None, "--metadata", help="An empty metadata database, postgresql://..."),
    json: bool = typer.Option(False, "--json", help="The report as one JSON document."),
) -> None:
    """Fill an empty database from the newest snapshot and the journal in the bucket. All agents must be down.

    Deletion is on hold afterwards, until `neve fsck --repair` finds everything clean. Exit 2: nothing was restored.
    """
    import asyncio
    from datetime import UTC, datetime

    from broker.journal.replay import Contradiction
    from broker.journal.restore import RestoreImpossible
    from broker.objects.port import ObjectStoreError
    from catalog.database import DatabaseError
    from neve.load_settings import SettingsError, load_settings
    from neve.run_restore import run_restore

    try:
        restored = asyncio.run(run_restore(load_settings(data=data, bucket=bucket, metadata=metadata)))
    except (
        SettingsError,
        RestoreImpossible,
        Contradiction,
        DatabaseError,
        ObjectStoreError,
        OSError,
        ValueError,
    ) as error:
        fail(str(error), 2)
    if json:
        print_json(restored.as_dict())
        return
    if restored.gaps:
        title = "offsets that may have been given and whose records are lost: empty now, never given again"
        print_table(["topic", "partition", "first", "next"], [list(gap) for gap in restored.gaps], title=title)
    for note in restored.notes:
        typer.echo(note)
    times = [
        cell(datetime.fromtimestamp(ms / 1000, UTC)) if ms else "none"
        for ms in (restored.snapshot_ms, restored.journal_ms)
    ]
    counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in restored.counts.items())
    typer.echo(f"cluster {restored.cluster_id} restored: snapshot of {times[0]}, journal to {times[1]}; {counts}")
    typer.echo("next: `neve fsck --deep`, then `neve fsck --repair`, which lets deletion go on; then start the agents")
