"""Fetch (key 1), versions 4–18: whole record batches from an offset on, with a long poll.

The batch that holds the offset is returned whole, also where it begins before it; the first partition with data returns
a batch whatever the limits say; nothing is returned beyond the high watermark. An error in one partition ends the wait;
an unknown topic or partition beside others does not. More than `max_bytes` is not waited for.
Topics are named up to version 12 and identified by id from 13 (unknown: UNKNOWN_TOPIC_ID).

Deviations:
- Fetch sessions are declined: a full request is answered with session id 0, which clients take as "no session"; an
  incremental one with FETCH_SESSION_ID_NOT_FOUND. Forgotten topics mean nothing without a session.
- A request of a replica (replica id 0 or above) is refused with CLUSTER_AUTHORIZATION_FAILED on every partition.
- The leader epoch is always 0: a request that knows a later one gets UNKNOWN_LEADER_EPOCH; diverging epochs don't exist.
- The isolation level makes no difference: there are no transactions, so the aborted list is empty.
- A consumer in the rack of another zone is sent to the agent of that zone (as with Kafka's rack-aware replica selector),
  where one is alive and `metadata_other_zones` is on.
- Only whole batches are returned; Kafka fills the limits up with a part of the next one, which clients drop.
- A partition that stands twice in a request is answered twice; Kafka answers the last of them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.kafka.answers import know
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from broker.services import FetchedPart, FetchPart, TopicView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode
from schemas.kafka.fetch import TOPIC_IDS_FROM, FetchPartition, FetchRequest, FetchTopic, decode_fetch_request
from schemas.kafka.fetch_response import FetchedPartition, FetchedTopic, encode_fetch_response

LEADER_EPOCH = 0
READ_COMMITTED = 1
UNKNOWN = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)
Refused = dict[int, ErrorCode]
"""Place of a partition in the request -> why it isn't read."""


def _fail(call: Call, error: int) -> Buffers:
    request = decode_fetch_request(call.frame, call.body_at, call.version)
    topics = [
        FetchedTopic(
            topic.name, topic.topic_id, [FetchedPartition(part.partition, error, -1) for part in topic.partitions]
        )
        for topic in request.topics
    ]
    return encode_fetch_response(call.version, topics)[0]


@serve(ApiKey.FETCH, versions=(4, 18), fail=_fail, interruptible=True)
def fetch(call: Call) -> Reply:
    """From memory at once where that is possible, else waiting."""
    request = decode_fetch_request(call.frame, call.body_at, call.version)
    if request.replica_id >= 0:
        return call.fail(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if request.session_epoch > 0:
        call.had_error = True
        return encode_fetch_response(call.version, (), error=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)[0]
    views = _views(call, request.topics)
    if any(view is None or _highest(topic) >= view.shards for topic, view in zip(request.topics, views, strict=True)):
        return _fetch_unknown(call, request)
    parts, refused = _resolve(request.topics, views, call.version)
    if nearer := _agents_of_rack(call, request.rack_id):
        return _send_elsewhere(call, request, views, refused, nearer)
    fetched: Sequence[FetchedPart] | None = ()
    if parts:
        fetched = _now(call, request, parts, refused)
    if fetched is None:
        return _fetch_waiting(call, request, parts, refused)
    return _encode(call, request, refused, fetched)


def _views(call: Call, topics: Sequence[FetchTopic]) -> list[TopicView | None]:
    known = call.context.services.topics
    if call.version >= TOPIC_IDS_FROM:
        return [known.by_id(topic.topic_id) if topic.topic_id is not None else None for topic in topics]
    return [known.by_name(topic.name) for topic in topics]


def _agents_of_rack(call: Call, rack: str) -> tuple[int, ...]:
    """The broker ids of the agents that are nearer to a consumer than this one, as known here."""
    services = call.context.services
    if not rack or rack == services.cluster.self_view.zone or not services.settings.metadata_other_zones:
        return ()
    return tuple(broker.broker_id for broker in services.cluster.brokers() if broker.zone == rack)


def _send_elsewhere(
    call: Call, request: FetchRequest, views: Sequence[TopicView | None], refused: Refused, nearer: tuple[int, ...]
) -> Buffers:
    """Nothing read, and for each partition the agent to read it from."""
    place = 0
    topics = []
    for topic, view in zip(request.topics, views, strict=True):
        leaders = () if view is None else call.context.leaders.of(view.topic_id, view.shards, nearer)
        rows = []
        for part in topic.partitions:
            error = refused.get(place, ErrorCode.NONE)
            place += 1
            call.had_error |= bool(error)
            replica = -1 if error else leaders[part.partition]
            rows.append(FetchedPartition(part.partition, error, -1, preferred_read_replica=replica))
        topics.append(FetchedTopic(topic.name, topic.topic_id, rows))
    return encode_fetch_response(call.version, topics, throttle_ms=call.throttle_ms)[0]


def _highest(topic: FetchTopic) -> int:
    """The highest partition of a topic in the request; -1 without any."""
    return max([part.partition for part in topic.partitions], default=-1)


def _resolve(
    topics: Sequence[FetchTopic], views: Sequence[TopicView | None], version: int
) -> tuple[list[FetchPart], Refused]:
    """What to read, and which places of the request are refused."""
    parts: list[FetchPart] = []
    refused: Refused = {}
    unknown = ErrorCode.UNKNOWN_TOPIC_ID if version >= TOPIC_IDS_FROM else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    place = 0
    for topic, view in zip(topics, views, strict=True):
        for part in topic.partitions:
            error = unknown if view is None else _refusal(view, part)
            if error is not None:
                refused[place] = error
            elif view is not None:
                parts.append(FetchPart(view.topic, part.partition, part.offset, part.max_bytes))
            place += 1
    return parts, refused


def _refusal(view: TopicView, part: FetchPartition) -> ErrorCode | None:
    if not 0 <= part.partition < view.shards:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if part.leader_epoch > LEADER_EPOCH:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    if part.last_fetched_epoch > LEADER_EPOCH:
        return ErrorCode.OFFSET_OUT_OF_RANGE
    return None


def _limits(call: Call, request: FetchRequest, refused: Refused) -> tuple[int, int, int]:
    """(max_wait_ms, min_bytes, max_bytes): a refused partition ends the wait, unless it is unknown (as in Kafka)."""
    max_bytes = min(request.max_bytes, call.context.services.settings.fetch_max_bytes)
    if call.charge is not None:
        max_bytes = call.charge.fetch_bytes_max(max_bytes)
    if any(error not in UNKNOWN for error in refused.values()):
        return 0, 0, max_bytes
    return max(request.max_wait_ms, 0), max(min(request.min_bytes, max_bytes), 0), max_bytes


def _now(call: Call, request: FetchRequest, parts: list[FetchPart], refused: Refused) -> list[FetchedPart] | None:
    _, min_bytes, max_bytes = _limits(call, request, refused)
    return call.context.services.reader.fetch_now(parts, min_bytes, max_bytes)


async def _fetch_unknown(call: Call, request: FetchRequest) -> Buffers:
    """Look up topics and partitions the agent doesn't know yet, then fetch."""
    await know(
        call.context.services.topics,
        [topic.name for topic in request.topics if topic.topic_id is None],
        [topic.topic_id for topic in request.topics if topic.topic_id is not None],
        shards={topic.name if topic.topic_id is None else topic.topic_id: _highest(topic) for topic in request.topics},
    )
    views = _views(call, request.topics)
    parts, refused = _resolve(request.topics, views, call.version)
    if nearer := _agents_of_rack(call, request.rack_id):
        return _send_elsewhere(call, request, views, refused, nearer)
    return await _fetch_waiting(call, request, parts, refused)


async def _fetch_waiting(call: Call, request: FetchRequest, parts: list[FetchPart], refused: Refused) -> Buffers:
    fetched: Sequence[FetchedPart] = ()
    if parts:
        max_wait_ms, min_bytes, max_bytes = _limits(call, request, refused)
        fetched = await call.context.services.reader.fetch(
            parts, max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes
        )
    return _encode(call, request, refused, fetched)


def _encode(call: Call, request: FetchRequest, refused: Refused, fetched: Sequence[FetchedPart]) -> Buffers:
    """The response, in the order of the request; empty where the client is above its quota."""
    if call.charge is not None and not call.charge.fetched(sum(answer.bytes for answer in fetched)):
        return encode_fetch_response(call.version, (), throttle_ms=call.throttle_ms)[0]
    statistics = call.context.statistics
    aborted: Sequence[tuple[int, int]] | None = () if request.isolation_level == READ_COMMITTED else None
    answers = iter(fetched)
    place = 0
    topics = []
    for topic in request.topics:
        rows = []
        for part in topic.partitions:
            error = refused.get(place)
            place += 1
            if error is not None:
                call.had_error = True
                rows.append(FetchedPartition(part.partition, error, -1, aborted=() if error in UNKNOWN else aborted))
                continue
            answer = next(answers)
            if answer.error:
                call.had_error = True
            statistics.fetched_bytes += answer.bytes
            statistics.fetched_records += answer.record_count
            rows.append(
                FetchedPartition(
                    part.partition,
                    answer.error,
                    answer.high_watermark,
                    answer.last_stable_offset,
                    answer.log_start,
                    answer.records,
                    answer.bytes,
                    aborted,
                )
            )
        topics.append(FetchedTopic(topic.name, topic.topic_id, rows))
    return encode_fetch_response(call.version, topics)[0]
