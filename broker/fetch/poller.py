"""Keeps waiting consumers up to date with what other agents commit.

Every `poll_interval_ms` the shards somebody waits for are read from the database, in one coalesced snapshot; a hint from
another agent brings the next round forward. What is new goes into the tail index, and whoever waits for that shard looks
again. Where the database tells that nobody has committed since (SQLite), a round for the same shards is left out.

Owns: a lost hint costs one interval, never a stuck consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

import structlog

from broker.fetch.object_names import ObjectNames
from broker.fetch.shard_reads import Question, ShardReads
from broker.fetch.tail_index import TailIndex
from broker.fetch.waiters import Waiters
from catalog.database import DatabaseError
from catalog.sequence import ShardKey

log = structlog.get_logger(__name__)

LEARN_BYTES_MAX = 8 * 1024 * 1024


class Poller:
    """`run` belongs to the agent's supervisor."""

    def __init__(
        self,
        index: TailIndex,
        names: ObjectNames,
        reads: ShardReads,
        waiters: Waiters,
        *,
        interval_s: float,
        version: Callable[[], Hashable | None] = lambda: None,
    ) -> None:
        self._index = index
        self._names = names
        self._reads = reads
        self._waiters = waiters
        self._interval_s = interval_s
        self._version = version
        self._seen: Hashable | None = None
        self._looked: dict[ShardKey, None] = {}
        """Shards of the last round, which saw the database at `_seen` or later."""
        self._hinted = asyncio.Event()
        self.rounds = 0

    def hint(self, _payload: str = "") -> None:
        """Another agent has committed something: look soon."""
        self._hinted.set()

    async def run(self) -> None:
        """Poll for ever; asks nothing while nobody waits."""
        while True:
            await self._waiters.anyone.wait()
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._hinted.wait()
            except TimeoutError:
                pass
            self._hinted.clear()
            try:
                await self.look_if_changed(self._waiters.keys())
            except DatabaseError as error:
                log.warning("high watermarks could not be polled", error=str(error))

    async def look_if_changed(self, keys: list[ShardKey]) -> None:
        """One round, unless the last one saw these shards and nobody has committed since.

        A shard that was not asked for then is asked for now: its reader may have looked before that commit.
        """
        version = self._version()
        if version is not None and version == self._seen and all(key in self._looked for key in keys):
            return
        self._seen = None
        await self.look(keys)
        self._seen, self._looked = version, dict.fromkeys(keys)

    async def look(self, keys: list[ShardKey]) -> None:
        """One round: read these shards from their known end on, learn, wake."""
        self.rounds += 1
        questions: list[Question] = []
        for topic, shard in keys:
            tail = self._index.tail((topic, shard))
            # a shard that isn't known (any more) is asked for by its waiters themselves, once woken
            if tail is None:
                self._waiters.wake((topic, shard))
            else:
                questions.append(Question(topic, shard, tail.high_watermark, LEARN_BYTES_MAX))
        if not questions:
            return
        for question, answer in zip(questions, await self._reads.ask(questions), strict=True):
            key = (question.topic, question.shard)
            tail = self._index.tail(key)
            if answer is None:
                self._index.drop(key)
                self._waiters.wake(key)
            elif tail is None or answer.high_watermark > tail.high_watermark:
                self._names.learn(answer.objects, new=True)
                if not self._index.learn(key, answer.high_watermark, answer.log_start, answer.extents):
                    self._index.drop(key)  # too far behind to catch up in one read: its readers ask the database
                self._waiters.wake(key)
