"""Every small API in every version through kio as the client, and its error cases."""

from __future__ import annotations

import asyncio
import struct
from typing import Any
from uuid import UUID

import pytest

from broker.kafka.leaders import Leaders, leaders_of
from broker.kafka.registry import api_rows, served_apis
from schemas.topic_config import TOPIC_CONFIGS
from tests.front_fakes import Client, Fakes, batch, make, request_bytes, response_of, running, settings, versions


@pytest.fixture
async def fakes() -> Fakes:
    return Fakes(settings(num_partitions=3, partitions_max_per_topic=50), agents=3)


# -- ApiVersions


@pytest.mark.parametrize("version", versions(18))
async def test_api_versions_tells_what_is_registered(client: Client, version: int) -> None:
    response = await client.call(make(18, version, client_software_name="a-b.c", client_software_version="1.0"))
    assert response.error_code == 0
    assert [(row.api_key, row.min_version, row.max_version) for row in response.api_keys] == [
        (0, 0, 13),
        (1, 4, 18),
        (2, 1, 11),
        (3, 0, 13),
        (8, 2, 10),
        (9, 1, 10),
        (10, 0, 6),
        (11, 0, 9),
        (12, 0, 4),
        (13, 0, 5),
        (14, 0, 5),
        (15, 0, 6),
        (16, 0, 5),
        (18, 0, 4),
        (19, 2, 7),
        (20, 1, 6),
        (21, 0, 2),
        (22, 0, 5),
        (23, 2, 4),
        (29, 1, 3),
        (30, 1, 3),
        (31, 1, 3),
        (32, 1, 4),
        (33, 0, 2),
        (34, 1, 2),
        (35, 1, 5),
        (37, 0, 3),
        (38, 1, 3),
        (39, 1, 2),
        (40, 1, 2),
        (41, 1, 3),
        (42, 0, 2),
        (43, 0, 2),
        (44, 0, 1),
        (45, 0, 1),
        (46, 0, 0),
        (47, 0, 0),
        (48, 0, 1),
        (49, 0, 1),
        (50, 0, 0),
        (51, 0, 0),
        (55, 0, 2),
        (57, 0, 2),
        (60, 0, 2),
        (61, 0, 0),
        (64, 0, 0),
        (65, 0, 0),
        (66, 0, 2),
        (74, 0, 1),
        (75, 0, 0),
    ]


async def test_api_versions_too_high_is_answered_in_v0_and_the_connection_stays(client: Client) -> None:
    for version in (5, 32767, -1):
        head = struct.pack(">hhih", 18, version, 77, 3) + b"abc\0\x02x\x02y\0"
        client.writer.write(struct.pack(">i", len(head)) + head)
        received, response = response_of(make(18, 0), await client.payload())
        assert received == 77
        assert response.error_code == 35
        assert [(row.api_key, row.min_version, row.max_version) for row in response.api_keys] == [(18, 0, 4)]
    assert (await client.call(make(18, 4, client_software_name="x", client_software_version="1"))).error_code == 0


@pytest.mark.parametrize(
    ("name", "version"), [("", "1"), ("a b", "1"), ("-a", "1"), ("a", ""), ("a", "1\n"), ("ä", "1")]
)
async def test_a_bad_software_name_is_an_invalid_request(client: Client, name: str, version: str) -> None:
    response = await client.call(make(18, 3, client_software_name=name, client_software_version=version))
    assert response.error_code == 42
    assert response.api_keys == ()


def test_the_table_of_apis_comes_from_the_registry() -> None:
    rows = {row.key: row for row in api_rows()}
    assert list(rows) == list(served_apis())
    assert rows[0].name == "Produce"
    assert rows[0].versions == "3–13 (advertised from 0)"
    assert rows[18].versions == "0–4"
    assert all(row.summary.startswith(f"{row.name} (key {row.key}), versions ") for row in rows.values())
    assert all(rows[key].deviations for key in (0, 1, 2, 3, 10, 11))  # some APIs deviate in nothing
    assert all(sentence.endswith(".") for row in rows.values() for sentence in row.deviations)


# -- Metadata


@pytest.mark.parametrize("version", versions(3))
async def test_metadata_of_one_and_of_all_topics(client: Client, fakes: Fakes, version: int) -> None:
    known = fakes.topics.add("a", 4, cached=False)
    fakes.topics.add("b", 1)
    request = make(
        3,
        version,
        topics=[{"name": "a", "topic_id": None}],
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )
    response = await client.call(request)
    assert [(broker.node_id, broker.host, broker.port) for broker in response.brokers] == [
        (n + 1, "127.0.0.1", 9092 + n) for n in range(3)
    ]
    (topic,) = response.topics
    assert (topic.name, topic.error_code) == ("a", 0)
    leaders = leaders_of(known.topic_id, 4, (1, 2, 3))
    assert tuple(part.leader_id for part in topic.partitions) == leaders
    for part in topic.partitions:
        assert part.error_code == 0
        assert part.replica_nodes == part.isr_nodes == (part.leader_id,)
        if version >= 7:
            assert part.leader_epoch == 0
    if version >= 1:
        assert response.controller_id == 1
        assert response.brokers[0].rack == "a"
    if version >= 2:
        assert response.cluster_id == "fake-cluster"
    if version >= 8:
        assert topic.topic_authorized_operations == 0xDF8
    if 8 <= version <= 10:
        assert response.cluster_authorized_operations == 0x1FA0
    if version >= 10:
        assert topic.topic_id == known.topic_id
    everything = await client.call(make(3, version, topics=[] if version == 0 else None, allow_auto_topic_creation=True,
                                        include_cluster_authorized_operations=False,
                                        include_topic_authorized_operations=False))  # fmt: skip
    assert [topic.name for topic in everything.topics] == ["a", "b"]
    if version >= 8:
        assert everything.topics[0].topic_authorized_operations == -(2**31)


def metadata(version: int, *topics: tuple[str | None, UUID | None], create: bool = False) -> Any:
    return make(
        3,
        version,
        topics=[{"name": name, "topic_id": topic_id} for name, topic_id in topics],
        allow_auto_topic_creation=create,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )


async def test_metadata_creates_topics_only_where_everybody_wants_it(fakes: Fakes) -> None:
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        assert (await client.call(metadata(12, ("new", None)))).topics[0].error_code == 3
        (topic,) = (await client.call(metadata(12, ("new", None), create=True))).topics
        assert (topic.error_code, len(topic.partitions)) == (0, 3)
        for name in ("", ".", "..", "x" * 250, "a/b", "ä", "a b", "../../x"):
            (topic,) = (await client.call(metadata(12, (name, None), create=True))).topics
            assert (topic.name, topic.error_code) == (name, 17)
        assert list(fakes.topics.live) == ["new"]
        await client.close()
    refusing = Fakes(settings(auto_create_topics_enable=False))
    async with running(refusing) as (_, address):
        client = await Client.connect(address)
        assert (await client.call(metadata(4, ("new", None), create=True))).topics[0].error_code == 3
        await client.close()


async def test_metadata_by_id(client: Client, fakes: Fakes) -> None:
    known = fakes.topics.add("a", 2, cached=False)
    (topic,) = (await client.call(metadata(12, (None, known.topic_id)))).topics
    assert (topic.name, topic.error_code, len(topic.partitions)) == ("a", 0, 2)
    (topic,) = (await client.call(metadata(12, (None, UUID(int=5))))).topics
    assert (topic.error_code, topic.topic_id) == (100, UUID(int=5))
    (topic,) = (await client.call(metadata(10, (None, known.topic_id)))).topics
    assert topic.error_code == 42


async def test_metadata_with_an_empty_list_and_duplicates(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("a")
    assert (await client.call(metadata(4))).topics == ()
    assert len((await client.call(metadata(4, ("a", None), ("a", None)))).topics) == 1


def test_leaders_move_only_with_their_broker_and_spread() -> None:
    topic_id = UUID(int=77)
    before = leaders_of(topic_id, 3000, (1, 2, 3))
    after = leaders_of(topic_id, 3000, (1, 3))
    assert all(now == was for was, now in zip(before, after, strict=True) if was != 2)
    for broker in (1, 2, 3):
        assert 850 < before.count(broker) < 1150
    leaders = Leaders()
    assert leaders.of(topic_id, 5, (1, 2, 3)) == before[:5]
    assert leaders.of(topic_id, 5, (1, 3)) == after[:5]


# -- ListOffsets


@pytest.mark.parametrize("version", versions(2))
async def test_list_offsets(client: Client, fakes: Fakes, version: int) -> None:
    view = fakes.topics.add("t", 2, cached=False)
    fakes.log.append((view.topic, 1), memoryview(batch(5)), 5)

    def part(index: int, timestamp: int, epoch: int = -1) -> dict[str, int]:
        return {"partition_index": index, "current_leader_epoch": epoch, "timestamp": timestamp}

    request = make(
        2,
        version,
        replica_id=-1,
        isolation_level=0,
        timeout=1000,
        topics=[
            {"name": "t", "partitions": [part(1, -1), part(0, -2), part(2, -1)]},
            {"name": "unknown", "partitions": [part(0, -1)]},
        ],
    )
    response = await client.call(request)
    known, unknown = response.topics
    assert [(p.partition_index, p.error_code, p.offset, p.timestamp) for p in known.partitions] == [
        (1, 0, 5, -1),
        (0, 0, 0, -1),
        (2, 3, -1, -1),
    ]
    assert unknown.partitions[0].error_code == 3
    if version >= 4:
        assert [p.leader_epoch for p in known.partitions] == [0, 0, -1]
        late = await client.call(make(2, version, replica_id=-1, isolation_level=0, timeout=0,
                                      topics=[{"name": "t", "partitions": [part(1, -1, 1)]}]))  # fmt: skip
        assert late.topics[0].partitions[0].error_code == 75
    for timestamp, since in ((-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99)):
        answer = await client.call(make(2, version, replica_id=-1, isolation_level=0, timeout=0,
                                        topics=[{"name": "t", "partitions": [part(1, timestamp)]}]))  # fmt: skip
        assert answer.topics[0].partitions[0].error_code == (0 if version >= since else 35)
    assert (view.topic, 1, -7) not in fakes.reader.asked
    empty = make(2, version, replica_id=-1, isolation_level=0, timeout=0, topics=[{"name": "t", "partitions": []}])
    assert (await client.call(empty)).topics == ()


async def test_list_offsets_of_a_partition_asked_twice(client: Client, fakes: Fakes) -> None:
    fakes.topics.add("t")
    part = {"partition_index": 0, "timestamp": -1}
    request = make(2, 1, replica_id=-1, topics=[{"name": "t", "partitions": [part, part]}])
    assert [p.error_code for p in (await client.call(request)).topics[0].partitions] == [42]


# -- CreateTopics, DeleteTopics


def creatable(
    name: str, partitions: int = 1, factor: int = 1, configs: Any = (), assignments: Any = ()
) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": factor,
        "assignments": [{"partition_index": index, "broker_ids": list(ids)} for index, ids in assignments],
        "configs": [{"name": name, "value": value} for name, value in configs],
    }


async def create(client: Client, *topics: dict[str, Any], version: int = 7, check: bool = False) -> Any:
    return await client.call(make(19, version, topics=list(topics), timeout=1000, validate_only=check))


@pytest.mark.parametrize("version", versions(19))
async def test_create_topics(client: Client, fakes: Fakes, version: int) -> None:
    wanted = creatable("t", 5, 3, [("cleanup.policy", "compact")])
    (answer,) = (await create(client, wanted, version=version, check=True)).topics
    assert (answer.error_code, answer.error_message, list(fakes.topics.live)) == (0, None, [])
    (answer,) = (await create(client, wanted, version=version)).topics
    assert (answer.name, answer.error_code) == ("t", 0)
    assert (fakes.topics.live["t"].shards, fakes.topics.live["t"].compacted) == (5, True)
    if version >= 5:
        assert (answer.num_partitions, answer.replication_factor) == (5, 1)
        shown = {config.name: config for config in answer.configs}
        assert shown.keys() == TOPIC_CONFIGS.keys()
        assert (shown["cleanup.policy"].value, shown["cleanup.policy"].config_source) == ("compact", 1)
        assert shown["segment.bytes"].config_source == 5
    if version >= 7:
        assert answer.topic_id == fakes.topics.live["t"].topic_id
    (answer,) = (await create(client, wanted, version=version)).topics
    assert (answer.error_code, answer.error_message) == (36, "Topic 't' already exists.")


@pytest.mark.parametrize(
    ("topic", "error", "message"),
    [
        (creatable(""), 17, "empty"),
        (creatable(".."), 17, "'..'"),
        (creatable("a/b"), 17, "a/b"),
        (creatable("x" * 250), 17, "249"),
        (creatable("t", 0), 37, "non-positive"),
        (creatable("t", -2), 37, "non-positive"),
        (creatable("t", 51), 44, "Excessively large"),
        (creatable("t", -1, -1, (), [(0, [7, 8, 7])]), 39, "broker 7 more than once"),
        (creatable("t", 1, 0), 38, "Replication factor"),
        (creatable("t", 1, 1, [("nonsense", "1")]), 40, "Unknown topic config name: nonsense"),
        (creatable("t", 1, 1, [("retention.ms", "soon")]), 40, "retention.ms"),
        (creatable("t", 1, 1, [("retention.ms", None)]), 40, "retention.ms"),
        (creatable("t", 2, -1, (), [(0, [1])]), 42, "-1"),
        (creatable("t", -1, -1, (), [(1, [1])]), 39, "consecutive"),
        (creatable("t", -1, -1, (), [(0, [1]), (0, [1])]), 39, "multiple manual partition assignments for partition 0"),
        (creatable("t", -1, -1, (), [(0, [])]), 39, "an empty replica list"),
        (creatable("t", -1, -1, (), [(0, [1]), (1, [1, 2])]), 39, "not consistent with previous partitions"),
    ],
)
async def test_topics_that_are_refused(
    client: Client, fakes: Fakes, topic: dict[str, Any], error: int, message: str
) -> None:
    for check in (True, False):
        (answer,) = (await create(client, topic, check=check)).topics
        assert answer.error_code == error
        assert message in answer.error_message
    assert not fakes.topics.live


async def test_topics_with_defaults_assignments_and_duplicates(client: Client, fakes: Fakes) -> None:
    response = await create(
        client,
        creatable("defaults", -1, -1),
        creatable("twice"),
        creatable("assigned", -1, -1, (), [(1, [9, 8]), (0, [7, 9])]),
        creatable("twice"),
    )
    assert [answer.error_code for answer in response.topics] == [0, 42, 0]
    assert {name: view.shards for name, view in fakes.topics.live.items()} == {"defaults": 3, "assigned": 2}


@pytest.mark.parametrize("version", versions(20))
async def test_delete_topics(client: Client, fakes: Fakes, version: int) -> None:
    fakes.topics.add("a", cached=False)
    names = ["a", "unknown", "twice", "twice"]
    topics = [{"name": name, "topic_id": None} for name in names]
    response = await client.call(make(20, version, topic_names=names, topics=topics, timeout=1000))
    assert [(answer.name, answer.error_code) for answer in response.responses] == [
        ("a", 0),
        ("unknown", 3),
        ("twice", 42),
    ]
    assert not fakes.topics.live


async def test_delete_topics_by_id(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("a", cached=False)
    targets = [
        {"name": None, "topic_id": view.topic_id},
        {"name": None, "topic_id": UUID(int=3)},
        {"name": "a", "topic_id": UUID(int=4)},
        {"name": None, "topic_id": None},
    ]
    response = await client.call(make(20, 6, topics=targets, timeout=1000))
    assert [answer.error_code for answer in response.responses] == [0, 100, 42, 42]
    assert response.responses[0].name == "a"


async def test_delete_topics_by_name_and_by_id_at_once(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("a", cached=False)
    targets = [{"name": None, "topic_id": view.topic_id}, {"name": "a", "topic_id": None}]
    (answer,) = (await client.call(make(20, 6, topics=targets, timeout=1000))).responses
    assert (answer.name, answer.topic_id, answer.error_code) == ("a", view.topic_id, 42)
    assert "a" in fakes.topics.live


@pytest.mark.parametrize(("producer_id", "epoch"), [(5, -1), (-1, 5)])
async def test_init_producer_id_with_half_an_identity(client: Client, producer_id: int, epoch: int) -> None:
    values = {"transactional_id": None, "transaction_timeout": 1000}
    answer = await client.call(make(22, 3, **values, producer_id=producer_id, producer_epoch=epoch))
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (42, -1, -1)


async def test_metadata_by_id_before_its_version_names_no_broker(client: Client, fakes: Fakes) -> None:
    view = fakes.topics.add("a")
    answer = await client.call(
        make(
            3,
            11,
            topics=[{"name": "a", "topic_id": view.topic_id}],
            allow_auto_topic_creation=False,
            include_topic_authorized_operations=False,
        )
    )
    assert (answer.brokers, answer.cluster_id, answer.controller_id) == ((), None, -1)
    assert answer.topics[0].error_code == 42


# -- InitProducerId, DescribeConfigs, DescribeCluster


@pytest.mark.parametrize("version", versions(22))
async def test_init_producer_id(client: Client, version: int) -> None:
    async def ask(transactional_id: str | None) -> tuple[int, int, int]:
        answer = await client.call(
            make(
                22,
                version,
                transactional_id=transactional_id,
                transaction_timeout=1000,
                producer_id=5,
                producer_epoch=3,
            )
        )
        return answer.error_code, answer.producer_id, answer.producer_epoch

    assert await ask(None) == (0, 1000, 0)
    assert await ask(None) == (0, 1001, 0)
    assert await ask("mine") == (53, -1, -1)
    assert await ask("") == (42, -1, -1)


def describe(version: int, kind: int, name: str, keys: Any = None, **flags: bool) -> Any:
    return make(
        32, version, resources=[{"resource_type": kind, "resource_name": name, "configuration_keys": keys}], **flags
    )


@pytest.mark.parametrize("version", versions(32))
async def test_describe_configs_of_a_topic(client: Client, fakes: Fakes, version: int) -> None:
    fakes.topics.add("t", 1, {"retention.ms": "1000"}, cached=False)
    (result,) = (
        await client.call(describe(version, 2, "t", include_synonyms=True, include_documentation=True))
    ).results
    assert (result.error_code, result.resource_type, result.resource_name) == (0, 2, "t")
    shown = {config.name: config for config in result.configs}
    assert shown.keys() == TOPIC_CONFIGS.keys()
    retention = shown["retention.ms"]
    assert (retention.value, retention.config_source, retention.read_only) == ("1000", 1, False)
    assert [(s.name, s.value, s.source) for s in retention.synonyms] == [("retention.ms", "1000", 1)]
    limit = shown["max.message.bytes"]
    assert (limit.value, limit.config_source) == ("1048588", 5)
    assert [(s.name, s.source) for s in limit.synonyms] == [("message.max.bytes", 5)]
    if version >= 3:
        assert (retention.config_type, shown["cleanup.policy"].config_type) == (5, 7)
        assert "record batch" in limit.documentation
    (result,) = (await client.call(describe(version, 2, "t", ["retention.ms", "nonsense"]))).results
    assert [config.name for config in result.configs] == ["retention.ms"]
    assert result.configs[0].synonyms == ()
    if version >= 3:
        assert result.configs[0].documentation is None


@pytest.mark.parametrize("version", versions(32))
async def test_describe_configs_of_a_broker(client: Client, version: int) -> None:
    (result,) = (await client.call(describe(version, 4, "1", include_synonyms=True))).results
    shown = {config.name: config for config in result.configs}
    assert (shown["num.partitions"].value, shown["num.partitions"].config_source) == ("3", 4)
    assert (shown["message.max.bytes"].value, shown["message.max.bytes"].config_source) == ("1048588", 5)
    assert (shown["node.id"].value, shown["auto.create.topics.enable"].value) == ("1", "true")
    assert shown["num.partitions"].read_only
    assert not shown["message.max.bytes"].read_only
    assert len(shown) == 340
    (result,) = (await client.call(describe(version, 4, ""))).results
    assert (result.error_code, result.configs) == (0, ())


@pytest.mark.parametrize(
    ("kind", "name", "error", "message"),
    [
        (2, "unknown", 3, ""),
        (2, "a/b", 17, "Topic name is invalid: 'a/b' contains one or more characters"),
        (4, "2", 42, "Unexpected broker id, expected 1 or empty string, but received 2"),
        (4, "x", 42, "Broker id must be an integer, but it is: x"),
        (8, "2", 42, "Unexpected broker id, expected 1 but received 2"),
        (8, "", 42, "Broker id must not be empty"),
        (16, "", 42, "Client metrics subscription name must not be empty"),
        (32, "", 42, "Group name must not be empty"),
        (99, "", 42, None),
    ],
)
async def test_resources_without_configs(client: Client, kind: int, name: str, error: int, message: str | None) -> None:
    (result,) = (await client.call(describe(4, kind, name))).results
    assert (result.error_code, result.configs) == (error, ())
    assert result.error_message == message or (message and result.error_message.startswith(message))


async def test_broker_settings_show_through_to_topics() -> None:
    fakes = Fakes(settings(message_max_bytes=5_000_000))
    fakes.topics.add("t")
    async with running(fakes) as (_, address):
        client = await Client.connect(address)
        request = describe(4, 2, "t", ["max.message.bytes"], include_synonyms=True)
        (config,) = (await client.call(request)).results[0].configs
        assert (config.value, config.config_source) == ("5000000", 4)
        await client.close()


@pytest.mark.parametrize("version", versions(60))
async def test_describe_cluster(client: Client, version: int) -> None:
    async def ask(endpoint_type: int, operations: bool) -> Any:
        return await client.call(
            make(
                60,
                version,
                include_cluster_authorized_operations=operations,
                endpoint_type=endpoint_type,
                include_fenced_brokers=True,
            )
        )

    response = await ask(1, True)
    assert (response.error_code, response.cluster_id, response.controller_id) == (0, "fake-cluster", 1)
    assert [(broker.broker_id, broker.rack) for broker in response.brokers] == [(1, "a"), (2, "a"), (3, "a")]
    assert response.cluster_authorized_operations == 0x1FA0
    assert (await ask(1, False)).cluster_authorized_operations == -(2**31)
    if version >= 1:
        assert (await ask(2, False)).error_code == 114
        assert (await ask(3, False)).error_code == 115


# -- failures of the world


@pytest.mark.parametrize(
    "request_",
    [
        make(3, 12, topics=None, include_topic_authorized_operations=False),
        make(2, 11, replica_id=-1, isolation_level=0, timeout=0,
             topics=[{"name": "t", "partitions": [{"partition_index": 0, "timestamp": -1}]}]),
        make(19, 7, topics=[creatable("t")], timeout=1, validate_only=False),
        make(20, 6, topics=[{"name": "t", "topic_id": None}], timeout=1),
        describe(4, 2, "t"),
    ],
)  # fmt: skip
async def test_an_unforeseen_failure_is_answered_in_every_api(
    fakes: Fakes, client: Client, request_: Any, logs: list[Any]
) -> None:
    fakes.topics.fail = RuntimeError("boom")
    client.writer.write(request_bytes(request_, 1))
    payload = await client.payload()
    assert b"boom" not in payload
    response_of(request_, payload)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["request failed"]
    fakes.topics.fail = None
    await asyncio.sleep(0)
    assert (await client.call(make(18, 0))).error_code == 0
