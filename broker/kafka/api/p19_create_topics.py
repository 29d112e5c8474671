"""CreateTopics (key 19), versions 2–7: create topics, or only check that they could be created.

Configs are checked against the table that DescribeConfigs shows. -1 partitions means `num.partitions`. A manual
assignment gives the number of partitions. A topic named twice in one request is answered once, with INVALID_REQUEST.

Deviations:
- Any replication factor from 1 on is taken, and any broker ids in an assignment: the object store keeps the copies. The
  answer says replication factor 1, as Metadata does.
- Names that differ only in dots and underscores are no conflict.
- The timeout is not looked at: the answer comes when the metadata transaction is done.
- A request that only checks answers no topic id; Kafka makes one up.
- More partitions than `partitions_max_per_topic` are POLICY_VIOLATION; Kafka's bound is 10,000 in a request.
- Messages beside error codes are in our words; those about config values are Kafka's, which tools look for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.broker_configs import broker_settings
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from catalog.database import CommitUnknown, Unreachable
from catalog.topics import TableNameTaken, TopicExists
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.names import InvalidName, check_topic_name
from schemas.settings import Settings
from schemas.topic_config import InvalidConfig, describe, validate

REPLICATION_FACTOR = 1


class _Refused(Exception):
    """One topic can't be created; what its answer says."""

    def __init__(self, error: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.error = error


def _fail(call: Call, error: int) -> Buffers:
    answers = [{"name": topic["name"], **explain(error), "configs": []} for topic in request_of(call)["topics"]]
    return response(call, {"throttle_time": 0, "topics": answers}, had_error=True)


@serve(ApiKey.CREATE_TOPICS, versions=(2, 7), fail=_fail)
def create_topics(call: Call) -> Reply:
    """One topic after the other; each has its own answer."""
    return _create(call, request_of(call))


async def _create(call: Call, request: Message) -> Buffers:
    services = call.context.services
    topics = request["topics"]
    names = Counter(topic["name"] for topic in topics)
    await services.topics.fresh([name for name in names if _is_name(name)])
    once = {topic["name"]: topic for topic in topics}
    answers = [
        await _create_one(services, topic, twice=names[name] > 1, validate_only=request["validate_only"])
        for name, topic in once.items()
    ]
    had_error = any(answer["error_code"] != ErrorCode.NONE for answer in answers)
    return response(call, {"throttle_time": 0, "topics": answers}, had_error=had_error)


async def _create_one(services: Services, topic: Message, *, twice: bool, validate_only: bool) -> dict[str, Any]:
    name: str = topic["name"]
    try:
        if twice:
            raise _Refused(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
        _check_name(services, name)
        config = _config(topic)
        shards = _shards(topic, services.settings)
        topic_id = None
        if not validate_only:
            topic_id = (await services.topics.create(name, shards, config)).topic_id
    except _Refused as refused:
        return {"name": name, **explain(refused.error, str(refused)), "configs": []}
    except TopicExists:
        return {"name": name, **explain(ErrorCode.TOPIC_ALREADY_EXISTS, _exists(name)), "configs": []}
    except TableNameTaken as taken:
        return {"name": name, **explain(ErrorCode.INVALID_CONFIG, str(taken)), "configs": []}
    except (Unreachable, CommitUnknown) as failure:
        return {"name": name, **explain(ErrorCode.REQUEST_TIMED_OUT, str(failure)), "configs": []}
    return {
        "name": name,
        "topic_id": topic_id,
        **explain(ErrorCode.NONE),
        "num_partitions": shards,
        "replication_factor": REPLICATION_FACTOR,
        "configs": _shown(config, services.settings),
    }


def _exists(name: str) -> str:
    return f"Topic '{name}' already exists."


def _is_name(name: str) -> bool:
    try:
        check_topic_name(name)
    except InvalidName:
        return False
    return True


def _check_name(services: Services, name: str) -> None:
    try:
        check_topic_name(name)
    except InvalidName as invalid:
        raise _Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Invalid topic name: {invalid}") from invalid
    if services.topics.by_name(name) is not None:
        raise _Refused(ErrorCode.TOPIC_ALREADY_EXISTS, _exists(name))


def _config(topic: Message) -> dict[str, str]:
    """The topic's own configs, checked."""
    config: dict[str, str] = {}
    for entry in topic["configs"]:
        if entry["value"] is None:
            raise _Refused(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {entry['name']}")
        config[entry["name"]] = entry["value"]
    try:
        validate(config)
    except InvalidConfig as invalid:
        raise _Refused(ErrorCode.INVALID_CONFIG, str(invalid)) from invalid
    return config


def _shards(topic: Message, settings: Settings) -> int:
    """The number of partitions asked for, in whichever way."""
    count: int = topic["num_partitions"]
    factor: int = topic["replication_factor"]
    assignments = topic["assignments"]
    if assignments:
        return _assigned(assignments, count, factor, settings.partitions_max_per_topic)
    if factor < -1 or factor == 0:
        raise _Refused(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        )
    if count == -1:
        return settings.num_partitions
    if count <= 0:
        raise _Refused(
            ErrorCode.INVALID_PARTITIONS, "Number of partitions must be larger than 0, or -1 to use the default value."
        )
    if count > settings.partitions_max_per_topic:
        raise _too_many(count, settings.partitions_max_per_topic)
    return count


def _assigned(assignments: list[Message], count: int, factor: int, most: int) -> int:
    if factor != -1 or count != -1:
        raise _Refused(
            ErrorCode.INVALID_REQUEST,
            "With a manual partition assignment, partitions and replication factor must both be -1.",
        )
    indexes = sorted(assignment["partition_index"] for assignment in assignments)
    if indexes != list(range(len(indexes))):
        raise _Refused(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "Partitions should be a consecutive 0-based integer sequence."
        )
    if not all(assignment["broker_ids"] for assignment in assignments):
        raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "A partition is assigned to no broker.")
    for assignment in assignments:
        times: Counter[int] = Counter(assignment["broker_ids"])
        twice = [broker for broker in times if times[broker] > 1]
        if twice:
            message = f"The manual partition assignment includes the broker {twice[0]} more than once."
            raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, message)
    if len(indexes) > most:
        raise _too_many(len(indexes), most)
    return len(indexes)


def _too_many(count: int, most: int) -> _Refused:
    message = f"{count} partitions are more than partitions_max_per_topic allows, {most}."
    return _Refused(ErrorCode.POLICY_VIOLATION, message)


def _shown(config: dict[str, str], settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "value": entry.value,
            "read_only": entry.read_only,
            "config_source": entry.source,
            "is_sensitive": entry.sensitive,
        }
        for entry in describe(config, broker_settings(settings))
    ]
