"""`neve verify` finds what was done to a table behind the exporter's back, and nothing where all is well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from broker.clock import SystemClock
from broker.compaction.keyed_job import KeyCompactionJob
from broker.compaction.keyed_open import key_compaction_job
from broker.services import InlineWorkers
from catalog.exports import ExportStatus, ExportStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.iceberg.rest_app import rest_app
from catalog.iceberg.rows import open_rows
from catalog.key_cleaning import KeyCleaningStore
from catalog.leases import LeaseStore
from catalog.topics import TopicRow, TopicStore
from lakehouse.verify import VerifyError, verify_topic
from lakehouse.verify_report import Report
from schemas.kafka.batch import batch_size, patch_base_offset, read_header
from schemas.kafka.records import Record, decode_batch
from tests.export_rig import Rig, drain, rig_of
from tests.integration.test_exporter import QUICK, numbered
from tests.integration.test_rest_catalog import serving
from tests.keyed_world import HeldTurn
from tests.lake_fixtures import CLUSTER_ID, local_settings


@dataclass
class Verified:
    """A rig whose topics can be verified."""

    rig: Rig
    starts: dict[int, int] = field(default_factory=dict)
    compacted: dict[int, int] = field(default_factory=dict)

    async def verify(self, topic: TopicRow) -> Report:
        statuses = await ExportStore(self.rig.database).statuses()
        names = {row.topic: row for row in await TopicStore(self.rig.database).all()}
        keys = [(topic.topic, shard) for shard in range(topic.shards)]
        marks = await ExtentStore(self.rig.database).watermarks(keys)
        self.starts = {shard: mark.log_start for (_, shard), mark in marks.items()}
        log = await self.log(topic)
        states = await KeyCleaningStore(self.rig.database).states(keys)
        self.compacted = {shard: state.touched_through for (_, shard), state in states.items()}
        return await asyncio.to_thread(self.blocking, topic.name, statuses, names, log)

    async def log(self, topic: TopicRow) -> list[tuple[int, bytes]]:
        """The topic's batches as a consumer gets them, with real offsets."""
        queries = [ShardQuery(topic.topic, shard, self.starts[shard]) for shard in range(topic.shards)]
        found: list[tuple[int, bytes]] = []
        for shard in await ExtentStore(self.rig.database).find_extents(queries, 10_000):
            assert shard is not None
            for placed in shard.extents:
                extent = placed.extent
                body = bytearray(await self.rig.store.get(placed.object_name, extent.byte_first, extent.byte_length))
                at, offset = 0, extent.offset_first
                while at < len(body):
                    patch_base_offset(body, at, offset)
                    offset += read_header(body, at).last_offset_delta + 1
                    at += batch_size(body, at)
                found.append((shard.shard, bytes(body)))
        return found

    def blocking(
        self, topic: str, statuses: list[ExportStatus], names: dict[int, TopicRow], log: list[tuple[int, bytes]]
    ) -> Report:
        async def exports(request: Request) -> JSONResponse:
            return JSONResponse(
                [
                    {
                        "topic": names[one.topic].name,
                        "invalid": names[one.topic].config.get("iceberg.invalid", "dlq"),
                        "kind": one.kind,
                        "table": one.table_name,
                        "committed_ms": one.committed_ms,
                        "log_starts": {str(shard): start for shard, start in self.starts.items() if start},
                        "compacted": {str(shard): through for shard, through in self.compacted.items()},
                    }
                    for one in statuses
                ]
            )

        def read_log(topic: str, first: Mapping[int, int], next_: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
            yield from log

        inner = rest_app(open_rows(self.rig.warehouse))
        with serving(Starlette(routes=[Mount("/iceberg", inner), Route("/v1/exports", exports)])) as http:
            return verify_topic(topic, http=http, read_log=read_log, settings=self.rig.settings)


@pytest.fixture
async def lake(tmp_path: Path) -> AsyncIterator[Verified]:
    async with rig_of(local_settings(tmp_path, **QUICK)) as rig:
        yield Verified(rig)


HEADERS = ((b"trace", b"\x00\xff"), (b"trace", None), (b"", b""), (b"no utf-8: \xff", b"1"), (b"7:a=31,", b"x"))
"""Twice the same key, a null, an empty one, one that Arrow's strings can't hold, one that looks like the checksum's text."""


async def raw(lake: Verified) -> TopicRow:
    topic = await lake.rig.create("events", 2)
    for first, headers in ((0, HEADERS), (10, ()), (20, HEADERS[:1])):
        await lake.rig.append(topic, {0: [numbered(first, 10)], 1: [numbered(first, 4)]}, headers=headers)
    await drain(lake.rig.exporter())
    return topic


async def test_all_is_well(lake: Verified) -> None:
    topic = await raw(lake)
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    assert [one.table_rows for one in report.partitions] == [30, 12]
    assert "exactly what the log says" in report.verdict()
    assert json.loads(json.dumps(report.as_dict()))["rows"] == 42


def without_a_row(table: Table) -> None:
    table.delete("_kafka_partition = 0 AND _kafka_offset = 7")


def twice(table: Table) -> None:
    rows = table.scan("_kafka_partition = 1 AND _kafka_offset = 2").to_arrow()
    table.append(rows)


def changed(table: Table) -> None:
    rows = table.scan("_kafka_partition = 0 AND _kafka_offset = 7").to_arrow()
    at = rows.schema.get_field_index("_kafka_value")
    other = rows.set_column(at, rows.schema.field(at), pa.array([b"something else"], rows.schema.field(at).type))
    table.overwrite(other, "_kafka_partition = 0 AND _kafka_offset = 7")


def with_other_headers(table: Table) -> None:
    rows = table.scan("_kafka_partition = 0 AND _kafka_offset = 7").to_arrow()
    at = rows.schema.get_field_index("_kafka_headers")
    fewer = pa.array([rows.column(at)[0].as_py()[1:]], rows.schema.field(at).type)
    table.overwrite(rows.set_column(at, rows.schema.field(at), fewer), "_kafka_partition = 0 AND _kafka_offset = 7")


def swapped(table: Table) -> None:
    """One row gone, another one twice: the count is right."""
    without_a_row(table)
    rows = table.scan("_kafka_partition = 0 AND _kafka_offset = 8").to_arrow()
    table.append(rows)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (without_a_row, "1 rows missing"),
        (twice, "1 rows too many"),
        (changed, "checksums differ"),
        (with_other_headers, "headers differ"),
        (swapped, "checksums differ"),
    ],
)
async def test_harm_is_found(lake: Verified, harm: Callable[[Table], None], words: str) -> None:
    topic = await raw(lake)
    harm(lake.rig.table("events"))
    report = await lake.verify(topic)
    assert not report.equal
    [found] = [one.difference for one in report.partitions if one.difference]
    assert words in found


async def test_dead_letters_and_broken_batches_count(lake: Verified) -> None:
    topic = await lake.rig.create("typed", 1, iceberg__columns="n long")
    good = (b"k", b'{"n": 1}')
    await lake.rig.append(topic, {0: [[good, (b"k", b"bad"), good], [good, good]]}, spoil=True)
    await lake.rig.append(topic, {0: [[good, (None, b"bad too")]]})
    await drain(lake.rig.exporter())
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    main, dead = report.partitions
    assert (main.table_rows, main.dead_letters, dead.table_rows) == (3, 3, 2)
    lake.rig.table("typed__dlq").delete("_kafka_offset = 3")
    [difference] = [one.difference for one in (await lake.verify(topic)).partitions if one.difference]
    assert difference == "the broken batch at offset 3 is no dead letter"
    lake.rig.table("typed__dlq").delete("_kafka_offset = 1")
    assert "offset 1 doesn't fit and is no dead letter" in [
        one.difference for one in (await lake.verify(topic)).partitions
    ]


async def test_latest_tables_equal_the_last_value_per_key(lake: Verified) -> None:
    topic = await lake.rig.create("state", 2, cleanup__policy="compact")
    for first in (0, 3, 9):
        await lake.rig.append(topic, {0: [[*numbered(first, 8), (b"k1", None)]], 1: [numbered(first, 3)]})
    await drain(lake.rig.exporter())
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    assert {one.table for one in report.partitions} == {"topics.state", "topics.state__history"}
    [gone] = [row[1] for row in lake.rig.latest("state") if row[0] == 0 and row[2] == b"k2"]
    lake.rig.table("state").delete(f"_kafka_offset = {gone} AND _kafka_partition = 0")
    assert [one.difference for one in (await lake.verify(topic)).partitions if one.difference] == ["1 rows missing"]


async def compact(rig: Rig) -> KeyCompactionJob:
    """Turns of key compaction until nothing is left to do."""
    settings = rig.settings.model_copy(update={"key_compaction_tail_ms": 0})
    job = key_compaction_job(
        rig.database, rig.store, SystemClock(), rig.rng, settings, InlineWorkers(), cluster_id=CLUSTER_ID,
        instance="rig", broker_values=dict,
    )  # fmt: skip
    lease = await LeaseStore(rig.database).acquire(job.key.lease, "rig", 60_000, resume=True)
    assert lease is not None
    assert not await job.run_once(HeldTurn(lease))
    return job


async def test_compacted_logs_are_compared_with_what_they_still_hold(lake: Verified) -> None:
    topic = await lake.rig.create("state", 2, cleanup__policy="compact", min__cleanable__dirty__ratio="0")
    for first in (0, 3, 9):
        await lake.rig.append(
            topic, {0: [[*numbered(first, 8), (b"k1", None)]], 1: [numbered(first, 3)]}, headers=HEADERS
        )
    await drain(lake.rig.exporter())
    before = await lake.verify(topic)
    job = await compact(lake.rig)
    assert job.counts.records_removed > 5
    await lake.rig.append(topic, {0: [[(b"k1", b"again"), (b"k2", None)]]})
    await compact(lake.rig)
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    assert lake.compacted == {0: 27, 1: 9}, "what isn't in the tables yet is not compacted"
    of_history = {one.partition: one.table_rows for one in before.partitions if one.table.endswith("__history")}
    assert of_history == {0: 27, 1: 9}
    left = {one.partition: one.table_rows for one in report.partitions if one.table.endswith("__history")}
    assert left == {0: 5, 1: 5}, "the rows that the log still has"
    await drain(lake.rig.exporter())
    await compact(lake.rig)
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    kept = [record.offset for _, batch in await lake.log(topic) for record in _records(batch)]
    assert len(lake.rig.log["state"]) == 38
    lake.rig.table("state__history").delete(f"_kafka_offset = {kept[0]} AND _kafka_partition = 0")
    assert [one.difference for one in (await lake.verify(topic)).partitions if one.difference] == ["1 rows missing"]


def _records(batches: bytes) -> list[Record]:
    found, at = [], 0
    while at < len(batches):
        size = batch_size(batches, at)
        found += decode_batch(batches[at : at + size])
        at += size
    return found


async def test_what_can_not_be_verified_says_why(lake: Verified) -> None:
    topic = await lake.rig.create("empty", 1)
    with pytest.raises(VerifyError, match=r"no table with rows yet; is there such a topic"):
        await lake.verify(topic)
    await drain(lake.rig.exporter())
    with pytest.raises(VerifyError, match=r"no table with rows yet; its export says: Pending; wait"):
        await lake.verify(topic)


TYPED = (
    "i int, l long, f float, d double, s string, b boolean, dt date, tm time, ts timestamp, tz timestamptz, u uuid, "
    'bin binary, j json, m decimal(10, 2), "odd.name" long as "Odd ""Name"""'
)
VALUE = {
    "i": -1, "l": 2**62, "f": 0.1, "d": -0.0, "s": "é\u0000🙂", "b": True, "dt": "0001-01-01", "tm": "03:04:05.000006",
    "ts": "2300-01-01T00:00:00.000001", "tz": "1969-12-31T23:59:59.999999Z", "u": "ffffffff-0000-0000-0000-000000000001",
    "bin": "AAE=", "j": {"a": [1, "\u20ac"]}, "m": "-12.34", "odd.name": 7,
}  # fmt: skip


def with_other(column: str, value: object) -> Callable[[Table], None]:
    """Harm: the row at offset 1 with another value in a column."""

    def harm(table: Table) -> None:
        rows = table.scan("_kafka_offset = 1").to_arrow()
        at = rows.schema.get_field_index(column)
        other = rows.set_column(at, rows.schema.field(at), pa.array([value], rows.schema.field(at).type))
        table.overwrite(other, "_kafka_offset = 1")

    return harm


async def test_every_value_of_typed_tables_is_compared(lake: Verified) -> None:
    topic = await lake.rig.create("typed", 1, iceberg__columns=TYPED)
    rows: list[tuple[bytes | None, bytes | None]] = [(b"k", json.dumps(VALUE).encode())] * 2
    rows += [(None, b"{}"), (None, None), (b"k", b'{"i": 1.5}'), (b"k", b'{"f": 1e-45, "d": 1e300, "m": 0, "j": 1.50}')]
    await lake.rig.append(topic, {0: [rows]}, timestamp=-1)
    await drain(lake.rig.exporter())
    report = await lake.verify(topic)
    assert report.equal, report.rows()
    assert [one.table_rows for one in report.partitions] == [5, 1]
    for column, value in (("l", 5), ("s", "è"), ("j", "{}"), ("u", None), ('Odd "Name"', 8)):
        with_other(column, value)(lake.rig.table("typed"))
        report = await lake.verify(topic)
        assert [one.difference[:11] for one in report.partitions] == ["the columns", ""], column
    with_other("_kafka_timestamp", 5)(lake.rig.table("typed"))
    assert (await lake.verify(topic)).partitions[0].difference.startswith("the timestamps differ")


async def test_records_are_where_they_belong(lake: Verified) -> None:
    """A record that fits and is only a dead letter, and one that doesn't fit and is nowhere, are differences."""
    topic = await lake.rig.create("typed", 1, iceberg__columns="n long")
    await lake.rig.append(topic, {0: [[(None, b'{"n": 1}'), (None, b"bad"), (None, b'{"n": 2}')]]})
    await drain(lake.rig.exporter())
    table, dead = lake.rig.table("typed"), lake.rig.table("typed__dlq")
    letter = dead.scan().to_arrow()
    dead.delete("_kafka_offset = 1")
    report = await lake.verify(topic)
    assert report.partitions[0].difference == "offset 1 doesn't fit and is no dead letter"
    await TopicStore(lake.rig.database).set_config(topic.topic, {**topic.config, "iceberg.invalid": "drop"})
    assert (await lake.verify(topic)).equal, "what doesn't fit may be dropped now"
    table.delete("_kafka_offset = 2")
    for name, value in (("_kafka_offset", 2), ("_kafka_offset_next", 3)):
        at = letter.schema.get_field_index(name)
        letter = letter.set_column(at, letter.schema.field(at), pa.array([value], pa.int64()))
    lake.rig.table("typed__dlq").append(letter)
    assert "offset 2 fits and is a dead letter" in [one.difference for one in (await lake.verify(topic)).partitions]


@pytest.mark.parametrize("name", ["state", "state__history"])
async def test_harm_is_found_in_each_table_of_a_compacted_topic(lake: Verified, name: str) -> None:
    topic = await lake.rig.create("state", 1, cleanup__policy="compact")
    await lake.rig.append(topic, {0: [[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]]})
    await drain(lake.rig.exporter())

    async def found() -> list[str]:
        return [one.difference for one in (await lake.verify(topic)).partitions if one.difference]

    assert await found() == []
    table = lake.rig.table(name)
    row = table.scan("_kafka_offset = 1").to_arrow()
    table.append(row)
    assert await found() == ["1 rows too many"]
    table.delete("_kafka_offset = 1")
    assert await found() == ["1 rows missing"]
    table.append(row)
    assert await found() == []
    with_other("_kafka_value", b"22")(table)
    assert ["checksums differ" in one for one in await found()] == [True]
