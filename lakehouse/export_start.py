"""Where a table that is made now begins: what `iceberg.start` says, as offsets."""

from __future__ import annotations

from lakehouse.decode import decode_runs
from lakehouse.export_plan import TopicPlan
from lakehouse.export_world import ExportWorld


async def start_offsets(world: ExportWorld, plan: TopicPlan) -> dict[int, int]:
    """Partition -> first offset wanted; absent is 0. Raises DatabaseError, ObjectStoreError, CorruptRun."""
    keys = [(plan.topic, shard) for shard in range(plan.shards)]
    marks = await world.extents.watermarks(keys)
    if plan.start == "earliest":  # what was deleted before the table is begun is nobody's gap
        return {key[1]: mark.log_start for key, mark in sorted(marks.items()) if mark.log_start}
    highs = {key[1]: mark.high_watermark for key, mark in marks.items()}
    if isinstance(plan.start, str):
        return highs
    return {shard: await _first_from(world, plan, shard, plan.start, high) for shard, high in sorted(highs.items())}


async def _first_from(world: ExportWorld, plan: TopicPlan, shard: int, timestamp_ms: int, high: int) -> int:
    """The first record of a partition whose timestamp is at least this; its high watermark where there is none."""
    placed = await world.extents.first_from_time(plan.topic, shard, timestamp_ms)
    if placed is None:
        return high
    log = await world.log.read([placed])
    for decoded in decode_runs(log.runs[shard]):
        found = decoded.offsets[decoded.timestamps_ms >= timestamp_ms]
        if len(found):
            return int(found[0])
    return placed.extent.offset_next
