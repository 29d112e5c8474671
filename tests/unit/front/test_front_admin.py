"""The APIs that administer topics and configs: through kio as the client, in every version, with what they refuse."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from schemas.config_kinds import ConfigKind
from tests.front_fakes import Client, Fakes, batch, make, running, settings, versions

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)


@pytest.fixture
async def fakes() -> Fakes:
    return Fakes(settings(partitions_max_per_topic=50, max_request_partition_size_limit=4), agents=3)


# -- CreatePartitions


def growing(name: str, count: int, assignments: list[list[int]] | None = None) -> dict[str, Any]:
    rows = None if assignments is None else [{"broker_ids": list(ids)} for ids in assignments]
    return {"name": name, "count": count, "assignments": rows}


async def grow(client: Client, *topics: dict[str, Any], version: int = 3, check: bool = False) -> list[Any]:
    answer = await client.call(make(37, version, topics=list(topics), timeout=1000, validate_only=check))
    return [(row.name, row.error_code, row.error_message) for row in answer.results]


@pytest.mark.parametrize("version", versions(37))
async def test_create_partitions(client: Client, fakes: Fakes, version: int) -> None:
    fakes.topics.add("t", 2, cached=False)
    assert await grow(client, growing("t", 4), version=version, check=True) == [("t", 0, None)]
    assert fakes.topics.live["t"].shards == 2
    assert await grow(client, growing("t", 4), growing("none", 3), version=version) == [("t", 0, None), ("none", 3, None)]  # fmt: skip
    assert fakes.topics.live["t"].shards == 4


@pytest.mark.parametrize(
    ("topic", "error", "message"),
    [
        (growing("t", 2), 37, "Topic already has 2 partition(s)."),
        (growing("t", 1), 37, "The topic t currently has 2 partition(s); 1 would not be an increase."),
        (growing("t", 4, [[1]]), 39, "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."),
        (growing("t", 3, []), 39, "Attempted to add 1 additional partition(s), but only 0 assignment(s) were specified."),
        (growing("t", 3, [[]]), 39, "The manual partition assignment includes an empty replica list."),
        (growing("t", 3, [[7, 3, 7]]), 39, "The manual partition assignment includes the broker 7 more than once."),
        (growing("t", 51), 44, "Excessively large number of partitions per request."),
    ],
)  # fmt: skip
async def test_topics_that_cannot_grow_so(
    client: Client, fakes: Fakes, topic: dict[str, Any], error: int, message: str
) -> None:
    fakes.topics.add("t", 2)
    for check in (True, False):
        assert await grow(client, topic, check=check) == [("t", error, message)]
    assert fakes.topics.live["t"].shards == 2
    assert await grow(client, growing("t", 3), growing("t", 4)) == [("t", 42, "Duplicate topic name.")]


# -- DescribeTopicPartitions


def paged(*names: str, limit: int = 100, cursor: tuple[str, int] | None = None) -> Any:
    return make(
        75,
        0,
        topics=[{"name": name} for name in names],
        response_partition_limit=limit,
        cursor=None if cursor is None else {"topic_name": cursor[0], "partition_index": cursor[1]},
    )


def told(answer: Any) -> tuple[list[tuple[str, int, list[int]]], tuple[str, int] | None]:
    topics = [(t.name, int(t.error_code), [part.partition_index for part in t.partitions]) for t in answer.topics]
    cursor = answer.next_cursor
    return topics, None if cursor is None else (cursor.topic_name, cursor.partition_index)


async def test_describe_topic_partitions_page_by_page(client: Client, fakes: Fakes) -> None:
    for name, shards in (("a", 3), ("b", 3), ("c", 1)):
        fakes.topics.add(name, shards, cached=False)
    first = told(await client.call(paged()))
    assert first == ([("a", 0, [0, 1, 2]), ("b", 0, [0])], ("b", 1))
    assert told(await client.call(paged(cursor=first[1]))) == ([("b", 0, [1, 2]), ("c", 0, [0])], None)
    assert told(await client.call(paged("c", "x", "a b", "a", "c", limit=3))) == ([("a", 0, [0, 1, 2])], ("a b", 0))
    answer = told(await client.call(paged("c", "x", "a b", "a", cursor=("a b", 0))))
    assert answer == ([("a b", 17, []), ("c", 0, [0]), ("x", 3, [])], None)
    for cursor in (("z", 0), ("a", -1)):
        assert told(await client.call(paged("a", cursor=cursor))) == ([("a", 42, [])], None)
    (topic,) = (await client.call(paged("a"))).topics
    assert (topic.topic_id, topic.topic_authorized_operations) == (fakes.topics.live["a"].topic_id, 0xDF8)
    for part in topic.partitions:
        assert (part.leader_id,) == part.replica_nodes == part.isr_nodes
        assert (part.leader_epoch, part.eligible_leader_replicas, part.offline_replicas) == (0, (), ())


# -- OffsetForLeaderEpoch, ListConfigResources


@pytest.mark.parametrize("version", versions(23))
async def test_offset_for_leader_epoch(client: Client, fakes: Fakes, version: int) -> None:
    view = fakes.topics.add("t", 2, cached=False)
    fakes.log.append((view.topic, 1), memoryview(batch(5)), 5)

    async def ask(part: int, current: int, epoch: int, topic: str = "t") -> tuple[int, int, int]:
        row = {"partition": part, "current_leader_epoch": current, "leader_epoch": epoch}
        request = make(23, version, replica_id=-1, topics=[{"topic": topic, "partitions": [row]}])
        (answer,) = (await client.call(request)).topics[0].partitions
        return int(answer.error_code), answer.leader_epoch, answer.end_offset

    assert await ask(1, -1, 0) == (0, 0, 5)
    assert await ask(0, 0, 0) == (0, 0, 0)
    assert await ask(1, -1, 1) == (0, -1, -1)
    assert await ask(1, -1, -1) == (0, -1, -1)
    assert await ask(1, -1, -2) == (0, -2, 0)
    assert await ask(1, 1, 0) == (75, -1, -1)
    assert await ask(1, -2, 0) == (74, -1, -1)
    assert await ask(2, -1, 0) == await ask(0, -1, 0, "none") == (3, -1, -1)


async def test_list_config_resources(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    fakes.configs.stored = {(GROUP, "g"): {"share.isolation.level": "read_committed"}, (METRICS, "m"): {"match": ""}, (METRICS, "gone"): {}}  # fmt: skip

    async def ask(version: int, *kinds: int) -> tuple[int, list[Any]]:
        answer = await client.call(make(74, version, resource_types=list(kinds)))
        return int(answer.error_code), [
            (getattr(row, "resource_type", METRICS), row.resource_name) for row in answer.config_resources
        ]

    brokers, loggers = [[(kind, str(n)) for n in (1, 2, 3)] for kind in (BROKER, LOGGER)]
    assert await ask(0) == await ask(1, METRICS) == (0, [(METRICS, "m")])
    assert await ask(1) == (0, [(TOPIC, "t"), *brokers, *loggers, (METRICS, "m"), (GROUP, "g")])
    assert await ask(1, GROUP, TOPIC, TOPIC) == (0, [(TOPIC, "t"), (GROUP, "g")])
    assert await ask(1, TOPIC, 3) == (35, [])


# -- changing configs


async def alter(client: Client, kind: int, name: str, *operations: tuple[str, int, str | None], check: bool = False) -> Any:  # fmt: skip
    configs = [{"name": key, "config_operation": op, "value": value} for key, op, value in operations]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    (answer,) = (await client.call(make(44, 1, resources=[resource], validate_only=check))).responses
    assert (answer.resource_type, answer.resource_name) == (kind, name)
    return int(answer.error_code), answer.error_message


async def replace(client: Client, version: int, kind: int, name: str, **configs: str | None) -> Any:
    rows = [{"name": key.replace("__", "."), "value": value} for key, value in configs.items()]
    resource = {"resource_type": kind, "resource_name": name, "configs": rows}
    (answer,) = (await client.call(make(33, version, resources=[resource], validate_only=False))).responses
    return int(answer.error_code), answer.error_message


async def test_operations_on_a_topic(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t", 1, {"segment.ms": "5"}, cached=False)
    assert await alter(client, TOPIC, "t", ("retention.ms", SET, "1000"), check=True) == (0, None)
    assert fakes.topics.live["t"].config == {"segment.ms": "5"}
    assert await alter(client, TOPIC, "t", ("retention.ms", SET, "1000"), ("segment.ms", DELETE, None)) == (0, None)
    assert fakes.topics.live["t"].config == {"retention.ms": "1000"}
    assert await alter(client, TOPIC, "t", ("cleanup.policy", APPEND, "compact")) == (0, None)
    assert fakes.topics.live["t"].config["cleanup.policy"] == "delete,compact"
    assert fakes.topics.live["t"].compacted
    assert await alter(client, TOPIC, "t", ("cleanup.policy", SUBTRACT, "delete,x")) == (0, None)
    assert fakes.topics.live["t"].config["cleanup.policy"] == "compact"


@pytest.mark.parametrize(
    ("kind", "name", "operations", "error", "message"),
    [
        (TOPIC, "t", [("retention.ms", APPEND, "1")], 40, "Can't APPEND to key retention.ms because its type is not LIST."),
        (TOPIC, "t", [("x", SET, "1")], 40, "Unknown topic config name: x"),
        (TOPIC, "t", [("a", SET, None), ("b", DELETE, None)], 42, "Null value not supported for : a"),
        (TOPIC, "t", [("a", SET, "1"), ("a", DELETE, None)], 42, "Error due to duplicate config keys"),
        (TOPIC, "t", [("retention.ms", 9, "1")], 42, "Unknown operations type 9"),
        (TOPIC, "none", [("retention.ms", SET, "1")], 3, "The topic 'none' does not exist."),
        (TOPIC, "", [("retention.ms", SET, "1")], 42, "Default topic resources are not allowed."),
        (TOPIC, "t", [("remote.storage.enable", SET, "true")], 40, "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."),
        (BROKER, "1", [("node.id", SET, "2")], 42, "Cannot update these configs dynamically: [node.id]"),
        (BROKER, "", [("listeners", SET, "x")], 42, "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"),
        (BROKER, "2", [], 42, "Unexpected broker id, expected 1, but received 2"),
        (BROKER, "", [("log.retention.ms", APPEND, "1")], 40, "Config value append is not allowed for config key: log.retention.ms"),
        (GROUP, "g", [("x", SET, "1")], 40, "Unknown group config name: x"),
        (METRICS, "m", [("x", SET, "1")], 42, "Unknown client metrics configuration: x"),
        (LOGGER, "1", [("x", SET, "INFO")], 40, "Logger x does not exist!"),
        (3, "x", [], 42, "Unknown resource type 3"),
    ],
)  # fmt: skip
async def test_changes_that_are_refused(
    client: Client, fakes: Fakes, kind: int, name: str, operations: Any, error: int, message: str
) -> None:
    fakes.topics.add("t")
    for check in (True, False):
        assert await alter(client, kind, name, *operations, check=check) == (error, message)
    assert not fakes.topics.live["t"].config
    assert not any(fakes.configs.stored.values())


async def test_a_resource_that_stands_twice_stays(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    rows = [
        {"resource_type": TOPIC, "resource_name": "t", "configs": [{"name": "segment.ms", "config_operation": SET, "value": value}]}
        for value in ("1", "2")
    ]  # fmt: skip
    answers = (await client.call(make(44, 0, resources=rows, validate_only=False))).responses
    assert [(int(row.error_code), row.error_message) for row in answers] == [(42, "Each resource must appear at most once.")] * 2  # fmt: skip
    assert not fakes.topics.live["t"].config


@pytest.mark.parametrize("version", versions(33))
async def test_alter_configs_leaves_only_what_is_given(client: Client, fakes: Fakes, version: int) -> None:
    fakes.topics.add("t", 1, {"segment.ms": "5"})
    assert await replace(client, version, TOPIC, "t", retention__ms="7") == (0, None)
    assert fakes.topics.live["t"].config == {"retention.ms": "7"}
    assert (await replace(client, version, TOPIC, "t", retention__ms="soon"))[0] == 40
    assert (await replace(client, version, TOPIC, "t", retention__ms=None))[0] == 42
    assert (await replace(client, version, LOGGER, "1", root="INFO")) == (42, "Unknown resource type 8")
    assert fakes.topics.live["t"].config == {"retention.ms": "7"}


async def test_what_is_set_for_brokers_shows_through_to_topics(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    assert await alter(client, BROKER, "", ("log.retention.ms", SET, "1000")) == (0, None)
    assert await alter(client, BROKER, "1", ("log.retention.ms", SET, "2000")) == (0, None)
    resources = [
        {"resource_type": kind, "resource_name": name, "configuration_keys": [key]}
        for kind, name, key in ((TOPIC, "t", "retention.ms"), (BROKER, "1", "log.retention.ms"), (BROKER, "", "log.retention.ms"))
    ]  # fmt: skip
    answer = await client.call(make(32, 4, resources=resources, include_synonyms=True, include_documentation=False))
    shown = [result.configs[0] for result in answer.results]
    assert [(config.value, int(config.config_source)) for config in shown] == [("2000", 2), ("2000", 2), ("1000", 3)]
    behind = [("log.retention.ms", "2000", 2), ("log.retention.ms", "1000", 3), ("log.retention.hours", "168", 5)]
    for config in shown[:2]:
        assert [(s.name, s.value, int(s.source)) for s in config.synonyms] == behind
    assert [(s.name, s.value, int(s.source)) for s in shown[2].synonyms] == [("log.retention.ms", "1000", 3)]


async def test_configs_that_nobody_knows_are_kept_and_not_told(client: Client, fakes: Fakes) -> None:
    assert await alter(client, BROKER, "1", ("a.secret", SET, "hush"), ("ssl.x", SET, "y")) == (0, None)
    assert fakes.configs.of(ConfigKind.BROKER, "1") == {"a.secret": "hush", "ssl.x": "y"}
    resource = {"resource_type": BROKER, "resource_name": "1", "configuration_keys": ["a.secret"]}
    answer = await client.call(make(32, 4, resources=[resource], include_synonyms=True, include_documentation=False))
    (config,) = answer.results[0].configs
    assert (config.value, config.is_sensitive, config.synonyms[0].value) == (None, True, None)


async def test_metrics_and_groups_are_kept(client: Client, fakes: Fakes) -> None:
    assert await alter(client, METRICS, "m", ("interval.ms", SET, "1000")) == (0, None)
    assert await alter(client, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000")) == (0, None)
    assert fakes.configs.stored == {(METRICS, "m"): {"interval.ms": "1000"}, (GROUP, "g"): {"consumer.session.timeout.ms": "50000"}}  # fmt: skip


# -- topics


async def test_topics_are_not_deleted_where_that_is_switched_off() -> None:
    fakes = Fakes(settings(delete_topic_enable=False))
    view = fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        for version in versions(20):
            target = {"name": "t", "topic_id": None}
            answer = await client.call(make(20, version, topic_names=["t"], topics=[target], timeout=1000))
            assert [int(row.error_code) for row in answer.responses] == [42 if version < 3 else 73]
        by_id = [{"name": None, "topic_id": view.topic_id}]
        answer = await client.call(make(20, 6, topics=by_id, timeout=1000))
        assert [int(row.error_code) for row in answer.responses] == [73]
        await client.close()
    assert "t" in fakes.topics.live


async def test_names_alike_collide(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("like.this", cached=False)
    topic = {"name": "like_this", "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    for check in (True, False):
        (answer,) = (await client.call(make(19, 7, topics=[topic], timeout=1000, validate_only=check))).topics
        said = "Topic 'like_this' collides with existing topic: like.this"
        assert (int(answer.error_code), answer.error_message) == (17, said)
    assert list(fakes.topics.live) == ["like.this"]


async def test_a_check_answers_an_id_of_its_own(client: Client, fakes: Fakes) -> None:
    topic = {"name": "t", "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    ids = [
        (await client.call(make(19, 7, topics=[topic], timeout=1000, validate_only=True))).topics[0].topic_id
        for _ in range(2)
    ]
    assert all(isinstance(one, UUID) for one in ids)
    assert ids[0] != ids[1]
    assert not fakes.topics.live
