"""DeleteRecords in every version: what reaches the agent, and what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.database import CommitUnknown, Unreachable
from catalog.log_starts import Raised
from schemas.kafka.errors import ErrorCode
from tests.front_fakes import Client, Fakes, make, versions

VERSIONS = versions(21)


async def ask(client: Client, version: int, *wanted: tuple[str, int, int]) -> list[tuple[str, int, int, int]]:
    topics: list[dict[str, Any]] = []
    for name, index, offset in wanted:
        topics.append({"name": name, "partitions": [{"partition_index": index, "offset": offset}]})
    answer = await client.call(make(21, version, topics=topics, timeout=1000))
    return [
        (topic.name, part.partition_index, int(part.error_code), part.low_watermark)
        for topic in answer.topics
        for part in topic.partitions
    ]


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_partition_has_its_answer(fakes: Fakes, client: Client, version: int) -> None:
    first, second = fakes.topics.add("first", 2, cached=False), fakes.topics.add("second", 1)
    fakes.topics.add("keyed", 1, {"cleanup.policy": "compact"})
    fakes.records.answers = {(first.topic, 1): Raised(ErrorCode.OFFSET_OUT_OF_RANGE, -1)}
    found = await ask(
        client, version, ("first", 0, 7), ("first", 1, 99), ("second", 0, -1), ("first", 2, 0), ("keyed", 0, 0),
        ("nowhere", 0, 0), ("second", -1, 0),
    )  # fmt: skip
    assert found == [
        ("first", 0, 0, 7),
        ("first", 1, 1, -1),
        ("first", 2, 3, -1),
        ("second", 0, 0, 0),
        ("second", -1, 3, -1),
        ("keyed", 0, 44, -1),
        ("nowhere", 0, 3, -1),
    ]
    assert fakes.records.asked == [{(first.topic, 0): 7, (first.topic, 1): 99, (second.topic, 0): -1}]


async def test_a_partition_named_twice_is_treated_once(fakes: Fakes, client: Client) -> None:
    topic = fakes.topics.add("t", 1)
    assert await ask(client, 2, ("t", 0, 3), ("t", 0, 5)) == [("t", 0, 0, 5)]
    assert fakes.records.asked == [{(topic.topic, 0): 5}]


async def test_nothing_asked_is_nothing_answered(fakes: Fakes, client: Client) -> None:
    assert await ask(client, 2) == []
    assert fakes.records.asked == []


@pytest.mark.parametrize("failure", [Unreachable("gone"), CommitUnknown("who knows")])
async def test_a_database_that_fails_is_a_time_out(fakes: Fakes, client: Client, failure: Exception) -> None:
    fakes.topics.add("t", 1)
    fakes.records.fail = failure
    assert await ask(client, 2, ("t", 0, 3), ("other", 0, 3)) == [("t", 0, 7, -1), ("other", 0, 3, -1)]
