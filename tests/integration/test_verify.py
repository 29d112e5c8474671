"""`neve verify` finds what was done to a table behind the exporter's back, and nothing where all is well."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from catalog.exports import ExportStatus, ExportStore
from catalog.extents import ExtentStore, ShardQuery
from catalog.iceberg.rest_app import rest_app
from catalog.iceberg.rows import open_rows
from catalog.topics import TopicRow, TopicStore
from lakehouse.verify import Report, VerifyError, verify_topic
from schemas.kafka.batch import batch_size, patch_base_offset, read_header
from tests.export_rig import Rig, drain, rig_of
from tests.integration.test_exporter import QUICK, numbered
from tests.integration.test_rest_catalog import serving
from tests.lake_fixtures import local_settings


@dataclass
class Verified:
    """A rig whose topics can be verified."""

    rig: Rig

    async def verify(self, topic: TopicRow) -> Report:
        statuses = await ExportStore(self.rig.database).statuses()
        names = {row.topic: row.name for row in await TopicStore(self.rig.database).all()}
        log = await self.log(topic)
        return await asyncio.to_thread(self.blocking, topic.name, statuses, names, log)

    async def log(self, topic: TopicRow) -> list[tuple[int, bytes]]:
        """The topic's batches as a consumer gets them, with real offsets."""
        queries = [ShardQuery(topic.topic, shard, 0) for shard in range(topic.shards)]
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
        self, topic: str, statuses: list[ExportStatus], names: dict[int, str], log: list[tuple[int, bytes]]
    ) -> Report:
        async def exports(request: Request) -> JSONResponse:
            return JSONResponse(
                [
                    {
                        "topic": names[one.topic],
                        "kind": one.kind,
                        "table": one.table_name,
                        "committed_ms": one.committed_ms,
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


async def raw(lake: Verified) -> TopicRow:
    topic = await lake.rig.create("events", 2)
    for first in (0, 10, 20):
        await lake.rig.append(topic, {0: [numbered(first, 10)], 1: [numbered(first, 4)]})
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
    assert "1 rows missing" in [one.difference for one in (await lake.verify(topic)).partitions]


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


async def test_what_can_not_be_verified_says_why(lake: Verified) -> None:
    topic = await lake.rig.create("empty", 1)
    with pytest.raises(VerifyError, match="no table with rows yet"):
        await lake.verify(topic)
