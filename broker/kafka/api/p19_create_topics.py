"""CreateTopics (key 19), versions 2–7: create topics, or only check that they could be created.

Configs are checked against the table that DescribeConfigs shows. -1 partitions means `num.partitions`. A manual
assignment gives the number of partitions. A topic named twice in one request is answered once, with INVALID_REQUEST.

Deviations:
- Any replication factor from 1 on is taken, and any broker ids in an assignment: the object store keeps the copies. The
  answer says replication factor 1, as Metadata does.
- The timeout is not looked at: the answer comes when the metadata transaction is done.
- More partitions than `partitions_max_per_topic` are POLICY_VIOLATION; Kafka's bound is 10,000 in a request.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from broker.kafka.answers import explain, request_of, response
from broker.kafka.assignments import InvalidAssignment, check_all
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.config_resources import layers_of, topic_objection
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from broker.services import Services
from catalog.database import CommitUnknown, Unreachable
from catalog.topics import TableNameTaken, TopicCollides, TopicExists
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
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
    await services.topics.fresh([name for name in names if topic_objection(name) is None])
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
        await _check_name(services, name)
        config = _config(topic)
        shards = _shards(topic, services.settings)
        topic_id = UUID(int=services.rng.getrandbits(128), version=4)  # of a topic that won't be, as Kafka answers
        if not validate_only:
            topic_id = (await services.topics.create(name, shards, config)).topic_id
    except _Refused as refused:
        return {"name": name, **explain(refused.error, str(refused)), "configs": []}
    except TopicCollides as collides:
        message = _collides(name, collides.existing)
        return {"name": name, **explain(ErrorCode.INVALID_TOPIC_EXCEPTION, message), "configs": []}
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
        "configs": _shown(config, services),
    }


def _exists(name: str) -> str:
    return f"Topic '{name}' already exists."


def _collides(name: str, existing: str) -> str:
    return f"Topic '{name}' collides with existing topic: {existing}"


async def _check_name(services: Services, name: str) -> None:
    objection = topic_objection(name)
    if objection is not None:
        raise _Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, objection)
    if services.topics.by_name(name) is not None:
        raise _Refused(ErrorCode.TOPIC_ALREADY_EXISTS, _exists(name))
    if "." in name or "_" in name:
        existing = await services.topics.collision(name)
        if existing is not None:
            raise _Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, _collides(name, existing))


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
        raise _Refused(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    if count > settings.partitions_max_per_topic:
        raise _too_many()
    return count


def _assigned(assignments: list[Message], count: int, factor: int, most: int) -> int:
    for given, what in ((factor, "replication factor"), (count, "numPartitions")):
        if given != -1:
            message = f"A manual partition assignment was specified, but {what} was not set to -1."
            raise _Refused(ErrorCode.INVALID_REQUEST, message)
    try:
        shards = check_all((row["partition_index"], row["broker_ids"]) for row in assignments)
    except InvalidAssignment as invalid:
        raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, str(invalid)) from invalid
    if shards > most:
        raise _too_many()
    return shards


def _too_many() -> _Refused:
    return _Refused(ErrorCode.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def _shown(config: dict[str, str], services: Services) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "value": config.get(entry.name, entry.value),
            "read_only": entry.read_only,
            "config_source": entry.source,
            "is_sensitive": entry.sensitive,
        }
        for entry in describe(config, layers_of(services))
    ]
