"""What a Kafka handler may use of the agent: small protocols over values, so that handlers know neither store nor database.

The agent (`broker.agent`) builds the implementations from settings; the simulation builds the same ones over a virtual
clock. Contracts here are kept by the conformance tests of each implementation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from catalog.sequence import BatchOutcome
from schemas.kafka.batch import BatchHeader
from schemas.settings import Settings

if TYPE_CHECKING:
    from broker.groups.group import Description
    from broker.groups.requests import Answer, Commit, Request
    from broker.quotas.limiter import Limiter
    from catalog.configs import Change
    from catalog.groups import NewOffset, StoredOffset
    from catalog.holdings import ShardProducer
    from catalog.log_starts import Raised
    from catalog.quotas import QuotaChange, Quotas
    from schemas.config_kinds import ConfigKind

T = TypeVar("T")


class Clock(Protocol):
    """Time as a component. `now_ms` is wall time (Unix ms); `monotonic` is seconds for durations."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


@dataclass(frozen=True, slots=True)
class TopicView:
    """One live topic as an agent knows it. `config` holds only what was set; defaults come from schemas.topic_config."""

    topic: int
    topic_id: UUID
    name: str
    shards: int
    config: Mapping[str, str]
    message_max_bytes: int
    append_time: bool
    compacted: bool
    timestamp_before_max_ms: int
    timestamp_after_max_ms: int


@dataclass(slots=True)
class Append:
    """One verified record batch on its way into a segment. `done` is called exactly once, on the loop, and never raises."""

    topic: int
    topic_id: UUID
    shard: int
    records: memoryview
    """The batch's bytes; the writer keeps a reference, so the buffer must not be reused by the connection."""
    header: BatchHeader
    append_time: bool
    connection: int
    """Order matters within one connection: when a batch fails, later ones of the same connection in flight fail too."""
    done: Callable[[BatchOutcome], None]
    answered: Callable[[], None] | None = None
    """Called after every `done` of a commit, once for each connection: what it has to say may leave now, while the agent
    goes on with its own books. Nothing else of this process runs in between."""


class Writer(Protocol):
    """The write path of an agent."""

    def append(self, items: Sequence[Append]) -> None:
        """Take over batches of one Produce request, in order. Never blocks, never raises; failures reach `done` as error codes."""
        ...

    @property
    def full(self) -> bool:
        """True while unflushed bytes are at their bound: connections stop reading."""
        ...

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once when there is room again."""
        ...


@dataclass(frozen=True, slots=True)
class FetchPart:
    """One partition of a Fetch request, resolved to internal numbers."""

    topic: int
    shard: int
    offset: int
    max_bytes: int


@dataclass(slots=True)
class FetchedPart:
    """One partition's answer: whole batches with patched headers. `error` is a Kafka code; offsets are -1 on error."""

    error: int
    high_watermark: int
    last_stable_offset: int
    log_start: int
    records: Sequence[bytes | bytearray | memoryview]
    bytes: int
    record_count: int = 0
    """Records in `records`, for the metrics alone."""


@dataclass(frozen=True, slots=True)
class OffsetAnswer:
    """One answer of ListOffsets: Kafka error, offset and timestamp (-1 where not known)."""

    error: int
    offset: int
    timestamp: int


class Reader(Protocol):
    """The read path of an agent."""

    def fetch_now(self, parts: Sequence[FetchPart], min_bytes: int, max_bytes: int) -> list[FetchedPart] | None:
        """The answer where it can be given from memory at once (tail index and cache) and min_bytes is met; else None."""
        ...

    async def fetch(
        self, parts: Sequence[FetchPart], *, max_wait_ms: int, min_bytes: int, max_bytes: int
    ) -> list[FetchedPart]:
        """Answers in the order of `parts`; waits up to max_wait_ms for min_bytes (KIP-74: the first non-empty partition
        always gets one whole batch, whatever the limits)."""
        ...

    async def list_offsets(self, queries: Sequence[tuple[int, int, int]]) -> list[OffsetAnswer]:
        """(topic, shard, timestamp or -1 latest, -2/-4 earliest, -3 max timestamp, -5 tiered) from a database read begun
        after this call; by timestamp the records are looked at in a bounded worker."""
        ...


class Topics(Protocol):
    """Topics as the agent knows them: a cache in front of the database. Lookups by name or id may be stale; `fresh` is not."""

    def by_name(self, name: str) -> TopicView | None:
        """Cached view, or None where not known here (call `fresh`)."""
        ...

    def by_id(self, topic_id: UUID) -> TopicView | None:
        """Cached view, or None where not known here (call `fresh`)."""
        ...

    async def fresh(self, names: Sequence[str] = (), ids: Sequence[UUID] = ()) -> None:
        """Read the named topics from the database now and update the cache (drops what is gone)."""
        ...

    async def all(self) -> list[TopicView]:
        """Every live topic, sorted by name, read now."""
        ...

    async def create(self, name: str, shards: int, config: Mapping[str, str]) -> TopicView:
        """Create a topic with its shards and reserved table names. Raises catalog.topics.TopicExists,
        TopicCollides, TableNameTaken."""
        ...

    async def delete(self, topic: TopicView) -> None:
        """Delete a topic: its name is free at once; its rows and bytes are reclaimed later."""
        ...

    async def alter_config(self, topic: TopicView, change: Change) -> None:
        """Replace a topic's own settings by `change` of them. Raises catalog.topics.TopicGone, TableNameFixed, and what
        `change` raises."""
        ...

    async def grow(self, topic: TopicView, shards: int) -> TopicView:
        """Give a topic `shards` shards in all. Raises catalog.topics.TopicGone, NotMoreShards."""
        ...

    async def collision(self, name: str) -> str | None:
        """The live topic with this name, or one that differs from it only in dots and underscores; read now."""
        ...


class Configs(Protocol):
    """Configs of brokers, client metrics and groups: a cache in front of the database. Those of topics stand with them."""

    def of(self, kind: ConfigKind, name: str) -> Mapping[str, str]:
        """What is set on a resource, as known here."""
        ...

    def names(self, kind: ConfigKind) -> list[str]:
        """The resources of a kind on which something is set, sorted, as known here."""
        ...

    @property
    def broker_changes(self) -> int:
        """How often what is set for brokers has changed, as known here: for what is worked out from it."""
        ...

    async def fresh(self) -> None:
        """Read now what has changed."""
        ...

    async def alter(self, kind: ConfigKind, name: str, change: Change) -> None:
        """Replace what is set by `change` of it, in one transaction. Raises what `change` raises."""
        ...


@dataclass(frozen=True, slots=True)
class BrokerView:
    """One live agent as clients see it."""

    broker_id: int
    host: str
    port: int
    zone: str


class Cluster(Protocol):
    """Who is there."""

    @property
    def cluster_id(self) -> str:
        """The cluster's id, as in bucket and database."""
        ...

    @property
    def self_view(self) -> BrokerView:
        """This agent."""
        ...

    def brokers(self) -> Sequence[BrokerView]:
        """Live agents, by broker id, this one among them; cached, refreshed every few seconds."""
        ...

    async def look(self) -> Sequence[BrokerView]:
        """The same read now: what one agent tells clients must not be older than what another one has told them."""
        ...


class ProducerIds(Protocol):
    """Where producer ids come from: blocks of the database counter, never issued twice."""

    async def issue(self) -> int:
        """A fresh producer id."""
        ...


@dataclass(frozen=True, slots=True)
class GroupListing:
    """One group of ListGroups; `state` is Kafka's name."""

    group_id: str
    protocol_type: str
    state: str


class Groups(Protocol):
    """Consumer groups as this agent coordinates them. Kafka codes where an agent isn't the coordinator, or is loading."""

    async def coordinator_of(self, group_id: str) -> BrokerView | None:
        """The agent that coordinates a group; None while that isn't settled."""
        ...

    async def ask(self, group_id: str, request: Request) -> Answer:
        """JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the answer, when the group has it."""
        ...

    async def commit(self, group_id: str, request: Commit, offsets: Sequence[NewOffset]) -> int:
        """Check and store offsets; one Kafka code."""
        ...

    async def offsets(self, group_id: str) -> tuple[int, list[StoredOffset]]:
        """(Kafka code, committed offsets in live topics)."""
        ...

    def describe(self, group_id: str) -> tuple[int, Description | None]:
        """(Kafka code, the group)."""
        ...

    def listed(self) -> tuple[int, list[GroupListing]]:
        """(Kafka code, the groups this agent coordinates)."""
        ...

    async def delete(self, group_id: str) -> int:
        """Delete an empty group with its offsets; a Kafka code."""
        ...

    async def delete_offsets(self, group_id: str, offsets: Sequence[tuple[int, str, int]]) -> tuple[int, list[int]]:
        """Delete offsets of (topic, topic name, shard): (Kafka code, a code for each)."""
        ...


class RecordDeletion(Protocol):
    """DeleteRecords."""

    async def delete_records(self, wanted: Mapping[tuple[int, int], int]) -> Mapping[tuple[int, int], Raised]:
        """(topic, shard) -> offset to delete up to, -1 for everything: (Kafka code, log start in force). Raises DatabaseError."""
        ...


class ClientQuotas(Protocol):
    """Client quotas: what is stored, and the account of what clients use."""

    @property
    def limiter(self) -> Limiter:
        """The account of this agent."""
        ...

    async def read(self) -> Quotas:
        """Every quota, read now."""
        ...

    async def alter(self, changes: Sequence[QuotaChange]) -> None:
        """Store changes; on this agent they hold at once."""
        ...


class Holdings(Protocol):
    """What shards hold, read now."""

    async def shard_bytes(self, topics: Sequence[int]) -> Mapping[tuple[int, int], int]:
        """Bytes of the record batches of every (topic, shard) of these topics; empty shards are absent."""
        ...

    async def producers(self, shards: Sequence[tuple[int, int]]) -> Sequence[ShardProducer]:
        """The producers that these (topic, shard) remember, by shard and producer id."""
        ...

    async def topic_changes(self) -> int:
        """How many changes of topics there were."""
        ...


class Workers(Protocol):
    """Where work goes that would hold up the loop (looking into records): a few threads, a bounded queue."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work()`, or its exception."""
        ...


class InlineWorkers:
    """Workers that work at once on the loop: for the simulation, and where records are small."""

    async def run(self, work: Callable[[], T]) -> T:
        """`work()`, here and now."""
        return work()


@dataclass(slots=True)
class Services:
    """Everything a handler may use."""

    settings: Settings
    clock: Clock
    rng: random.Random
    cluster: Cluster
    topics: Topics
    writer: Writer
    reader: Reader
    producer_ids: ProducerIds
    groups: Groups
    workers: Workers = field(default_factory=InlineWorkers)
    records: RecordDeletion = field(kw_only=True)
    configs: Configs = field(kw_only=True)
    quotas: ClientQuotas = field(kw_only=True)
    holdings: Holdings = field(kw_only=True)
