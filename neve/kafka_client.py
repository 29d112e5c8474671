"""A small asyncio Kafka client for Neve's own command line: one connection, one request at a time.

It is not a client library: it knows no groups, no retries across brokers and no transactions. It speaks the APIs that every
agent serves, in fixed versions, with the wire types of `kio`.
"""

from __future__ import annotations

import asyncio
import importlib
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any

from kio.serial import entity_reader, entity_writer

CLIENT_ID = "neve-cli"
REQUEST_TIMEOUT_S = 30.0
FRAME_BYTES_MAX = 128 * 1024 * 1024


class KafkaClientError(Exception):
    """The broker couldn't be reached, or answered with an error; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class FetchedBytes:
    """Raw record batches of one partition with its high watermark."""

    records: bytes
    high_watermark: int


class KafkaClient:
    """One connection to one agent. Any agent serves any partition, so one is enough."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation = 0

    @classmethod
    async def connect(cls, address: str) -> KafkaClient:
        """Connect to `host:port`. Raises KafkaClientError with the way out."""
        host, _, port = address.rpartition(":")
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host or "127.0.0.1", int(port)), REQUEST_TIMEOUT_S
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise KafkaClientError(
                f"no Kafka listener at {address} ({error}); is `neve agent` running there?"
            ) from error
        return cls(reader, writer)

    async def __aenter__(self) -> KafkaClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass

    async def call(self, request: Any) -> Any:
        """Send one kio request and return its kio response."""
        kind = type(request)
        module = importlib.import_module(kind.__module__.removesuffix(".request") + ".response")
        response_type = getattr(module, kind.__name__.removesuffix("Request") + "Response")
        self._correlation += 1
        body = BytesIO()
        header = kind.__header_schema__
        entity_writer(header)(
            body,
            header(
                request_api_key=kind.__api_key__,
                request_api_version=kind.__version__,
                correlation_id=self._correlation,
                client_id=CLIENT_ID,
            ),
        )
        entity_writer(kind)(body, request)
        payload = body.getvalue()
        try:
            self._writer.write(struct.pack(">i", len(payload)) + payload)
            frame = await asyncio.wait_for(self._read_frame(), REQUEST_TIMEOUT_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise KafkaClientError(f"{kind.__name__}: the agent closed the connection or didn't answer") from error
        _, at = entity_reader(response_type.__header_schema__)(frame, 0)
        response, _ = entity_reader(response_type)(frame, at)
        return response

    async def _read_frame(self) -> bytes:
        (length,) = struct.unpack(">i", await self._reader.readexactly(4))
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise KafkaClientError(f"the answer announces {length} bytes: not a Kafka listener?")
        return await self._reader.readexactly(length)

    async def metadata(self, topics: Sequence[str] | None) -> Any:
        """Metadata v12 of the named topics, or of all of them."""
        from kio.schema.metadata.v12.request import MetadataRequest, MetadataRequestTopic
        from kio.schema.types import TopicName

        named = None
        if topics is not None:
            named = tuple(MetadataRequestTopic(topic_id=None, name=TopicName(name)) for name in topics)
        return await self.call(
            MetadataRequest(topics=named, allow_auto_topic_creation=False, include_topic_authorized_operations=False)
        )

    async def partitions(self, topic: str) -> list[int]:
        """The partition indexes of a topic. Raises KafkaClientError where it doesn't exist."""
        answer = (await self.metadata([topic])).topics[0]
        if answer.error_code:
            raise KafkaClientError(f"topic {topic!r}: {describe_error(answer.error_code)}")
        return sorted(partition.partition_index for partition in answer.partitions)

    async def offsets(self, topic: str, partitions: Sequence[int], timestamp: int) -> dict[int, int]:
        """ListOffsets v7: partition -> offset for `timestamp` (-1 latest, -2 earliest, else first at or after)."""
        from kio.schema.list_offsets.v7.request import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

        asked: tuple[Any, ...] = tuple(
            ListOffsetsPartition(partition_index=p, timestamp=timestamp)  # type: ignore[arg-type]
            for p in partitions
        )
        request = ListOffsetsRequest(
            replica_id=-1,  # type: ignore[arg-type]
            isolation_level=0,  # type: ignore[arg-type]
            topics=(ListOffsetsTopic(name=topic, partitions=asked),),  # type: ignore[arg-type]
        )
        answer = await self.call(request)
        found = {}
        for part in answer.topics[0].partitions:
            if part.error_code:
                raise KafkaClientError(f"{topic}-{part.partition_index}: {describe_error(part.error_code)}")
            found[int(part.partition_index)] = int(part.offset)
        return found

    async def fetch(
        self, topic: str, offsets: dict[int, int], *, max_wait_ms: int, max_bytes: int
    ) -> dict[int, FetchedBytes]:
        """Fetch v12 by name: partition -> whole batches from `offsets` on."""
        from datetime import timedelta

        from kio.schema.fetch.v12.request import FetchPartition, FetchRequest, FetchTopic

        parts: tuple[Any, ...] = tuple(
            FetchPartition(partition=p, fetch_offset=o, partition_max_bytes=max_bytes)  # type: ignore[arg-type]
            for p, o in sorted(offsets.items())
        )
        request = FetchRequest(
            max_wait=timedelta(milliseconds=max_wait_ms),  # type: ignore[arg-type]
            min_bytes=1,  # type: ignore[arg-type]
            max_bytes=max_bytes,  # type: ignore[arg-type]
            isolation_level=1,  # type: ignore[arg-type]
            session_id=0,  # type: ignore[arg-type]
            session_epoch=-1,  # type: ignore[arg-type]
            topics=(FetchTopic(topic=topic, partitions=parts),),  # type: ignore[arg-type]
            forgotten_topics_data=(),
            rack_id="",
        )
        answer = await self.call(request)
        if answer.error_code:
            raise KafkaClientError(f"fetch of {topic!r}: {describe_error(answer.error_code)}")
        found: dict[int, FetchedBytes] = {}
        for entry in answer.responses:
            for part in entry.partitions:
                if part.error_code:
                    raise KafkaClientError(f"{topic}-{part.partition_index}: {describe_error(part.error_code)}")
                found[int(part.partition_index)] = FetchedBytes(bytes(part.records or b""), int(part.high_watermark))
        return found

    async def follow(
        self, topic: str, offsets: dict[int, int], until: dict[int, int] | None, *, max_bytes: int = 8 * 1024 * 1024
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (partition, batches) from `offsets` on; to the offsets in `until` when given, else for ever."""
        from schemas.kafka.batch import batch_size, read_header

        at = dict(offsets)
        while True:
            if until is not None:
                at = {p: o for p, o in at.items() if o < until.get(p, 0)}
            if not at:
                return
            for partition, fetched in (await self.fetch(topic, at, max_wait_ms=500, max_bytes=max_bytes)).items():
                if not fetched.records:
                    continue
                view = memoryview(fetched.records)
                position = 0
                while position < len(view):
                    header = read_header(view, position)
                    at[partition] = header.base_offset + header.last_offset_delta + 1
                    position += batch_size(view, position)
                yield partition, fetched.records

    async def produce(self, topic: str, partition: int, batch: bytes) -> int:
        """Produce v9, acks=all, of one record batch; returns its base offset."""
        from datetime import timedelta

        from kio.schema.produce.v9.request import PartitionProduceData, ProduceRequest, TopicProduceData

        data: Any = PartitionProduceData(index=partition, records=batch)  # type: ignore[arg-type]
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,  # type: ignore[arg-type]
            timeout=timedelta(seconds=REQUEST_TIMEOUT_S),  # type: ignore[arg-type]
            topic_data=(TopicProduceData(name=topic, partition_data=(data,)),),  # type: ignore[arg-type]
        )
        part = (await self.call(request)).responses[0].partition_responses[0]
        if part.error_code:
            raise KafkaClientError(f"produce to {topic}-{partition}: {describe_error(part.error_code)}")
        return int(part.base_offset)


def describe_error(code: int) -> str:
    """Kafka's name of an error code."""
    from schemas.kafka.errors import ErrorCode

    try:
        return ErrorCode(int(code)).name
    except ValueError:
        return f"error {int(code)}"
