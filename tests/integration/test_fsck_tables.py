"""`neve fsck` on tables over a real catalog and exporter, and the command: each kind of damage is planted and found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from typer.testing import CliRunner

from broker.fsck.findings import KINDS, Report
from broker.objects.cluster_file import claim
from catalog.exports import LedgerFile
from lakehouse.fsck_run import check_tables
from lakehouse.fsck_tables import check_ledger, check_marks
from neve.cli.app import app
from tests.export_rig import Rig, drain, rig_of
from tests.lake_fixtures import CLUSTER_ID, local_settings


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    settings = local_settings(tmp_path / "data", export_idle_commit_ms=1)
    async with rig_of(settings) as rig:
        await claim(rig.store, CLUSTER_ID, 1)
        topic = await rig.create("t", 1, iceberg__mode="raw")
        for n in range(3):
            await rig.append(topic, {0: [[(None, b"%d" % n)] * 4]})
            await drain(rig.exporter())
        yield rig


async def fsck(rig: Rig) -> Report:
    return await check_tables(rig.settings, rig.database, rig.store, CLUSTER_ID)


def path_of(location: str) -> Path:
    return Path(unquote(urlsplit(location).path))


def data_file(rig: Rig) -> Path:
    return path_of(next(iter(rig.table("t").scan().plan_files())).file.file_path)


async def test_a_sound_table_is_clean(rig: Rig) -> None:
    report = await fsck(rig)
    assert report.clean, report.as_dict()
    assert report.checked["tables"] >= 1
    assert report.checked["table_files"] > 5
    assert not report.findings


def lose_data(rig: Rig) -> None:
    data_file(rig).unlink()


def stretch_data(rig: Rig) -> None:
    data_file(rig).write_bytes(data_file(rig).read_bytes() + b"x")


def lose_manifest(rig: Rig) -> None:
    snapshot = rig.table("t").current_snapshot()
    assert snapshot is not None
    path_of(snapshot.manifests(rig.table("t").io)[0].manifest_path).unlink()


def lose_metadata(rig: Rig) -> None:
    path_of(rig.table("t").metadata_location).unlink()


def drop_table(rig: Rig) -> None:
    rig.catalog.drop_table(("topics", "t"))


def give_away(rig: Rig) -> None:
    with rig.table("t").transaction() as change:
        change.set_properties({"neve.topic-id": "11111111-2222-3333-4444-555555555555"})


def add_file(rig: Rig) -> None:
    (data_file(rig).parent / "stray.parquet").write_bytes(b"x")


def sql(statement: str) -> Callable[[Rig], None]:
    def plant(rig: Rig) -> None:
        assert rig.settings.data is not None
        with sqlite3.connect(rig.settings.data / "neve.db", isolation_level=None) as connection:
            assert connection.execute(statement).rowcount
        connection.close()

    return plant


DAMAGES: list[tuple[str, Callable[[Rig], None]]] = [
    ("table-file-missing", lose_data),
    ("table-file-missing", lose_manifest),
    ("table-file-size", stretch_data),
    ("table-unreadable", lose_metadata),
    ("table-missing", drop_table),
    ("table-foreign", give_away),
    ("table-orphan", add_file),
    ("table-ahead", sql("UPDATE shards SET high_watermark = 8")),
    ("table-behind", sql("""UPDATE exports SET offsets = '{"0": 40}' WHERE kind = 'main'""")),
    ("table-behind", sql("UPDATE ledger SET offset_next = 40 WHERE kind = 'main' AND offset_next = 12")),
    ("ledger-hole", sql("DELETE FROM ledger WHERE kind = 'main' AND offset_first = 4")),
    ("ledger-overlap", sql("UPDATE ledger SET offset_first = 3 WHERE kind = 'main' AND offset_first = 4")),
]


@pytest.mark.parametrize(("kind", "plant"), DAMAGES, ids=[f"{n}-{one[0]}" for n, one in enumerate(DAMAGES)])
async def test_planted_damage_is_found_by_name(rig: Rig, kind: str, plant: Callable[[Rig], None]) -> None:
    plant(rig)
    report = await fsck(rig)
    assert report.counts[kind], report.as_dict()
    assert report.clean == (kind == "table-orphan")


def test_every_kind_of_table_damage_is_planted() -> None:
    assert {kind for kind, _ in DAMAGES} == {kind for kind in KINDS if kind.startswith(("table-", "ledger-"))}


def test_ledgers_and_marks_by_partition() -> None:
    report = Report()
    files = [
        LedgerFile(1, "main", shard, first, next_, "", 0, 0, "", state="committed" if next_ < 9 else "pending")
        for shard, first, next_ in ((0, 0, 5), (0, 5, 7), (0, 7, 9), (1, 3, 4))
    ]
    assert check_ledger("t", files, report) == {0: 7, 1: 4}
    check_marks("t", {0: 7, 1: 4}, {0: 9, 1: 4}, {0: 7}, {0: 7, 1: 4}, report)
    assert not report.findings


def test_the_command(tmp_path: Path) -> None:
    data = tmp_path / "data"
    runner = CliRunner()

    def run(*more: str) -> tuple[int, str, str]:
        result = runner.invoke(app, ["fsck", "--data", str(data), *more])
        return result.exit_code, result.stdout, result.stderr

    code, _, error = run()
    assert code == 2
    assert "neve restore" in error
    assert not data.exists(), "looking makes nothing"

    async def fill() -> None:
        async with rig_of(local_settings(data)) as rig:
            await claim(rig.store, CLUSTER_ID, 1)
            await rig.append(await rig.create("t"), {0: [[(None, b"x")]]})

    asyncio.run(fill())
    code, out, _ = run("--deep")
    assert (code, out.splitlines()[-1][:6]) == (0, "clean:")
    with sqlite3.connect(data / "neve.db") as connection:
        connection.execute("UPDATE objects SET extents_live = 5")
    connection.close()
    code, out, _ = run("--json", "--no-tables")
    found = json.loads(out)
    assert (code, found["clean"], found["counts"]) == (1, False, {"count-wrong": 1})
    assert found["findings"][0]["advice"] == "run `neve fsck --repair`"
    code, out, _ = run("--repair")
    assert code == 0
    assert "counted anew" in out
    assert run()[0] == 0
    next(path for path in (data / "objects").rglob("*") if path.is_file() and "segments" in path.parts).unlink()
    code, out, _ = run()
    assert code == 1
    assert "object-missing" in out
