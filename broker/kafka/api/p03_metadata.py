"""Metadata (key 3), versions 0–13: brokers, topics and where their partitions are served.

Null (in version 0 empty) asks for all topics, an empty list for none. Topics are looked up by name, from version 12 also
by id; a name that isn't allowed is answered with INVALID_TOPIC_EXCEPTION, an unknown one is created where the request and
`auto.create.topics.enable` both allow it, else UNKNOWN_TOPIC_OR_PARTITION; an unknown id with UNKNOWN_TOPIC_ID.
What is named is read from the database, not from the agent's cache: clients ask when something changed. So are the brokers:
librdkafka closes its connection to a broker that an answer doesn't name, so all agents must name the same ones.
The partitions of a client whose client id names a zone (broker.kafka.zones) are led by agents of that zone, and by any
where none is alive there. Agents of other zones are named too, since they may coordinate its groups, unless
`metadata_other_zones` is off.

Deviations:
- A topic that is created on demand is answered at once with its partitions, without UNKNOWN_TOPIC_OR_PARTITION before.
- A topic with neither name nor id is answered with UNKNOWN_TOPIC_ID; Kafka fails the whole request.
- Any agent serves any partition. The leader named for each is chosen by rendezvous hashing over the agents of
  the client's zone, which spreads the load. It is the only replica named; where agents of several zones are alive, one of each
  zone is. The leader epoch is always 0.
- The agent that is asked names itself as the controller, or one that it names.
"""

from __future__ import annotations

from broker.kafka.answers import CLUSTER_OPERATIONS, TOPIC_OPERATIONS, Told, agents_told
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from broker.services import BrokerView, Services, TopicView
from catalog.topics import TableNameTaken, TopicCollides, TopicExists
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.kafka.metadata import (
    NO_OPERATIONS,
    BrokerAddress,
    MetadataRequest,
    PartitionMetadata,
    RequestedTopic,
    TopicMetadata,
    decode_metadata_request,
    encode_metadata_response,
)
from schemas.kafka.wire import ZERO_UUID
from schemas.names import InvalidName, check_topic_name

IDS_FROM = 12
INTERNAL_TOPICS = frozenset(("__consumer_offsets", "__transaction_state", "__share_group_state"))


def _fail(call: Call, error: int) -> Buffers:
    request = decode_metadata_request(call.frame, call.body_at, call.version)
    topics = [TopicMetadata(error, topic.name, topic.topic_id) for topic in request.topics or ()]
    return [encode_metadata_response(call.version, (), topics, cluster_id=None, controller_id=-1, error=error)]


@serve(ApiKey.METADATA, versions=(0, 13), fail=_fail)
def metadata(call: Call) -> Reply:
    """All topics, or the ones named."""
    return _describe(call, decode_metadata_request(call.frame, call.body_at, call.version))


async def _describe(call: Call, request: MetadataRequest) -> Buffers:
    services = call.context.services
    operations = TOPIC_OPERATIONS if request.topic_operations else NO_OPERATIONS
    if request.topics is None:
        views: list[TopicView | TopicMetadata] = list(await services.topics.all())
    else:
        if call.version < IDS_FROM and any(topic.name is None or topic.topic_id.int for topic in request.topics):
            return call.fail(ErrorCode.INVALID_REQUEST)
        views = await _named(services, request)
    told = await agents_told(call)
    leaders = call.context.leaders
    topics = []
    for view in views:
        if isinstance(view, TopicMetadata):
            call.had_error = True
            topics.append(view if view.name is None else view._replace(operations=operations))
            continue
        internal = view.name in INTERNAL_TOPICS
        topic = TopicMetadata(0, view.name, view.topic_id, internal, operations=operations)
        if told.zones:
            replicas = leaders.replicas_of(view.topic_id, view.shards, told.leading, told.zones)
            topics.append(topic._replace(partitions=_partitions(replicas)))
        else:
            topics.append(topic._replace(leaders=leaders.of(view.topic_id, view.shards, told.leading)))
    return _encode(call, request, told, topics)


def _partitions(replicas: list[tuple[int, ...]]) -> list[PartitionMetadata]:
    return [PartitionMetadata(shard, nodes[0], replicas=nodes, in_sync=nodes) for shard, nodes in enumerate(replicas)]


def _encode(call: Call, request: MetadataRequest, told: Told, topics: list[TopicMetadata]) -> Buffers:
    body = encode_metadata_response(
        call.version,
        [_address(broker) for broker in told.named],
        topics,
        cluster_id=call.context.services.cluster.cluster_id,
        controller_id=told.controller,
        cluster_operations=CLUSTER_OPERATIONS if request.cluster_operations else NO_OPERATIONS,
        throttle_ms=call.throttle_ms,
    )
    return [body]


def _address(broker: BrokerView) -> BrokerAddress:
    return BrokerAddress(broker.broker_id, broker.host, broker.port, broker.zone or None)


async def _named(services: Services, request: MetadataRequest) -> list[TopicView | TopicMetadata]:
    """The topics asked for, each once, in the order of the request; what can't be described as an error."""
    wanted = list(dict.fromkeys(request.topics or ()))
    if any(topic.topic_id.int for topic in wanted):
        wanted = [topic for topic in wanted if topic.topic_id.int]
    names = [topic.name for topic in wanted if topic.name is not None and _refusal(topic.name) is None]
    await services.topics.fresh(names, [topic.topic_id for topic in wanted if topic.topic_id.int])
    may_create = request.allow_auto_create and services.settings.auto_create_topics_enable
    return [await _one(services, topic, may_create) for topic in wanted]


async def _one(services: Services, topic: RequestedTopic, may_create: bool) -> TopicView | TopicMetadata:
    if topic.topic_id.int:
        found = services.topics.by_id(topic.topic_id)
        return found or TopicMetadata(ErrorCode.UNKNOWN_TOPIC_ID, topic.name, topic.topic_id)
    if topic.name is None:
        return TopicMetadata(ErrorCode.UNKNOWN_TOPIC_ID, None, ZERO_UUID)
    refusal = _refusal(topic.name)
    if refusal is not None:
        return TopicMetadata(refusal, topic.name)
    found = services.topics.by_name(topic.name)
    if found is None and may_create:
        found = await _create(services, topic.name)
    return found or TopicMetadata(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, topic.name)


def _refusal(name: str) -> ErrorCode | None:
    try:
        check_topic_name(name)
    except InvalidName:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return None


async def _create(services: Services, name: str) -> TopicView | None:
    """Create a topic on demand; another agent may have been quicker."""
    try:
        return await services.topics.create(name, services.settings.num_partitions, {})
    except (TopicExists, TopicCollides, TableNameTaken):
        await services.topics.fresh([name])
        return services.topics.by_name(name)
