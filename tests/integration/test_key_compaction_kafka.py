"""Key compaction leaves what Apache Kafka's cleaner leaves: the same log, cleaned by both, batch by batch.

Real producers fill a topic of a real broker: plain, compressed, idempotent, and in transactions that are committed and
aborted. Its segment files are read before and after each of the cleaner's rounds; what was there before goes through the
same round here. Deviations: Kafka keeps the last batch of a round without records where it is nobody's last, and there are
no fillers in its files.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from broker.compaction.keyed_filter import ProducerLast
from broker.compaction.keyed_markers import AbortedTransaction
from schemas.kafka.batch import DELETE_HORIZON_BIT, BatchHeader, batch_size, read_header
from schemas.kafka.records import Record, decode_batch
from tests import counterparts
from tests.conftest import found
from tests.counterparts import KafkaServer
from tests.keyed_log import MemoryLog

TOPIC = "compared"
RETENTION_MS = 1_500
PATIENCE_S = 30.0
FAST = "log.cleaner.backoff.ms=50\nlog.retention.check.interval.ms=100\n"
NEVER_ROLL = "604800000"


class Seen(NamedTuple):
    """What is compared of a batch."""

    base_offset: int
    last_offset_delta: int
    attributes: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    max_timestamp: int
    records: tuple[Record, ...]


@pytest.fixture
def cleaning_kafka() -> Iterator[KafkaServer]:
    found(counterparts.kafka_jars)
    with counterparts.kafka(properties=FAST) as server:
        yield server


@dataclass
class Topic:
    """The topic on the real broker, its files, and a rising clock for its records."""

    server: KafkaServer
    now_ms: int

    def __post_init__(self) -> None:
        self.admin = AdminClient({"bootstrap.servers": self.server.bootstrap})
        config = {
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0",
            "delete.retention.ms": str(RETENTION_MS),
            "segment.ms": NEVER_ROLL,
        }
        [future] = self.admin.create_topics([NewTopic(TOPIC, 1, 1, config=config)]).values()
        future.result(PATIENCE_S)

    @property
    def folder(self) -> Path:
        return self.server.folder / "data" / f"{TOPIC}-0"

    def producer(self, **config: Any) -> Producer:
        base = {"bootstrap.servers": self.server.bootstrap, "linger.ms": 0, "partitioner": "consistent"}
        return Producer(base | config)

    def send(self, producer: Producer, *rows: tuple[bytes, bytes | None]) -> None:
        """Rows in one batch, as far as the client likes."""
        for key, value in rows:
            self.now_ms += 1
            producer.produce(TOPIC, value, key, partition=0, timestamp=self.now_ms, headers=[("h", key), ("n", None)])
        assert producer.flush(PATIENCE_S) == 0

    def roll(self, producer: Producer) -> int:
        """Begin a new segment with a record of its own; returns the offset it begins at."""
        self._segment_ms("1")
        self.now_ms += 1_000
        before = max(self.folder.glob("*.log"))
        self.send(producer, (b"roll-%d" % self.now_ms, b"-"))
        self._segment_ms(NEVER_ROLL)
        newest = max(self.folder.glob("*.log"))
        assert newest > before
        return int(newest.stem)

    def _segment_ms(self, value: str) -> None:
        entry = ConfigEntry("segment.ms", value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
        [future] = self.admin.incremental_alter_configs([resource]).values()
        future.result(PATIENCE_S)
        time.sleep(0.3)  # the broker takes it from the metadata log

    def wait_cleaned(self, through: int) -> None:
        """Until the cleaner says that it has done everything below."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            path = self.folder.parent / "cleaner-offset-checkpoint"
            lines = path.read_text().splitlines() if path.exists() else []
            if f"{TOPIC} 0 {through}" in lines:
                return
            time.sleep(0.05)
        raise AssertionError(f"Kafka has not cleaned through {through}")

    def wait_markers(self) -> None:
        """Until no transaction is open: its coordinator writes the marker after it has answered."""
        at = TopicPartition(TOPIC, 0)

        def latest(isolation: IsolationLevel) -> int:
            [future] = self.admin.list_offsets({at: OffsetSpec.latest()}, isolation_level=isolation).values()  # type: ignore[no-untyped-call]
            return int(future.result(PATIENCE_S).offset)

        ends = time.monotonic() + PATIENCE_S
        while latest(IsolationLevel.READ_COMMITTED) != latest(IsolationLevel.READ_UNCOMMITTED):
            assert time.monotonic() < ends, "a transaction stays open"
            time.sleep(0.05)

    def batches(self, below: int) -> list[tuple[BatchHeader, bytes]]:
        """Every batch of its files below an offset."""
        found = []
        for path in sorted(self.folder.glob("*.log")):
            data, at = path.read_bytes(), 0
            while at + 61 <= len(data):
                header = read_header(data, at)
                if header.size <= 61 - 12 or header.base_offset >= below:
                    break
                size = batch_size(data, at)
                found.append((header, data[at : at + size]))
                at += size
        return found


def as_log(batches: Sequence[tuple[BatchHeader, bytes]], end: int, cleaned: int) -> MemoryLog:
    """The same batches as extents of a few batches each; nothing is missing between them."""
    log = MemoryLog(cleaned=cleaned, began=cleaned)
    rng = random.Random(len(batches))
    at = 0
    while at < len(batches):
        count = rng.randint(1, 4)
        chosen = batches[at : at + count]
        log.append([data for _, data in chosen])
        at += count
    assert log.end == end
    return log


def producers_of(batches: Sequence[tuple[BatchHeader, bytes]]) -> dict[int, ProducerLast]:
    """As a broker remembers them: the last batch of each, or none where a marker with a newer epoch followed it."""
    known: dict[int, ProducerLast] = {}
    for header, _ in batches:
        before = known.get(header.producer_id)
        if header.producer_id < 0:
            continue
        if not header.is_control:
            known[header.producer_id] = ProducerLast(header.base_offset, header.producer_epoch)
        elif before is None or header.producer_epoch > before.epoch:
            known[header.producer_id] = ProducerLast(None, header.producer_epoch)
    return known


def aborted_in(batches: Sequence[tuple[BatchHeader, bytes]]) -> list[AbortedTransaction]:
    """Aborted transactions, from their markers."""
    opened: dict[int, int] = {}
    aborted = []
    for header, data in batches:
        if header.is_control:
            first = opened.pop(header.producer_id, None)
            [marker] = decode_batch(data)
            if first is not None and marker.key is not None and marker.key[2:4] == b"\0\0":
                aborted.append(AbortedTransaction(header.producer_id, first, header.base_offset))
        elif header.is_transactional:
            opened.setdefault(header.producer_id, header.base_offset)
    return aborted


def seen(batches: Sequence[tuple[BatchHeader, bytes]], producers: dict[int, ProducerLast]) -> list[Seen]:
    """What is left, without what holds no record and is no producer's last."""
    found = []
    for header, data in batches:
        last = producers.get(header.producer_id)
        is_last = header.producer_id >= 0 and last is not None and last.offset == header.base_offset
        if header.record_count or is_last:
            records = decode_batch(data, base_offset=header.base_offset)
            found.append(
                Seen(
                    header.base_offset, header.last_offset_delta, header.attributes, header.producer_id,
                    header.producer_epoch, header.base_sequence, header.max_timestamp, tuple(records),
                )
            )  # fmt: skip
    return found


def test_a_log_is_cleaned_as_kafka_cleans_it(cleaning_kafka: KafkaServer) -> None:
    topic = Topic(cleaning_kafka, time.time_ns() // 1_000_000 - 3_600_000)
    plain = topic.producer()
    rng = random.Random(11)
    here: MemoryLog | None = None
    everything: list[tuple[BatchHeader, bytes]] = []
    begun_ms = 1_900_000_000_000
    cleaned = 0
    for number in range(4):
        fill(topic, rng)
        fresh = [one for one in topic.batches(2**62) if one[0].base_offset >= cleaned]
        everything += fresh
        end = topic.roll(plain)
        producers = producers_of(everything)
        before = as_log(fresh, end, cleaned)
        if here is None:
            here = before
        else:
            here.stored += before.stored
        topic.wait_cleaned(end)
        here.clean(
            begun_ms + number * (RETENTION_MS + 1_000),
            retention_ms=RETENTION_MS,
            producers=producers,
            aborted=aborted_in(everything),
        )
        cleaned = here.cleaned
        assert cleaned == end
        kafkas, ours = topic.batches(end), here.batches()
        assert seen(ours, producers) == seen(kafkas, producers), f"round {number}"
        horizons = [bool(header.attributes & DELETE_HORIZON_BIT) for header, _ in ours]
        assert number == 0 or any(horizons)
        time.sleep(RETENTION_MS / 1000 + 0.2)  # whatever was stamped is past its horizon in the next round
    assert here is not None
    shown = [header for header, _ in here.batches()]
    assert all(one.base_offset + one.last_offset_delta + 1 == other.base_offset for one, other in pairwise(shown))
    assert any(header.is_control for header, _ in everything)


def fill(topic: Topic, rng: random.Random) -> None:
    """Something of everything: overwritten keys, tombstones, codecs, sequences, transactions of both kinds."""

    def rows(count: int) -> list[tuple[bytes, bytes | None]]:
        keys = [b"k%d" % rng.randrange(12) for _ in range(count)]
        return [
            (key, None if rng.random() < 0.3 else b"%d" % rng.randrange(1000) * rng.randrange(1, 9)) for key in keys
        ]

    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = topic.producer(**{"compression.type": codec, "linger.ms": 20})
        for _ in range(3):
            topic.send(producer, *rows(rng.randrange(1, 9)))
    idempotent = topic.producer(**{"enable.idempotence": True, "linger.ms": 20})
    for _ in range(3):
        topic.send(idempotent, *rows(rng.randrange(1, 6)))
    transactional = topic.producer(**{"transactional.id": "t", "linger.ms": 20})
    transactional.init_transactions(PATIENCE_S)
    for keep in (True, False, True, False, False):
        transactional.begin_transaction()
        topic.send(transactional, *rows(3))
        topic.send(transactional, *rows(2))
        if keep:
            transactional.commit_transaction(PATIENCE_S)
        else:
            transactional.abort_transaction(PATIENCE_S)
    topic.wait_markers()
