"""Topic administration through the Kafka protocol, for the command line."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from neve.kafka_client import KafkaClient, KafkaClientError, describe_error

ADMIN_TIMEOUT = timedelta(seconds=30)
DYNAMIC_TOPIC_CONFIG = 1
TOPIC = 2
SET, DELETE = 0, 1


def _check(what: str, code: int, message: str | None = None) -> None:
    if code:
        raise KafkaClientError(f"{what}: {message or describe_error(code)}")


async def create_topic(client: KafkaClient, name: str, partitions: int, config: dict[str, str]) -> int:
    """Create a topic; returns its number of partitions."""
    from kio.schema.create_topics.v7.request import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest

    settings: tuple[Any, ...] = tuple(CreatableTopicConfig(name=key, value=value) for key, value in config.items())
    topic: Any = CreatableTopic(
        name=name,  # type: ignore[arg-type]
        num_partitions=partitions,  # type: ignore[arg-type]
        replication_factor=-1,  # type: ignore[arg-type]
        assignments=(),
        configs=settings,
    )
    request = CreateTopicsRequest(topics=(topic,), timeout=ADMIN_TIMEOUT, validate_only=False)  # type: ignore[arg-type]
    answer = (await client.call(request)).topics[0]
    _check(f"topic {name!r}", answer.error_code, answer.error_message)
    return int(answer.num_partitions)


async def list_topics(client: KafkaClient) -> list[dict[str, Any]]:
    """Every topic with partitions and id, by name."""
    answer = await client.metadata(None)
    rows = [{"name": str(t.name), "partitions": len(t.partitions), "topic_id": str(t.topic_id)} for t in answer.topics]
    return sorted(rows, key=lambda row: str(row["name"]))


async def describe_topic(client: KafkaClient, name: str) -> dict[str, Any]:
    """Partitions with offsets, and the settings that were set on the topic."""
    answer = (await client.metadata([name])).topics[0]
    _check(f"topic {name!r}", answer.error_code)
    leaders = {int(p.partition_index): int(p.leader_id) for p in answer.partitions}
    partitions = sorted(leaders)
    first = await client.offsets(name, partitions, -2)
    after = await client.offsets(name, partitions, -1)
    return {
        "name": name,
        "topic_id": str(answer.topic_id),
        "partitions": [
            {"partition": p, "log_start": first[p], "high_watermark": after[p], "leader": leaders[p]}
            for p in partitions
        ],
        "config": await topic_config(client, name),
    }


async def topic_config(client: KafkaClient, name: str) -> dict[str, str]:
    """Settings that were set on the topic itself."""
    from kio.schema.describe_configs.v4.request import DescribeConfigsRequest, DescribeConfigsResource

    resource: Any = DescribeConfigsResource(resource_type=2, resource_name=name, configuration_keys=None)  # type: ignore[arg-type]
    request = DescribeConfigsRequest(resources=(resource,), include_synonyms=False, include_documentation=False)
    answer = (await client.call(request)).results[0]
    _check(f"topic {name!r}", answer.error_code, answer.error_message)
    return {c.name: c.value for c in answer.configs if int(c.config_source) == DYNAMIC_TOPIC_CONFIG}


async def delete_topic(client: KafkaClient, name: str) -> None:
    """Delete a topic by name."""
    from kio.schema.delete_topics.v6.request import DeleteTopicsRequest, DeleteTopicState
    from kio.schema.types import TopicName

    state = DeleteTopicState(name=TopicName(name), topic_id=None)
    request = DeleteTopicsRequest(topics=(state,), timeout=ADMIN_TIMEOUT)  # type: ignore[arg-type]
    answer = (await client.call(request)).responses[0]
    _check(f"topic {name!r}", answer.error_code, answer.error_message)


async def alter_topic(client: KafkaClient, name: str, partitions: int | None, config: dict[str, str | None]) -> None:
    """Set settings (None puts one back to its default), then give the topic `partitions` partitions in all."""
    if config:
        await _alter_config(client, name, config)
    if partitions is not None:
        await _grow(client, name, partitions)


async def _alter_config(client: KafkaClient, name: str, config: dict[str, str | None]) -> None:
    from kio.schema.incremental_alter_configs.v1.request import (
        AlterableConfig,
        AlterConfigsResource,
        IncrementalAlterConfigsRequest,
    )

    operations: tuple[Any, ...] = tuple(
        AlterableConfig(name=key, config_operation=DELETE if value is None else SET, value=value)  # type: ignore[arg-type]
        for key, value in config.items()
    )
    resource: Any = AlterConfigsResource(resource_type=TOPIC, resource_name=name, configs=operations)  # type: ignore[arg-type]
    request = IncrementalAlterConfigsRequest(resources=(resource,), validate_only=False)
    answer = (await client.call(request)).responses[0]
    _check(f"topic {name!r}", answer.error_code, answer.error_message)


async def _grow(client: KafkaClient, name: str, partitions: int) -> None:
    from kio.schema.create_partitions.v3.request import CreatePartitionsRequest, CreatePartitionsTopic

    topic: Any = CreatePartitionsTopic(name=name, count=partitions, assignments=None)  # type: ignore[arg-type]
    request = CreatePartitionsRequest(topics=(topic,), timeout=ADMIN_TIMEOUT, validate_only=False)  # type: ignore[arg-type]
    answer = (await client.call(request)).results[0]
    _check(f"topic {name!r}", answer.error_code, answer.error_message)
