"""Shard questions put to the catalog: one database snapshot for all shards, whoever asks.

Consumers of one shard at different offsets are asked for in rounds, because a snapshot answers one offset per shard.
Every round begins after all its questions arrived (see broker.fetch.shard_reads).
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.fetch.block_cache import StoredObject
from broker.fetch.shard_reads import Answer, Find, Question
from catalog.extents import ExtentStore, ShardQuery, ShardSnapshot, Watermarks
from catalog.sequence import ShardKey

ROWS_MAX = 1000
"""Most extents of one shard in one answer."""


def extent_finder(extents: ExtentStore) -> Find:
    """The reads' function over the catalog."""

    async def find(questions: Sequence[Question]) -> Sequence[Answer | None]:
        answers: list[Answer | None] = [None] * len(questions)
        bounds = await _bounds(extents, [q for q in questions if q.bytes_max == 0])
        left: list[tuple[int, Question]] = []
        for position, question in enumerate(questions):
            if question.bytes_max > 0:
                left.append((position, question))
            elif (known := bounds.get((question.topic, question.shard))) is not None:
                answers[position] = Answer(known.high_watermark, known.log_start, (), {})
        while left:
            left = await _round(extents, left, answers)
        return answers

    return find


async def _bounds(extents: ExtentStore, questions: Sequence[Question]) -> dict[ShardKey, Watermarks]:
    keys = [(question.topic, question.shard) for question in questions]
    return await extents.watermarks(keys) if keys else {}


async def _round(
    extents: ExtentStore, left: list[tuple[int, Question]], answers: list[Answer | None]
) -> list[tuple[int, Question]]:
    """Answer one offset of every shard that is left; returns what is left afterwards."""
    chosen: dict[ShardKey, Question] = {}
    for _, question in left:
        known = chosen.setdefault((question.topic, question.shard), question)
        if known.offset == question.offset and question.bytes_max > known.bytes_max:
            chosen[question.topic, question.shard] = question
    snapshots = await extents.find_extents([ShardQuery(*question) for question in chosen.values()], ROWS_MAX)
    found = dict(zip(chosen, snapshots, strict=True))
    later: list[tuple[int, Question]] = []
    for position, question in left:
        key = (question.topic, question.shard)
        if chosen[key].offset == question.offset:
            answers[position] = _answer(found[key])
        else:
            later.append((position, question))
    return later


def _answer(snapshot: ShardSnapshot | None) -> Answer | None:
    if snapshot is None:
        return None
    return Answer(
        snapshot.high_watermark,
        snapshot.log_start,
        [placed.extent for placed in snapshot.extents],
        {placed.extent.object_id: StoredObject(placed.object_name) for placed in snapshot.extents},
    )
