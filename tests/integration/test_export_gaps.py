"""Records that are deleted before they are exported: the export goes on behind them, and says for good what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.exports import ExportGap, ExportStore
from catalog.log_starts import LogStartStore
from catalog.topics import TopicRow
from lakehouse.watermark import read_watermark
from tests.export_rig import Rig, drain, rig_of, settle
from tests.integration.test_exporter import QUICK, Killed, kill_at, numbered
from tests.integration.test_verify import Verified
from tests.lake_fixtures import local_settings


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_of(local_settings(tmp_path, **QUICK)) as rig:
        yield rig


async def delete(rig: Rig, topic: TopicRow, offset: int, shard: int = 0) -> None:
    answers = await LogStartStore(rig.database).delete_records({(topic.topic, shard): offset})
    assert not answers[topic.topic, shard].error


async def fill(rig: Rig, topic: TopicRow, first: int, count: int = 10) -> None:
    await rig.append(topic, {shard: [numbered(first, count)] for shard in range(topic.shards)})


async def test_the_export_goes_on_behind_a_gap_and_says_so(rig: Rig) -> None:
    topic = await rig.create("events", 2)
    await fill(rig, topic, 0)
    await drain(rig.exporter())
    for first in (10, 20):
        await fill(rig, topic, first)
    await delete(rig, topic, 25)
    await drain(rig.exporter())
    kept = [row for row in rig.log["events"] if row[0] == 1 or not 10 <= row[1] < 25]
    assert rig.rows("events") == sorted(kept)
    assert read_watermark(rig.table("events").properties).offsets == {0: 30, 1: 30}
    assert await ExportStore(rig.database).gaps() == [ExportGap(topic.topic, "main", 0, 10, 25)]
    status, message = (await rig.statuses(topic))["main"]
    assert status == "Degraded"
    assert "15 records were deleted from the log before they were exported (partition 0 offsets 10 to 24)" in message
    await fill(rig, topic, 30)
    await drain(rig.exporter())
    assert len(rig.rows("events")) == len(kept) + 20
    assert (await rig.statuses(topic))["main"] == (status, message), "it isn't forgotten"


async def test_everything_is_deleted(rig: Rig) -> None:
    topic = await rig.create("events")
    await fill(rig, topic, 0)
    await drain(rig.exporter())
    await fill(rig, topic, 10)
    await delete(rig, topic, -1)
    await drain(rig.exporter())
    assert read_watermark(rig.table("events").properties).offsets == {0: 20}
    assert await ExportStore(rig.database).gaps(topic.topic) == [ExportGap(topic.topic, "main", 0, 10, 20)]


@pytest.mark.parametrize("kind", ["append", "latest"])
async def test_killed_while_it_skips(rig: Rig, kind: str) -> None:
    topic = await rig.create("events", iceberg__kind=kind)
    await fill(rig, topic, 0)
    await drain(rig.exporter())
    for first in (10, 20):
        await fill(rig, topic, first)
    await delete(rig, topic, 20)
    with pytest.raises(Killed):
        await settle(rig.exporter(kill_at("skipped")))
    await rig.drop_leases()
    await drain(rig.exporter())
    kinds = ["main"] if kind == "append" else ["history", "main"]
    assert [(gap.kind, gap.offset_first, gap.offset_next) for gap in await ExportStore(rig.database).gaps()] == [
        (one, 10, 20) for one in kinds
    ]
    assert read_watermark(rig.table("events").properties).offsets == {0: 30}
    every = rig.rows("events" if kind == "append" else "events__history")
    assert [row[1] for row in every] == [*range(10), *range(20, 30)]


async def test_what_was_deleted_before_the_table_was_begun_is_no_gap(rig: Rig) -> None:
    topic = await rig.create("events")
    for first in (0, 10):
        await fill(rig, topic, first)
    await delete(rig, topic, 15)
    await drain(rig.exporter())
    assert await ExportStore(rig.database).gaps() == []
    assert await rig.statuses(topic) == {"main": ("Running", "")}
    assert [row[1] for row in rig.rows("events")] == list(range(15, 20))


@pytest.mark.parametrize("kind", ["append", "latest"])
async def test_verify_compares_what_the_log_still_has(rig: Rig, kind: str) -> None:
    topic = await rig.create("events", 2, iceberg__kind=kind)
    for first in (0, 10, 20):
        await fill(rig, topic, first)
    await drain(rig.exporter())
    await delete(rig, topic, 13)
    report = await Verified(rig).verify(topic)
    assert report.equal, report.rows()
    main = {row.partition: row for row in report.partitions if row.table == "topics.events"}
    assert (main[0].first, main[1].first) == (13, 0)
    assert [main[0].table_rows, main[1].table_rows] == ([17, 30] if kind == "append" else [5, 5])
