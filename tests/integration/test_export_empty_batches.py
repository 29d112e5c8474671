"""Empty batches, as `neve restore` and key compaction leave them, on their way into a table: no rows, and no dead letters."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from broker.journal.replay import Gap
from broker.journal.restore import fill
from catalog.commits import CommitStore, Committed
from catalog.epochs import EpochStore
from catalog.sequence import BatchFacts, ObjectFacts
from tests.export_rig import drain, rig_of
from tests.lake_fixtures import CLUSTER_ID, local_settings


async def test_an_exporter_passes_over_them(tmp_path: Path) -> None:
    async with rig_of(local_settings(tmp_path / "data", export_idle_commit_ms=1)) as rig:
        topic = await rig.create("t", 1, iceberg__mode="raw")
        await rig.append(topic, {0: [[(None, b"before")]]})
        epoch = (await EpochStore(rig.database).issue("rig", 60_000)).epoch
        filler = fill([Gap(topic.topic, 0, 1, 8)], {topic.topic: UUID(str(topic.topic_id))}, CLUSTER_ID, epoch, 7)
        assert filler is not None
        await rig.store.put(filler.name, filler.parts)
        [extent] = filler.extents
        batch = BatchFacts(topic.topic, 0, extent.byte_first, extent.byte_length, 7, -1, False)
        facts = ObjectFacts(epoch << 32, filler.name, filler.bytes, (batch,))
        [outcome] = await CommitStore(rig.database, epoch_age_max_ms=60_000).commit([facts])
        assert isinstance(outcome, Committed)
        await rig.append(topic, {0: [[(None, b"after")]]})
        await drain(rig.exporter())
        assert rig.rows("t") == [(0, 0, None, b"before"), (0, 8, None, b"after")]
        assert rig.table("t").properties["neve.offsets"] == '{"0":9}'
        assert not rig.catalog.table_exists(("topics", "t__dlq")) or not rig.table("t__dlq").scan().to_arrow().num_rows
