"""Reads of shard state and extents from the metadata database, coalesced.

Owns: **every answer comes from a snapshot begun after its question arrived**, so an agent that lags behind another never
tells a consumer that its offset is out of range; and high watermark, log start and extents of one answer come from that
one snapshot. Questions that arrive while a read is on its way wait for the next one and share it, so the number of
database reads doesn't grow with the number of waiting consumers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from broker.fetch.block_cache import StoredObject
from catalog.sequence import Extent


class Question(NamedTuple):
    """The extents of a shard from the one that holds `offset`, until `bytes_max` are reached (0: state alone)."""

    topic: int
    shard: int
    offset: int
    bytes_max: int


class Answer(NamedTuple):
    """One shard in one snapshot. `extents` are contiguous; `objects` says where their bytes are."""

    high_watermark: int
    log_start: int
    extents: Sequence[Extent]
    objects: dict[int, StoredObject]


Find = Callable[[Sequence[Question]], Awaitable[Sequence[Answer | None]]]
"""One database snapshot that answers all questions; None for a shard that doesn't exist."""


class ShardReads:
    """See the module. `reads_max` snapshots run at once; more wait and are merged."""

    def __init__(self, find: Find, *, reads_max: int = 2) -> None:
        self._find = find
        self._reads_max = reads_max
        self._waiting: list[tuple[Sequence[Question], asyncio.Future[Sequence[Answer | None]]]] = []
        self._running: dict[asyncio.Task[None], None] = {}
        self.reads = 0

    async def ask(self, questions: Sequence[Question]) -> Sequence[Answer | None]:
        """Answers in order. Raises DatabaseError."""
        future: asyncio.Future[Sequence[Answer | None]] = asyncio.get_running_loop().create_future()
        self._waiting.append((questions, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        if self._waiting and len(self._running) < self._reads_max:
            asked, self._waiting = self._waiting, []
            task = asyncio.get_running_loop().create_task(self._read(asked))
            self._running[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._begin()

    async def _read(self, asked: list[tuple[Sequence[Question], asyncio.Future[Sequence[Answer | None]]]]) -> None:
        """One snapshot for everybody who had asked before it began."""
        self.reads += 1
        questions = [question for one, _ in asked for question in one]
        try:
            answers = await self._find(questions)
        except BaseException as error:
            for _, future in asked:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
            return
        at = 0
        for one, future in asked:
            if not future.done():
                future.set_result(answers[at : at + len(one)])
            at += len(one)

    async def close(self) -> None:
        """End reads on their way; who waits gets a cancellation."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
