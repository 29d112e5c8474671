"""What the world, users and odd settings do to an exporter: one topic's trouble is its own, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitFailedException

from catalog.exports import ExportStore
from catalog.topics import TopicStore
from lakehouse.data_files import FileWriter
from lakehouse.duck import connect
from lakehouse.exporter import Exporter
from lakehouse.rows import RowBuilder
from tests.export_rig import Rig, drain, rig_of, settle
from tests.integration.test_exporter import QUICK, Killed, fill, kill_at, numbered
from tests.lake_fixtures import local_settings


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_of(local_settings(tmp_path, **QUICK)) as rig:
        yield rig


LOADED_S = 1.0
"""How much later than on a free machine something may be."""


async def configure(rig: Rig, topic: int, **config: str) -> None:
    """Replace a topic's settings; names with `__` for dots."""
    await TopicStore(rig.database).set_config(topic, {name.replace("__", "."): value for name, value in config.items()})


PARTITIONED = {
    "key": ("_kafka_key", "_kafka_key = 'abc'::BLOB"),
    "start": ("truncate(2, _kafka_key)", "_kafka_key = 'abc'::BLOB"),
    "moment": ("_kafka_timestamp", "_kafka_timestamp = TIMESTAMPTZ '2023-11-14 22:13:20+00'"),
    "price": ("m", "m = -12.34"),
    "cents": ("truncate(2, m)", "m = -12.34"),
    "date": ("dt, bin", "dt = DATE '1969-12-02'"),
    "clock": ("tm, bucket(3, _kafka_key)", "tm = TIME '03:04:05'"),
    "month": ("month(dt), hour(ts)", "ts = TIMESTAMP '1950-01-01'"),
}
"""topic -> (iceberg.partition.by, a filter that finds its first row)"""


async def test_tables_partitioned_by_every_type_are_read_by_filters_and_recovered(local: Rig) -> None:
    """Values of partitions pass through the ledger, the manifests and DuckDB's pruning."""
    columns = "n long, m decimal(10, 2), dt date, tm time, ts timestamp, bin binary"
    value = {"n": -7, "m": "-12.34", "dt": "1969-12-02", "tm": "03:04:05", "ts": "1950-01-01T00:00:00", "bin": "AAEC"}
    batch = [(b"abc", json.dumps(value).encode()), (None, b"{}"), (b"xyz", json.dumps(value | {"m": 8}).encode())]
    for name, (by, _) in PARTITIONED.items():
        topic = await local.create(name, 1, iceberg__partition__by=by, iceberg__columns=columns)
        await local.append(topic, {0: [batch]})
    with pytest.raises(Killed):
        await settle(local.exporter(kill_at("entered", 5)))
    await local.drop_leases()
    await drain(local.exporter())
    with connect() as duck:
        for name, (_, where) in PARTITIONED.items():
            source = f"iceberg_scan('{local.table(name).metadata_location}')"
            rows = duck.execute(f"SELECT _kafka_offset FROM {source} WHERE {where} ORDER BY 1").fetchall()
            assert rows[0] == (0,), name
            assert duck.execute(f"SELECT count(*) FROM {source}").fetchall() == [(3,)], name
            assert len(local.table(name).scan("n = -7").to_arrow()) == 2


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("u", "uuid"),
        ("bucket(4, u)", "uuid"),
        ("day(ts), day(ts)", "twice"),
        ("day(ts)", "as a column is"),
        ("_kafka_headers", "can't be taken"),
        ("nobody", "which the table has not"),
    ],
)
async def test_partitioning_that_can_not_be_is_said_and_the_others_go_on(local: Rig, by: str, words: str) -> None:
    columns = "u uuid, ts timestamp" + (", TS_day long" if words == "as a column is" else "")
    topic = await local.create("events", 1, iceberg__partition__by=by, iceberg__columns=columns)
    other = await local.create("other", 1)
    await local.append(topic, {0: [[(None, b"{}")]]})
    await fill(local, other, 1)
    await drain(local.exporter())
    status, message = (await local.statuses(topic))["main"]
    assert (status, words in message) == ("Config Issue", True), message
    assert local.rows("other") == sorted(local.log["other"])


async def test_the_longest_topic_name_has_tables(local: Rig) -> None:
    topics = [await local.create("t" * 248 + sign, 1, cleanup__policy="compact") for sign in "ab"]
    for topic in topics:
        await local.append(topic, {0: [[(b"k", topic.name[-1:].encode())]]})
    await drain(local.exporter())
    for topic in topics:
        names = await TopicStore(local.database).tables(topic.topic)
        assert local.rows(names["main"].removeprefix("topics.")) == sorted(local.log[topic.name])


async def test_columns_called_like_what_the_exporter_calls_its_own(local: Rig) -> None:
    columns = "_tombstone boolean, _kafka_tombstone boolean, offset long, row long, _row long, _partition_0 long"
    topic = await local.create("state", 1, cleanup__policy="compact", iceberg__columns=columns)
    await local.append(topic, {0: [[(b"a", b'{"_tombstone": true, "row": 5}'), (b"b", b'{"_tombstone": false}')]]})
    await drain(local.exporter())
    await local.append(topic, {0: [[(b"a", b'{"_kafka_tombstone": true, "offset": 4}'), (b"b", None)]]})
    await drain(local.exporter())
    [row] = local.table("state").scan().to_arrow().to_pylist()
    assert (row["_kafka_offset"], row["offset"], row["value__kafka_tombstone"], row["_tombstone"]) == (2, 4, True, None)


async def test_off_and_on_again_under_a_running_exporter_begins_a_dropped_table_anew(local: Rig) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    exporter = local.exporter()
    await settle(exporter)
    await configure(local, topic.topic, iceberg__mode="disabled")
    await settle(exporter)
    assert await local.statuses(topic) == {}
    local.catalog.drop_table(("topics", "events"))
    await configure(local, topic.topic)
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])


async def test_a_table_that_was_renamed_back_is_written_to_again(local: Rig) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    exporter = local.exporter(export_retry_max_ms=100)
    await settle(exporter)
    local.catalog.rename_table(("topics", "events"), ("topics", "away"))
    await fill(local, topic, 1)
    await settle(exporter)
    assert (await local.statuses(topic))["main"][0] == "Config Issue"
    local.catalog.rename_table(("topics", "away"), ("topics", "events"))
    await asyncio.sleep(0.15)
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])
    assert await local.statuses(topic) == {"main": ("Running", "")}


async def test_a_late_commit_whose_files_were_given_up_leaves_no_gap_in_the_ledger(local: Rig) -> None:
    """A holder is paused before its commit; the next one gives its latest table's files up; then the commit lands."""
    topic = await local.create("state", 1, cleanup__policy="compact", iceberg__history="false")
    await local.append(topic, {0: [[(b"a", b"0")]]})
    await drain(local.exporter())
    await local.append(topic, {0: [[(b"a", b"1")]]})
    stale, sending, go_on = local.exporter(), asyncio.Event(), asyncio.Event()
    blocking = stale.world.blocking

    async def held(function: Callable[[], Any]) -> Any:
        if function.__name__ == "send":
            sending.set()
            await go_on.wait()
        return await blocking(function)

    stale.world = replace(stale.world, blocking=held)
    working = asyncio.create_task(settle(stale))
    await sending.wait()
    await local.drop_leases()
    following = local.exporter(export_idle_commit_ms=60_000)
    await following.work()
    await local.append(topic, {0: [[(b"b", b"2")]]})
    go_on.set()
    await working
    assert local.rows("state") == [(0, 1, b"a", b"1")], "the late commit landed"
    await configure(
        local, topic.topic, cleanup__policy="compact", iceberg__history="false", iceberg__target__lag__ms="1"
    )
    await drain(following)
    assert local.rows("state") == local.latest("state")
    assert await local.statuses(topic) == {"main": ("Running", "")}
    assert await ExportStore(local.database).ends(topic.topic, "main") == {0: 3}


async def test_a_fault_of_ours_stops_one_topic_alone(local: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = [await local.create(name, 1, iceberg__columns=f"{name} long") for name in ("bad", "good")]
    for topic in topics:
        await local.append(topic, {0: [[(None, b"{}")]]})
    build = RowBuilder.build

    def failing(self: RowBuilder, chunk: Any) -> Any:
        if self.columns[0].name == "bad":
            raise AttributeError("nobody foresaw this")
        return build(self, chunk)

    monkeypatch.setattr(RowBuilder, "build", failing)
    await drain(local.exporter())
    assert (await local.statuses(topics[0]))["main"] == (
        "Degraded",
        "unexpected AttributeError: nobody foresaw this; the exporter's log has more; trying again",
    )
    assert len(local.rows("good")) == 1
    monkeypatch.undo()
    await drain(local.exporter())
    assert len(local.rows("bad")) == 1


async def test_a_catalog_that_fails_again_while_it_is_read_again(local: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conflict, and then the catalog is gone: the topic waits, the exporter lives."""
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    catalog, left = type(local.catalog), [3]
    load = catalog.load_table

    def conflict(self: Any, *args: Any) -> Any:
        raise CommitFailedException("somebody was faster")

    def gone(self: Any, identifier: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.undo()
        raise ConnectionError("the catalog is gone")

    exporter = local.exporter(export_retry_max_ms=50)
    monkeypatch.setattr(catalog, "commit_table", conflict)
    while exporter.mirrored.get(topic.topic) is None or exporter.mirrored[topic.topic].failures == 0:
        await exporter.work()
        await asyncio.sleep(0.005)
    monkeypatch.setattr(catalog, "load_table", gone)
    deadline = time.monotonic() + 10
    while catalog.load_table is not load and time.monotonic() < deadline:
        await exporter.work()
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])


async def test_a_full_disk_is_waited_for_without_filling_it(local: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    tries: list[float] = []

    def full(self: FileWriter, rows: Any) -> None:
        tries.append(time.monotonic())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileWriter, "write", full)
    exporter = local.exporter()
    await settle(exporter)
    status, message = (await local.statuses(topic))["main"]
    assert (status, "No space left" in message) == ("Degraded", True)
    for _ in range(50):
        await exporter.work()
        await asyncio.sleep(0.01)
    assert len(tries) <= 3, "it backs off"
    monkeypatch.undo()
    exporter.mirrored[topic.topic].retry_at_ms = 0
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])


async def test_a_commit_that_can_not_be_staged_is_tried_ever_more_slowly(
    local: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try would leave manifests behind."""
    from lakehouse.commit import TableCommitter

    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    tries = []

    def full(self: TableCommitter, *args: Any) -> Any:
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TableCommitter, "_staged", full)
    exporter = local.exporter()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        await exporter.work()
        await asyncio.sleep(0.005)
    assert 3 <= len(tries) <= 5, "twice at once, then after 0.5 s, 1 s, ..."
    monkeypatch.undo()
    exporter.mirrored[topic.topic].retry_at_ms = 0
    await drain(exporter)
    assert local.rows("events") == sorted(local.log["events"])


async def test_somebody_makes_a_table_where_the_dead_letters_shall_go(local: Rig) -> None:
    topic = await local.create("events", 1, iceberg__columns="n long")
    exporter = local.exporter()
    await settle(exporter)
    local.catalog.create_table(("topics", "events__dlq"), local.table("events").schema())
    await local.append(topic, {0: [[(None, b'{"n": 1}'), (None, b"bad")]]})
    await settle(exporter)
    status, message = (await local.statuses(topic))["main"]
    assert (status, "was made by someone else" in message) == ("Config Issue", True)
    local.catalog.drop_table(("topics", "events__dlq"))
    exporter.mirrored[topic.topic].retry_at_ms = 0
    await drain(exporter)
    assert [row[1] for row in local.rows("events__dlq")] == [1]
    assert [row[1] for row in local.rows("events")] == [0]


async def test_history_switched_on_later_begins_where_the_main_table_began(local: Rig) -> None:
    start = {"cleanup__policy": "compact", "iceberg__start": "latest"}
    topic = await local.create("state", 1, iceberg__history="false", **start)
    await local.append(topic, {0: [numbered(0, 3)]})
    await drain(local.exporter())
    await local.append(topic, {0: [numbered(3, 2)]})
    await drain(local.exporter())
    await configure(local, topic.topic, **start)
    await local.append(topic, {0: [numbered(5, 1)]})
    await drain(local.exporter())
    assert [row[1] for row in local.rows("state__history")] == [3, 4, 5]


async def test_a_trickle_is_in_the_table_within_its_lag(local: Rig) -> None:
    """Records keep coming, so it never rests; each is committed before it is older than iceberg.target.lag.ms."""
    topic = await local.create("events", 1, iceberg__target__lag__ms="800")
    await local.append(topic, {0: [[(None, b"first")]]})
    await drain(local.exporter())  # what is compiled at first use is compiled now
    exporter = local.exporter(export_idle_commit_ms=60_000, export_interval_ms=50)
    stop = asyncio.Event()
    running = asyncio.create_task(exporter.run(stop))
    appended: list[float] = []
    late: list[float] = []
    for number in range(40):
        await local.append(topic, {0: [[(None, str(number).encode())]]})
        appended.append(time.monotonic())
        await asyncio.sleep(0.05)
        status = [one for one in await ExportStore(local.database).statuses(topic.topic) if one.kind == "main"]
        done = status[0].offsets.get(0, 0) - 1
        late += [age for at in appended[done:] if (age := time.monotonic() - at) > 0.8 + LOADED_S]
    stop.set()
    await running
    assert late == []
    assert 2 <= len(local.table("events").snapshots()) <= 9, "it waits for more, up to the lag"


async def test_stopping_does_not_wait_for_the_other_topics(local: Rig) -> None:
    topics = [await local.create(f"t{number}", 1) for number in range(3)]
    for topic in topics:
        await fill(local, topic, 1)
    stop = asyncio.Event()
    exporter = local.exporter(lambda place: stop.set() if place == "committed main" else None)
    await asyncio.wait_for(exporter.run(stop), 20)
    assert len([one for one in await ExportStore(local.database).statuses() if one.offsets]) == 1
    held = await local.database.snapshot(lambda tx: tx.fetch("SELECT name FROM leases WHERE lease_until_ms > 0"))
    assert list(held) == []


async def test_leases_are_renewed_while_topics_come_and_go(local: Rig) -> None:
    """A topic let go of while its renewal is under way neither ends the renewing nor counts as lost later."""
    topics = [await local.create(f"t{number}", 1) for number in range(3)]
    exporter = local.exporter()
    await exporter.work()
    renew_all = exporter.leases.renew_all

    class Slow:
        """Renews, and lets one topic go meanwhile."""

        async def renew_all(self, leases: Any, lease_ms: int) -> Any:
            await configure(local, topics[0].topic, iceberg__target__lag__ms="5")
            await exporter.work()
            return await renew_all(leases, lease_ms)

        def __getattr__(self, name: str) -> Any:
            return getattr(Exporter, name)

    leases = exporter.leases
    exporter.leases = Slow()  # type: ignore[assignment]
    Slow.acquire = leases.acquire  # type: ignore[attr-defined]
    Slow.release = leases.release  # type: ignore[attr-defined]
    await exporter.renew()
    exporter.leases = leases
    assert [one.lost for one in exporter.mirrored.values()] == [False] * 3
    await local.database.transact(
        lambda tx: tx.execute("UPDATE leases SET epoch = epoch + 1 WHERE name = $1", "export/2")
    )
    await exporter.renew()
    assert [one.lost for _, one in sorted(exporter.mirrored.items())].count(True) == 1
    await fill(local, topics[2], 1)
    await exporter.work()
    await settle(exporter)
    assert local.rows("t2") == sorted(local.log["t2"])
    await exporter.close()


async def test_partitioning_changed_by_others_while_files_wait(local: Rig) -> None:
    """Files of the old partitioning are written again, and rows of both are found by filters."""
    topic = await local.create("events", 1)
    await fill(local, topic, 1)
    await drain(local.exporter())
    await fill(local, topic, 1)
    with pytest.raises(Killed):
        await settle(local.exporter(kill_at("entered")))
    await local.drop_leases()
    with local.table("events").update_spec() as change:
        change.remove_field("_kafka_timestamp_day")
        change.add_field("_kafka_partition", "identity", "part")
    await drain(local.exporter())
    await fill(local, topic, 1)
    await drain(local.exporter())
    assert local.rows("events") == sorted(local.log["events"])
    with connect() as duck:
        source = f"iceberg_scan('{local.table('events').metadata_location}')"
        where = "_kafka_partition = 0 AND _kafka_timestamp < TIMESTAMPTZ '2024-01-01 00:00:00+00'"
        assert duck.execute(f"SELECT count(*) FROM {source} WHERE {where}").fetchall() == [(30,)]


async def test_timestamps_at_the_edges_are_in_their_day(local: Rig) -> None:
    """Before 1970, none, in 2300 and out of range: found by time through the day partitions, or a dead letter."""
    topic = await local.create("events", 1)
    moments = [-86_400_001, -1_000, -1, 0, 10_413_792_000_000, 2**63 - 2]
    for moment in moments:
        await local.append(topic, {0: [[(None, b"x")]]}, timestamp=moment)
    await drain(local.exporter())
    assert [row[1] for row in local.rows("events")] == [0, 1, 2, 3, 4]
    assert [row[1] for row in local.rows("events__dlq")] == [5]
    with connect() as duck:
        source = f"iceberg_scan('{local.table('events').metadata_location}')"

        def found(where: str) -> list[int]:
            rows = duck.execute(f"SELECT _kafka_offset FROM {source} WHERE {where} ORDER BY 1").fetchall()
            return [row[0] for row in rows]

        assert found("_kafka_timestamp < TIMESTAMPTZ '1969-12-31 00:00:00+00'") == [0]
        assert found("_kafka_timestamp IS NULL") == [2]
        assert found("_kafka_timestamp >= TIMESTAMPTZ '1970-01-01 00:00:00+00'") == [3, 4]
        assert found("_kafka_timestamp > TIMESTAMPTZ '2299-12-31 00:00:00+00'") == [4]
    # DuckDB 1.5 rounds a moment inside a day before 1970 to the day after it and looks there; the table's days are right.
    for where, offsets in (("< '1969-12-31T00:00:00+00:00'", [0]), ("= '1969-12-31T23:59:59+00:00'", [1])):
        rows = local.table("events").scan(f"_kafka_timestamp {where}").to_arrow()
        assert rows["_kafka_offset"].to_pylist() == offsets
