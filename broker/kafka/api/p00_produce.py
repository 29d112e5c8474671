"""Produce (key 0), versions 3–13: take record batches over into the next segment, answer when they are committed.

Errors are per partition, with base offset -1. acks=0, 1 and all are stored alike; with acks=0 nothing is sent, and an
error closes the connection. Exactly one batch per partition is taken; records are looked at only for topics that are
compacted, where a null key is refused (INVALID_RECORD), in a bounded worker. From version 13 topics are identified by id.

Deviations:
- Versions 0–2 are advertised and not served: librdkafka compresses only where it sees version 0 advertised.
- Null records are answered with INVALID_RECORD; Kafka gives no answer at all.
- Only on compacted topics are records read. Elsewhere a batch with a right checksum around damaged records is stored
  (Kafka refuses it), the timestamps held against the topic's window are the first and the largest of the header (Kafka's
  are the records'), and a batch refused for its timestamps names none of its records.
- Batches stay as they are, so what Kafka would mend is refused: bytes behind the batch and the delete-horizon bit
  (INVALID_RECORD), the LogAppendTime bit on a topic with CreateTime (INVALID_TIMESTAMP). A length near 2 GiB, an unknown
  compression type and records that can't be decompressed are INVALID_RECORD; Kafka says UNKNOWN_SERVER_ERROR.
- A batch that is refused before it is written says why in its message, in our words; Kafka leaves most without one. It is
  answered without the log start offset (-1).
- The repeat of an idempotent batch is answered with log append time -1 on a topic with CreateTime; Kafka tells the
  batch's largest timestamp, which clients would show for each of its records.
- A partition that stands twice in a request is appended and answered twice; Kafka keeps the last of them alone.
- A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED on every partition: no transactions yet.
- The timeout is not looked at: the agent's own `commit_deadline_ms` holds, and ends in REQUEST_TIMED_OUT.
- With acks=0 the batches are as durable as with acks=all; only the answer is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from broker.kafka.answers import know
from broker.kafka.call import NOTHING, PENDING, Buffers, Call, Reply
from broker.kafka.null_keys import Objection, look_for_null_keys
from broker.kafka.registry import serve
from broker.services import Append, TopicView
from catalog.sequence import BatchOutcome
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.batch import TRANSACTIONAL_BIT, BatchHeader
from schemas.kafka.check_batch import RefusedBatch, check_batch
from schemas.kafka.errors import ErrorCode
from schemas.kafka.produce import (
    TOPIC_IDS_FROM,
    PartitionResult,
    ProduceRequest,
    TopicRecords,
    TopicResult,
    decode_produce_request,
    encode_produce_response,
)

Objections = Mapping[int, Objection]
"""Place of a batch in the request -> what is wrong with its records."""


def _fail(call: Call, error: int) -> Buffers:
    return _refuse(call, decode_produce_request(call.frame, call.body_at, call.version), error)


def _refuse(call: Call, request: ProduceRequest, error: int) -> Buffers:
    """One error for the whole request."""
    if request.acks == 0:
        call.channel.drop(f"a Produce request without acks failed with error {error}")
        return []
    call.had_error = True
    topics = [
        TopicResult(
            topic.name, topic.topic_id, [PartitionResult(part.partition, error, -1) for part in topic.partitions]
        )
        for topic in request.topics
        if topic.partitions
    ]
    return [encode_produce_response(call.version, topics, call.throttle_ms)]


@serve(ApiKey.PRODUCE, versions=(3, 13), advertised_min=0, overlaps=True, fail=_fail)
def produce(call: Call) -> Reply:
    """Check the batches and hand them to the writer; the reply is made when the last of them has its outcome."""
    request = decode_produce_request(call.frame, call.body_at, call.version)
    if request.transactional_id is not None:
        return _refuse(call, request, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if not -1 <= request.acks <= 1:
        return _refuse(call, request, ErrorCode.INVALID_REQUIRED_ACKS)
    views = []
    for topic in request.topics:
        view = _view(call, topic)
        if view is None or view.compacted or _highest(topic) >= view.shards:
            return _look_first(call, request)
        views.append(view)
    return _append(call, request, views, {})


def _view(call: Call, topic: TopicRecords) -> TopicView | None:
    topics = call.context.services.topics
    return topics.by_name(topic.name) if topic.topic_id is None else topics.by_id(topic.topic_id)


def _highest(topic: TopicRecords) -> int:
    """The highest partition of a topic in the request; -1 without any."""
    return max([part.partition for part in topic.partitions], default=-1)


async def _look_first(call: Call, request: ProduceRequest) -> Buffers | None:
    """Find topics and partitions the agent doesn't know, look for null keys where the topic is compacted, then append.

    The connection starts nothing else meanwhile, so its batches keep their order.
    """
    services = call.context.services
    await know(
        services.topics,
        [topic.name for topic in request.topics if topic.topic_id is None],
        [topic.topic_id for topic in request.topics if topic.topic_id is not None],
        shards={topic.name if topic.topic_id is None else topic.topic_id: _highest(topic) for topic in request.topics},
    )
    views = [_view(call, topic) for topic in request.topics]
    keyed = [
        part.records if view is not None and view.compacted else None
        for topic, view in zip(request.topics, views, strict=True)
        for part in topic.partitions
    ]
    bytes_max = services.settings.max_decompressed_message_bytes
    objections: Objections = {}
    if any(records is not None for records in keyed):
        objections = await services.workers.run(lambda: _find_objections(keyed, bytes_max))
    return _append(call, request, views, objections)


def _find_objections(keyed: list[memoryview | None], bytes_max: int) -> Objections:
    """Runs in a worker: what is wrong with the records of compacted topics, by the batch's place in the request."""
    found = {
        place: look_for_null_keys(records, bytes_max) for place, records in enumerate(keyed) if records is not None
    }
    return {place: objection for place, objection in found.items() if objection is not None}


def _append(
    call: Call, request: ProduceRequest, views: Sequence[TopicView | None], objections: Objections
) -> Buffers | None:
    """Hand every acceptable batch to the writer, in the order of the request."""
    services = call.context.services
    statistics = call.context.statistics
    now_ms = services.clock.now_ms()
    version = call.version
    connection = call.channel.number
    write_now = call.channel.write_now
    job = _Job(call, request)
    results = job.results
    items: list[Append] = []
    for topic, view in zip(request.topics, views, strict=True):
        for index, records in topic.partitions:
            place = len(results)
            try:
                shard = _shard(view, index, version)
                header = _header(shard, records, version, now_ms)
                objection = objections.get(place)
                if objection is not None:
                    raise RefusedBatch(ErrorCode.INVALID_RECORD, objection.message)
            except RefusedBatch as refused:
                errors = objections[place].record_errors if place in objections else ()
                results.append(PartitionResult(index, refused.code, -1, -1, -1, errors, str(refused)))
                job.had_error = True
                continue
            assert records is not None
            results.append(None)
            done = partial(job.done, place, index)
            items.append(
                Append(
                    shard.topic, shard.topic_id, index, records, header, shard.append_time, connection, done, write_now
                )
            )
            statistics.produced_bytes += len(records)
            statistics.produced_records += header.record_count
    statistics.produced_batches += len(items)
    job.waiting = len(items)
    call.frame = NOTHING
    if items:
        services.writer.append(items)
    return job.answer_now()


def _shard(view: TopicView | None, index: int, version: int) -> TopicView:
    """The topic, where it has this partition. Raises RefusedBatch."""
    if view is None:
        code = ErrorCode.UNKNOWN_TOPIC_ID if version >= TOPIC_IDS_FROM else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        raise RefusedBatch(code, code.message)
    if not 0 <= index < view.shards:
        code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        raise RefusedBatch(code, f"topic {view.name} has partitions 0 to {view.shards - 1}, not {index}")
    return view


def _header(view: TopicView, records: memoryview | None, version: int, now_ms: int) -> BatchHeader:
    """The header of an acceptable batch. Raises RefusedBatch."""
    if records is None:
        raise RefusedBatch(ErrorCode.INVALID_RECORD, "the records are null")
    header = check_batch(
        records,
        version=version,
        max_bytes=view.message_max_bytes,
        now_ms=now_ms,
        append_time=view.append_time,
        before_max_ms=view.timestamp_before_max_ms,
        after_max_ms=view.timestamp_after_max_ms,
    )
    if header.attributes & TRANSACTIONAL_BIT:
        raise RefusedBatch(
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "the batch belongs to a transaction, its request to none"
        )
    return header


class _Job:
    """One request between its append and its reply: the state that all its batches share."""

    __slots__ = ("acks", "call", "had_error", "results", "topics", "waiting")

    def __init__(self, call: Call, request: ProduceRequest) -> None:
        self.call = call
        self.acks = request.acks
        self.topics = [(topic.name, topic.topic_id, len(topic.partitions)) for topic in request.topics]
        """Not the request itself: its records belong to the writer, who lets them go before the reply."""
        self.results: list[PartitionResult | None] = []
        self.waiting = 0
        self.had_error = False

    def done(self, place: int, index: int, outcome: BatchOutcome) -> None:
        """One batch has its outcome."""
        error, offset, append_ms, log_start, _ = outcome
        if error:
            self.had_error = True
            if error == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION and self.call.version >= TOPIC_IDS_FROM:
                error = ErrorCode.UNKNOWN_TOPIC_ID  # deleted since the agent last looked
            self.results[place] = PartitionResult(index, error, -1, -1, log_start)
        else:
            self.results[place] = PartitionResult(index, 0, offset, append_ms, log_start)
        self.waiting -= 1
        if not self.waiting and self.acks:
            self.call.reply(self.response())
        elif error and not self.acks:
            self.call.channel.drop(f"a batch sent without acks failed with error {error}")

    def answer_now(self) -> Buffers | None:
        """What the handler returns: the reply where nothing is waited for."""
        if not self.acks:
            if self.had_error:
                self.call.channel.drop("a batch sent without acks was refused")
            return []
        return PENDING if self.waiting or self.call.buffers is not None else self.response()

    def response(self) -> Buffers:
        """The reply, in the order of the request."""
        call = self.call
        call.had_error = self.had_error
        at = 0
        topics = []
        for name, topic_id, count in self.topics:
            end = at + count
            rows = [row for row in self.results[at:end] if row is not None]
            if rows:  # Kafka answers no topic that came without partitions
                topics.append(TopicResult(name, topic_id, rows))
            at = end
        return [encode_produce_response(call.version, topics, call.throttle_ms)]
