"""The exporter over a log without brokers: rows come out once each, whatever is killed, on SQLite with a folder and on
PostgreSQL with S3."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from catalog.topics import TopicRow, TopicStore
from lakehouse.watermark import read_watermark
from schemas.settings import Settings
from tests.counterparts import S3Server
from tests.export_rig import Rig, drain, rig_of, settle
from tests.lake_fixtures import bucket_settings, local_settings

QUICK = {"export_idle_commit_ms": 1, "export_lease_ms": 60_000}


class Killed(BaseException):
    """Stands for the end of the process: nothing behind it runs."""


def kill_at(place: str, times: int = 1) -> Callable[[str], None]:
    """A checkpoint that ends the exporter when it comes by `place` for the `times`-th time."""
    left = times

    def checkpoint(at: str) -> None:
        nonlocal left
        if at == place:
            left -= 1
            if left == 0:
                raise Killed

    return checkpoint


@pytest.fixture(params=["sqlite, folder", "postgres, s3"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    settings: Settings
    if request.param == "sqlite, folder":
        settings = local_settings(tmp_path, **QUICK)
    else:
        server: S3Server = request.getfixturevalue("versitygw_server")
        bucket = server.create_bucket(f"b{uuid.uuid4().hex[:12]}")
        settings = bucket_settings(server, bucket, request.getfixturevalue("postgres_uri"), **QUICK)
    async with rig_of(settings) as rig:
        yield rig


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_of(local_settings(tmp_path, **QUICK)) as rig:
        yield rig


def numbered(first: int, count: int) -> list[tuple[bytes | None, bytes | None]]:
    return [(f"k{n % 5}".encode(), f"v{n}".encode()) for n in range(first, first + count)]


async def fill(rig: Rig, topic: TopicRow, rounds: int = 3) -> None:
    for round_ in range(rounds):
        batches = {shard: [numbered(round_ * 10, 6), numbered(round_ * 10 + 6, 4)] for shard in range(topic.shards)}
        await rig.append(topic, batches, codec=round_ % 5)


async def test_every_record_is_in_the_table_once(rig: Rig) -> None:
    topic = await rig.create("events", 3)
    await fill(rig, topic)
    await drain(rig.exporter())
    assert rig.rows("events") == sorted(rig.log["events"])
    assert read_watermark(rig.table("events").properties).offsets == {0: 30, 1: 30, 2: 30}
    assert await rig.statuses(topic) == {"main": ("Running", "")}
    await fill(rig, topic, 1)
    await drain(rig.exporter())
    assert rig.rows("events") == sorted(rig.log["events"])
    assert not rig.catalog.table_exists(("topics", "events__dlq"))


async def test_small_chunks_and_two_exporters_in_turn(local: Rig) -> None:
    topic = await local.create("events", 3)
    await fill(local, topic, 6)
    first, second = local.exporter(export_chunk_bytes=500), local.exporter(export_chunk_bytes=500)
    await first.work()
    await second.work()  # the lease is the first one's
    assert len(second.mirrored) == 1
    await first.work()
    await first.close()
    second.mirrored[topic.topic].retry_at_ms = 0
    await drain(second)
    assert local.rows("events") == sorted(local.log["events"])


PLACES = ["written", "entered", "committed dlq", "marked dlq", "committed main", "marked main"]


@pytest.mark.parametrize("place", PLACES)
async def test_killed_between_two_steps(rig: Rig, place: str) -> None:
    """Rows and dead letters come out once each, wherever the exporter ends, also when it ends there again."""
    topic = await rig.create("events", 2, iceberg__columns="n long")
    good = [(None, json.dumps({"n": n}).encode()) for n in range(20)]
    bad: list[tuple[bytes | None, bytes | None]] = [(None, b"no json"), (None, b'{"n": "five"}')]
    for _ in range(3):
        await rig.append(topic, {0: [good[:5], bad], 1: [good[5:9]]})
        exporter = rig.exporter(kill_at(place), export_chunk_bytes=200)
        with pytest.raises(Killed):
            await settle(exporter)
        await rig.drop_leases()
        with contextlib.suppress(Killed):  # ends there once more where there is something left to do
            await settle(rig.exporter(kill_at(place), export_chunk_bytes=100))
        await rig.drop_leases()
    await drain(rig.exporter())
    dead = {
        row[:2] for row in rig.log["events"] if not (row[3] or b"").startswith(b'{"n": ') or b"five" in (row[3] or b"")
    }
    assert dead
    expected = sorted(row[:2] for row in rig.log["events"] if row[:2] not in dead)
    assert [row[:2] for row in rig.rows("events")] == expected
    assert [row[:2] for row in rig.rows("events__dlq")] == sorted(dead)
    assert {row[3] for row in rig.rows("events__dlq")} == {b"no json", b'{"n": "five"}'}


@pytest.mark.parametrize("place", ["written", "entered", "committed history", "marked history", "committed main"])
async def test_latest_tables_after_a_kill(local: Rig, place: str) -> None:
    topic = await local.create("state", 2, cleanup__policy="compact")
    for round_ in range(3):
        changes = [*numbered(round_ * 7, 7), (f"k{round_}".encode(), None)]
        await local.append(topic, {0: [changes], 1: [changes[:3]]})
        with pytest.raises(Killed):
            await settle(local.exporter(kill_at(place)))
        await local.drop_leases()
    await drain(local.exporter())
    assert local.rows("state") == local.latest("state")
    assert local.rows("state__history") == sorted(local.log["state"])
    assert read_watermark(local.table("state").properties).offsets == {0: 24, 1: 9}


async def test_latest_tables(rig: Rig) -> None:
    topic = await rig.create("state", 2, cleanup__policy="compact", iceberg__history="false")
    await fill(rig, topic)
    await drain(rig.exporter())
    assert rig.rows("state") == rig.latest("state")
    await rig.append(topic, {0: [[(b"k0", None), (b"nobody", None)]], 1: [[(b"k1", b"new")]]})
    await drain(rig.exporter())
    assert rig.rows("state") == rig.latest("state")
    assert not rig.catalog.table_exists(("topics", "state__history"))
    await rig.append(topic, {0: [[(f"k{n}".encode(), None) for n in range(5)]]})
    await rig.append(topic, {1: [[(f"k{n}".encode(), None) for n in range(5)]]})
    await drain(rig.exporter())
    assert rig.rows("state") == rig.latest("state") == []


async def test_latest_table_with_too_many_keys_says_so(local: Rig) -> None:
    topic = await local.create("state", 1, cleanup__policy="compact")
    await local.append(topic, {0: [[(str(n).encode(), b"x") for n in range(12)]]})
    await drain(local.exporter(latest_keys_max=10))
    status, message = (await local.statuses(topic))["main"]
    assert (status, "latest_keys_max" in message) == ("Config Issue", True)
    assert local.rows("state__history") == sorted(local.log["state"])
    await drain(local.exporter(latest_keys_max=20))
    assert local.rows("state") == local.latest("state")
    assert (await local.statuses(topic))["main"] == ("Running", "")


async def test_record_without_a_key_is_a_dead_letter_of_a_latest_table(local: Rig) -> None:
    topic = await local.create("state", 1, iceberg__kind="latest")
    await local.append(topic, {0: [[(b"a", b"1"), (None, b"2"), (b"b", b"3")]]})
    await drain(local.exporter())
    assert [row[1] for row in local.rows("state")] == [0, 2]
    assert [row[1] for row in local.rows("state__history")] == [0, 1, 2]
    assert [row[1:] for row in local.rows("state__dlq")] == [(1, None, b"2")]


async def test_broken_batch_is_one_dead_letter_and_the_export_goes_on(rig: Rig) -> None:
    topic = await rig.create("events", 1)
    await rig.append(topic, {0: [numbered(0, 3), numbered(3, 4)]}, spoil=True)
    await rig.append(topic, {0: [numbered(7, 2)]})
    await drain(rig.exporter())
    assert [row[1] for row in rig.rows("events")] == [0, 1, 2, 7, 8]
    [dead] = rig.table("events__dlq").scan().to_arrow().to_pylist()
    assert (dead["_kafka_offset"], dead["_kafka_offset_next"], dead["cause"]) == (3, 7, "broken_batch")
    assert read_watermark(rig.table("events__dlq").properties).offsets == {0: 9}


async def test_a_dead_letter_at_last_moves_the_watermark(local: Rig) -> None:
    """A range without rows gets its commit when nothing more comes."""
    topic = await local.create("events", 1, iceberg__columns="n long")
    await local.append(topic, {0: [[(None, b"bad"), (None, b"worse")]]})
    await drain(local.exporter())
    assert local.rows("events") == []
    assert read_watermark(local.table("events").properties).offsets == {0: 2}


async def test_invalid_records_pause_or_are_dropped(local: Rig) -> None:
    pausing = await local.create("pausing", 1, iceberg__columns="n long", iceberg__invalid="pause")
    dropping = await local.create("dropping", 1, iceberg__columns="n long", iceberg__invalid="drop")
    for topic in (pausing, dropping):
        await local.append(topic, {0: [[(None, b'{"n": 1}'), (None, b"bad"), (None, b'{"n": 3}')]]})
    await drain(local.exporter())
    status, message = (await local.statuses(pausing))["main"]
    assert (status, "partition 0 offset 1" in message) == ("Paused", True)
    assert local.rows("pausing") == []
    assert [row[1] for row in local.rows("dropping")] == [0, 2]
    await TopicStore(local.database).set_config(pausing.topic, {**pausing.config, "iceberg.invalid": "dlq"})
    await drain(local.exporter())
    assert [row[1] for row in local.rows("pausing")] == [0, 2]
    assert [row[1] for row in local.rows("pausing__dlq")] == [1]


async def test_settings_that_can_not_be_carried_out(local: Rig) -> None:
    without = await local.create("without", 1, iceberg__mode="json")
    schema = await local.create("schema", 1, iceberg__mode="schema")
    disabled = await local.create("disabled", 1, iceberg__mode="disabled")
    excluded = await local.create("app-changelog", 1)
    for topic in (without, schema, disabled, excluded):
        await local.append(topic, {0: [numbered(0, 2)]})
    await drain(local.exporter())
    assert (await local.statuses(without))["main"][0] == "Config Issue"
    assert "iceberg.columns" in (await local.statuses(without))["main"][1]
    assert (await local.statuses(schema))["main"][0] == "Config Issue"
    assert await local.statuses(disabled) == await local.statuses(excluded) == {}
    assert local.catalog.list_namespaces() == []
    await TopicStore(local.database).set_config(without.topic, {"iceberg.mode": "raw"})
    await drain(local.exporter())
    assert local.rows("without") == sorted(local.log["without"])
    assert (await local.statuses(without))["main"] == ("Running", "")


@pytest.mark.parametrize(
    ("start", "first"), [("earliest", 0), ("latest", 6), ("1700000000002", 2), ("1800000000000", 6)]
)
async def test_iceberg_start(local: Rig, start: str, first: int) -> None:
    topic = await local.create("events", 1, iceberg__start=start)
    await local.append(topic, {0: [numbered(0, 4)]}, timestamp=1_700_000_000_000)
    await local.append(topic, {0: [numbered(4, 2)]}, timestamp=1_700_000_000_001)
    await drain(local.exporter())
    await local.append(topic, {0: [numbered(6, 2)]}, timestamp=1_900_000_000_000)
    await drain(local.exporter())
    assert [row[1] for row in local.rows("events")] == list(range(first, 8))


async def test_history_that_is_switched_on_later_begins_at_the_start(local: Rig) -> None:
    topic = await local.create("state", 1, cleanup__policy="compact", iceberg__history="false")
    await fill(local, topic, 2)
    await drain(local.exporter())
    await TopicStore(local.database).set_config(topic.topic, {"cleanup.policy": "compact"})
    await fill(local, topic, 1)
    await drain(local.exporter())
    assert local.rows("state") == local.latest("state")
    assert local.rows("state__history") == sorted(local.log["state"])


async def test_table_dropped_by_a_user_is_not_made_again(local: Rig) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    await drain(local.exporter())
    local.catalog.drop_table(("topics", "events"))
    await fill(local, topic, 1)
    await drain(local.exporter())
    status, message = (await local.statuses(topic))["main"]
    assert (status, "dropped or renamed" in message) == ("Config Issue", True)
    assert not local.catalog.table_exists(("topics", "events"))
    # off and on again: the table is begun anew, with everything
    await TopicStore(local.database).set_config(topic.topic, {"iceberg.mode": "disabled"})
    await drain(local.exporter())
    assert await local.statuses(topic) == {}
    await TopicStore(local.database).set_config(topic.topic, {})
    await drain(local.exporter())
    assert local.rows("events") == sorted(local.log["events"])


async def test_foreign_commits_do_not_disturb(local: Rig) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    exporter = local.exporter()
    await settle(exporter)
    local.table("events").delete("_kafka_offset = 3")
    await fill(local, topic, 1)
    await drain(exporter)
    assert local.rows("events") == sorted(row for row in local.log["events"] if row[1] != 3)


async def test_recreated_topic_gets_another_table(local: Rig) -> None:
    old = await local.create("events", 1)
    await local.append(old, {0: [[(None, b"old")]]})
    exporter = local.exporter()
    await settle(exporter)
    await TopicStore(local.database).delete(old.topic)
    new = await local.create("events", 1)
    await local.append(new, {0: [[(None, b"new")]]})
    await drain(exporter)
    assert [row[3] for row in local.rows("events")] == [b"old"]
    [name] = [name for _, name in local.catalog.list_tables("topics") if name != "events"]
    assert [row[3] for row in local.rows(name)] == [b"new"]


async def test_rows_are_partitioned_by_day_and_commits_touch_few_days(local: Rig) -> None:
    topic = await local.create("events", 2)
    day_ms = 86_400_000
    for day in range(7):
        await local.append(
            topic, {0: [numbered(0, 2)], 1: [numbered(0, 1)]}, timestamp=1_700_000_000_000 + day * day_ms
        )
    await drain(local.exporter(partitions_max_per_commit=2))
    assert local.rows("events") == sorted(local.log["events"])
    for snapshot in local.table("events").snapshots():
        assert snapshot.summary is not None
        assert int(snapshot.summary.additional_properties.get("changed-partition-count", "0")) <= 2
    assert len({task.file.partition[0] for task in local.table("events").scan().plan_files()}) == 7


async def test_lag_and_idle_decide_when_rows_are_committed(local: Rig) -> None:
    topic = await local.create("events", 1)
    exporter = local.exporter(export_idle_commit_ms=60_000)
    await fill(local, topic, 1)
    await settle(exporter)
    assert local.rows("events") == []
    assert (await local.statuses(topic))["main"] == ("Pending", "")
    await TopicStore(local.database).set_config(topic.topic, {"iceberg.target.lag.ms": "1"})
    await asyncio.sleep(0.01)
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])


async def test_lost_ledger_file_is_written_again(local: Rig, tmp_path: Path) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    with pytest.raises(Killed):
        await settle(local.exporter(kill_at("entered")))
    await local.drop_leases()
    for path in (tmp_path / "objects").rglob("*.parquet"):
        path.unlink()
    await drain(local.exporter())
    assert local.rows("events") == sorted(local.log["events"])


async def test_latest_table_with_every_type_is_rewritten_as_it_was(local: Rig) -> None:
    columns = (
        "i int, l long, f float, d double, s string, b boolean, dt date, tm time, ts timestamp, tz timestamptz, "
        "u uuid, bin binary, j json, m decimal(10, 2)"
    )
    topic = await local.create("typed", 1, cleanup__policy="compact", iceberg__columns=columns)
    value = {
        "i": 1, "l": 2, "f": 0.5, "d": 0.25, "s": "x", "b": True, "dt": "2026-01-02", "tm": "03:04:05.000006",
        "ts": "2300-01-01T00:00:00", "tz": "2026-01-02T03:04:05Z", "u": "00000000-0000-0000-0000-000000000001",
        "bin": "AAE=", "j": {"a": [1]}, "m": "12.34",
    }  # fmt: skip
    await local.append(topic, {0: [[(b"a", json.dumps(value).encode())]]})
    await drain(local.exporter())
    [before] = local.table("typed").scan().to_arrow().to_pylist()
    assert before["m"] is not None
    assert before["u"] is not None
    await local.append(topic, {0: [[(b"b", json.dumps({"l": 3}).encode())]]})
    await drain(local.exporter())
    after = {row["_kafka_key"]: row for row in local.table("typed").scan().to_arrow().to_pylist()}
    assert after[b"a"] == before
    assert (after[b"b"]["l"], after[b"b"]["u"]) == (3, None)
