"""Key compaction and small-object compaction on one log, in any order: records, offsets and bytes stay right."""

from __future__ import annotations

import random

import pytest

from broker.compaction.compactor import Compactor
from broker.compaction.keyed_job import KeyCompactionJob
from broker.services import InlineWorkers
from tests.keyed_world import COMPACT, HeldTurn, World, pairs, put

SMALL = {
    "compaction_settle_ms": 0,
    "compaction_extents_min": 2,
    "compaction_extent_bytes": 1_000,
    "key_compaction_chunk_bytes": 1_500,
}


@pytest.mark.parametrize("seed", range(6))
async def test_both_compactions_leave_the_latest_of_each_key(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    async with world.agent(**SMALL) as core:
        topic = await core.topics.create(
            "t", 1, COMPACT | {"message.timestamp.type": rng.choice(["CreateTime", "LogAppendTime"])}
        )
        merges = Compactor(
            world.database, world.store, core.epochs, core.services.clock, random.Random(1), core.services.settings,
            InlineWorkers(), cluster_id=core.cluster.cluster_id, broker_values=dict,
        )  # fmt: skip
        job = world.job(core)
        written: list[tuple[int, bytes, bytes]] = []
        cleaned = 0
        for _ in range(40):
            world.now_ms += 10
            kind = rng.choice(["put", "put", "put", "merge", "clean", "step"])
            if kind == "put":
                batch = [(b"k%d" % rng.randrange(9), b"%d" % rng.getrandbits(20)) for _ in range(rng.randint(1, 4))]
                first = await put(core, topic, batch, codec=rng.randrange(5))
                written += [(first + at, key, value) for at, (key, value) in enumerate(batch)]
            elif kind == "merge":
                while (await merges.compact_once()).more:
                    pass
            elif written:
                await _clean(world, job, steps=rng.randint(3, 9) if kind == "step" else 10_000)
                state = await world.state(topic)
                cleaned = state.cleaned_through if state is not None else 0
        await world.clean(core)
        latest = {key: (offset, key, value) for offset, key, value in written}
        assert cleaned <= len(written)
        assert pairs(await world.records(topic)) == sorted(latest.values())


async def _clean(world: World, job: KeyCompactionJob, *, steps: int) -> None:
    await job.run_once(HeldTurn(await world.lease(), steps_left=steps))
