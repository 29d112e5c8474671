"""In-memory services for tests of the Kafka front door, and a raw client that speaks through kio's own codecs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from typing import Any, cast
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from broker.clock import SystemClock
from broker.groups.coordinator import GroupCoordinator
from broker.kafka.listener import Listener
from broker.kafka.registry import served_apis
from broker.quotas.keeper import QuotaKeeper
from broker.services import (
    Append,
    BrokerView,
    FetchedPart,
    FetchPart,
    OffsetAnswer,
    Services,
    TopicView,
)
from catalog.configs import Change
from catalog.holdings import ShardProducer
from catalog.inline import InlineDatabase
from catalog.log_starts import Raised
from catalog.quotas import QuotaChange, QuotaStore, StoredQuotas
from catalog.sequence import BatchOutcome
from catalog.topics import NotMoreShards, TopicExists, TopicGone
from schemas.config_kinds import ConfigKind
from schemas.kafka.api_keys import FLEXIBLE_FROM
from schemas.kafka.batch import patch_base_offset, read_header
from schemas.kafka.records import build_batch
from schemas.settings import Settings
from schemas.topic_config import values
from tests.kio_entities import Shape, milliseconds, shapes

Key = tuple[int, int]


def batch(count: int = 1, *, key: bytes | None = b"k", value: bytes = b"v", timestamp: int | None = None) -> bytes:
    """One uncompressed batch of `count` equal records."""
    stamp = SystemClock().now_ms() if timestamp is None else timestamp
    return bytes(build_batch([(stamp, key, value, ())] * count))


class FakeTopics:
    """Topics in a dict; `cached` decides whether lookups see a topic before `fresh`."""

    def __init__(self) -> None:
        self.live: dict[str, TopicView] = {}
        self.cached: set[str] = set()
        self.fail: Exception | None = None
        self._next = 1

    def by_name(self, name: str) -> TopicView | None:
        return self.live.get(name) if name in self.cached else None

    def by_id(self, topic_id: UUID) -> TopicView | None:
        found = [view for view in self.live.values() if view.topic_id == topic_id and view.name in self.cached]
        return found[0] if found else None

    async def fresh(self, names: Sequence[str] = (), ids: Sequence[UUID] = ()) -> None:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        self.cached |= {view.name for view in self.live.values() if view.name in names or view.topic_id in ids}

    async def all(self) -> list[TopicView]:
        if self.fail is not None:
            raise self.fail
        return [self.live[name] for name in sorted(self.live)]

    async def create(self, name: str, shards: int, config: Mapping[str, str]) -> TopicView:
        if name in self.live:
            raise TopicExists(name)
        return self.add(name, shards, config, cached=True)

    def add(
        self, name: str, shards: int = 1, config: Mapping[str, str] | None = None, *, cached: bool = True
    ) -> TopicView:
        number = self._next
        self._next += 1
        resolved = values(config or {})
        view = TopicView(
            topic=number,
            topic_id=UUID(int=number + (7 << 64)),
            name=name,
            shards=shards,
            config=config or {},
            message_max_bytes=resolved.message_max_bytes,
            append_time=resolved.append_time,
            compacted=resolved.compacted,
            timestamp_before_max_ms=resolved.timestamp_before_max_ms,
            timestamp_after_max_ms=resolved.timestamp_after_max_ms,
        )
        self.live[name] = view
        if cached:
            self.cached.add(name)
        return view

    async def delete(self, topic: TopicView) -> None:
        del self.live[topic.name]

    async def alter_config(self, topic: TopicView, change: Change) -> None:
        if topic.name not in self.live:
            raise TopicGone(topic.name)
        config = change(topic.config)
        self.live[topic.name] = replace(topic, config=config, **asdict(values(config)))

    async def grow(self, topic: TopicView, shards: int) -> TopicView:
        if shards <= self.live[topic.name].shards:
            raise NotMoreShards(self.live[topic.name].shards)
        self.live[topic.name] = replace(topic, shards=shards)
        return self.live[topic.name]

    async def collision(self, name: str) -> str | None:
        alike = [known for known in self.live if known.replace(".", "_") == name.replace(".", "_")]
        return alike[0] if alike else None


class FakeConfigs:
    """Configs in a dict."""

    def __init__(self) -> None:
        self.stored: dict[tuple[int, str], Mapping[str, str]] = {}
        self.broker_changes = 0

    def of(self, kind: ConfigKind, name: str) -> Mapping[str, str]:
        return self.stored.get((kind, name), {})

    def names(self, kind: ConfigKind) -> list[str]:
        return sorted(name for (of, name), config in self.stored.items() if of == kind and config)

    async def fresh(self) -> None:
        await asyncio.sleep(0)

    async def alter(self, kind: ConfigKind, name: str, change: Change) -> None:
        self.stored[kind, name] = change(self.of(kind, name))
        self.broker_changes += kind == ConfigKind.BROKER


@dataclass
class FakeLog:
    """What was written: (base offset, batch) per shard; one for writer and reader."""

    shards: dict[Key, list[tuple[int, bytes]]] = field(default_factory=dict)
    next: dict[Key, int] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, key: Key, records: memoryview, count: int) -> int:
        offset = self.next.get(key, 0)
        stored = bytearray(records)
        patch_base_offset(stored, 0, offset)
        self.shards.setdefault(key, []).append((offset, bytes(stored)))
        self.next[key] = offset + count
        self.changed.set()
        self.changed = asyncio.Event()
        return offset


class FakeWriter:
    """Commits at once, or when `release` is called where `held`. `error` answers every batch with that code."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self.held = False
        self.full = False
        self.error = 0
        self.waiting: list[Append] = []
        self.resume: list[Callable[[], None]] = []
        self.appends = 0

    def append(self, items: Sequence[Append]) -> None:
        self.appends += len(items)
        self.waiting.extend(items)
        if not self.held:
            self.release()

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for item in waiting:
            if self.error:
                item.done(BatchOutcome(self.error, 99, -1, -1))
                continue
            offset = self._log.append((item.topic, item.shard), item.records, item.header.record_count)
            item.done(BatchOutcome(0, offset, 1234 if item.append_time else -1, 0))

    def when_room(self, resume: Callable[[], None]) -> None:
        self.resume.append(resume)

    def room(self) -> None:
        self.full = False
        resume, self.resume = self.resume, []
        for call in resume:
            call()


class FakeReader:
    """Serves the fake log; `fetch_now` only where `immediate`."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self.immediate = True
        self.waits = 0
        self.cancelled = 0
        self.asked: list[tuple[int, int, int]] = []

    def _read(self, parts: Sequence[FetchPart], max_bytes: int) -> list[FetchedPart]:
        answers = []
        left = max_bytes
        for part in parts:
            key = (part.topic, part.shard)
            end = self._log.next.get(key, 0)
            if not 0 <= part.offset <= end:
                answers.append(FetchedPart(1, -1, -1, -1, (), 0))
                continue
            taken: list[bytes] = []
            size = 0
            for base, stored in self._log.shards.get(key, ()):
                last = base + int.from_bytes(stored[23:27], "big")
                over = size + len(stored) > min(part.max_bytes, left)
                if last >= part.offset and not (over and (taken or left < max_bytes)):
                    taken.append(stored)
                    size += len(stored)
            left -= size
            count = sum(read_header(stored).record_count for stored in taken)
            answers.append(FetchedPart(0, end, end, 0, taken, size, count))
        return answers

    def fetch_now(self, parts: Sequence[FetchPart], min_bytes: int, max_bytes: int) -> list[FetchedPart] | None:
        answers = self._read(parts, max_bytes)
        enough = sum(answer.bytes for answer in answers) >= min_bytes
        return answers if self.immediate and enough else None

    async def fetch(
        self, parts: Sequence[FetchPart], *, max_wait_ms: int, min_bytes: int, max_bytes: int
    ) -> list[FetchedPart]:
        self.waits += 1
        deadline = asyncio.get_running_loop().time() + max_wait_ms / 1000
        try:
            while True:
                answers = self._read(parts, max_bytes)
                left = deadline - asyncio.get_running_loop().time()
                if sum(answer.bytes for answer in answers) >= min_bytes or left <= 0:
                    return answers
                try:
                    async with asyncio.timeout(left):
                        await self._log.changed.wait()
                except TimeoutError:
                    continue
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def list_offsets(self, queries: Sequence[tuple[int, int, int]]) -> list[OffsetAnswer]:
        self.asked.extend(queries)
        return [self._offset(topic, shard, stamp) for topic, shard, stamp in queries]

    def _offset(self, topic: int, shard: int, stamp: int) -> OffsetAnswer:
        if stamp == -1:
            return OffsetAnswer(0, self._log.next.get((topic, shard), 0), -1)
        if stamp in (-2, -4):
            return OffsetAnswer(0, 0, -1)
        return OffsetAnswer(0, -1, -1)


class FakeQuotas:
    """Stored quotas in a dict (catalog.quotas.QuotaStore)."""

    def __init__(self) -> None:
        self.stored: dict[Any, dict[str, float]] = {}
        self.changes = 0
        self.fail: Exception | None = None

    async def change(self) -> int:
        return self.changes

    async def read(self) -> StoredQuotas:
        await asyncio.sleep(0)
        if self.fail is not None:
            raise self.fail
        return StoredQuotas(self.changes, {entity: dict(found) for entity, found in self.stored.items() if found})

    async def alter(self, changes: Sequence[QuotaChange]) -> None:
        self.changes += 1
        for entity, quota, amount in changes:
            if amount is None:
                self.stored.get(entity, {}).pop(quota, None)
            else:
                self.stored.setdefault(entity, {})[quota] = amount


class FakeHoldings:
    """Bytes of the fake log; producers as they are put in."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self.remembered: list[ShardProducer] = []

    async def shard_bytes(self, topics: Sequence[int]) -> Mapping[Key, int]:
        held = {key: sum(len(stored) for _, stored in batches) for key, batches in self._log.shards.items()}
        return {key: amount for key, amount in held.items() if key[0] in topics}

    async def producers(self, shards: Sequence[Key]) -> list[ShardProducer]:
        return [producer for producer in self.remembered if producer[:2] in shards]

    async def topic_changes(self) -> int:
        return 17


class FakeCluster:
    """Agents with ids 1..n; this one is the first."""

    cluster_id = "fake-cluster"

    def __init__(self, agents: int = 1) -> None:
        self.live = [BrokerView(n + 1, "127.0.0.1", 9092 + n, "a") for n in range(agents)]
        self.self_view = self.live[0]

    def brokers(self) -> Sequence[BrokerView]:
        return self.live

    async def look(self) -> Sequence[BrokerView]:
        return self.live


class FakeProducerIds:
    def __init__(self) -> None:
        self.last = 999

    async def issue(self) -> int:
        self.last += 1
        return self.last


class FakeRecords:
    """Log starts in a dict; what was asked, and what is answered."""

    def __init__(self) -> None:
        self.asked: list[dict[Key, int]] = []
        self.answers: dict[Key, Raised] = {}
        self.fail: Exception | None = None

    async def delete_records(self, wanted: Mapping[Key, int]) -> Mapping[Key, Raised]:
        self.asked.append(dict(wanted))
        if self.fail is not None:
            raise self.fail
        return {key: self.answers.get(key, Raised(0, max(offset, 0))) for key, offset in wanted.items()}


@dataclass
class Fakes:
    """The services with their parts at hand."""

    settings: Settings
    agents: int = 1
    log: FakeLog = field(default_factory=FakeLog)

    def __post_init__(self) -> None:
        self.topics = FakeTopics()
        self.configs = FakeConfigs()
        self.writer = FakeWriter(self.log)
        self.reader = FakeReader(self.log)
        self.cluster = FakeCluster(self.agents)
        self.records = FakeRecords()
        self.groups = GroupCoordinator(
            InlineDatabase(SystemClock().now_ms), self.cluster, SystemClock(), self.settings, instance="fake"
        )
        self.stored_quotas = FakeQuotas()
        self.quotas = QuotaKeeper(cast(QuotaStore, self.stored_quotas), self.settings)
        self.holdings = FakeHoldings(self.log)
        self.services = Services(
            settings=self.settings,
            clock=SystemClock(),
            rng=random.Random(1),
            cluster=self.cluster,
            topics=self.topics,
            writer=self.writer,
            reader=self.reader,
            producer_ids=FakeProducerIds(),
            groups=self.groups,
            records=self.records,
            quotas=self.quotas,
            holdings=self.holdings,
            configs=self.configs,
        )


def settings(**changes: Any) -> Settings:
    """Settings for tests, whatever the environment says."""
    return Settings.model_construct(**{**{k: f.default for k, f in Settings.model_fields.items()}, **changes})


def versions(key: int) -> list[int]:
    """The versions in which an API is served."""
    api = served_apis()[key]
    return list(range(api.version_min, api.version_max + 1))


_CAMEL = FLEXIBLE_FROM


def request_bytes(request: Any, correlation_id: int, client_id: str | None = "test") -> bytes:
    """A whole frame: length, header, body, as kio writes it."""
    key, version = int(request.__api_key__), int(request.__version__)
    out = BytesIO()
    entity_writer(type(request))(out, request)
    name = b"" if client_id is None else client_id.encode()
    head = struct.pack(">hhih", key, version, correlation_id, -1 if client_id is None else len(name)) + name
    if version >= _CAMEL[key]:
        head += b"\0"
    body = head + out.getvalue()
    return struct.pack(">i", len(body)) + body


def response_of(request: Any, payload: bytes) -> tuple[int, Any]:
    """(correlation id, kio response) of a frame's payload; the whole payload has to be used."""
    key, version = int(request.__api_key__), int(request.__version__)
    at = 4
    if version >= _CAMEL[key] and key != 18:
        assert payload[4] == 0
        at = 5
    response, size = entity_reader(load_response_schema(key, version))(payload, at)
    assert size == len(payload) - at, "bytes are left over behind the response"
    return int.from_bytes(payload[:4], "big"), response


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.client_id: str | None = "test"
        self._correlation_id = 0

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Client:
        return cls(*await asyncio.open_connection(*address))

    async def payload(self) -> bytes:
        """The next frame; IncompleteReadError where the connection was closed."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return await self.reader.readexactly(size)

    def send(self, request: Any) -> int:
        self._correlation_id += 1
        self.writer.write(request_bytes(request, self._correlation_id, self.client_id))
        return self._correlation_id

    async def call(self, request: Any) -> Any:
        """Send one request and give back its response."""
        sent = self.send(request)
        received, response = response_of(request, await self.payload())
        assert received == sent
        return response

    async def closed(self) -> bool:
        """True where the peer closed without sending anything more."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


def make(key: int, version: int, **fields: Any) -> Any:
    """A kio request from plain values (dicts, lists, ints, ms); what a version lacks is left out, defaults are kio's."""
    return _entity(load_request_schema(key, version), fields)


def _entity(cls: Any, fields: Mapping[str, Any]) -> Any:
    values_of = {}
    for shape in shapes(cls):
        if shape.name in fields:
            value = fields[shape.name]
            values_of[shape.name] = (
                tuple(_item(shape, v) for v in value) if isinstance(value, list) else _item(shape, value)
            )
    return cls(**values_of)


def _item(shape: Shape, value: Any) -> Any:
    if value is None:
        return None
    if shape.kafka_type is None:
        return _entity(shape.item, value)
    return milliseconds(value) if shape.kafka_type in ("timedelta_i32", "timedelta_i64") else value


@contextlib.asynccontextmanager
async def running(fakes: Fakes) -> AsyncIterator[tuple[Listener, tuple[str, int]]]:
    """A listener over the fakes, on a free loopback port; everything is closed at the end."""
    listener = Listener(fakes.services)
    address = await listener.start("127.0.0.1", 0)
    try:
        yield listener, address
    finally:
        await listener.stop()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions of any kind, in tests
            await asyncio.sleep(0.002)
