"""The write path of an agent: batches in, segment objects and metadata commits out, producers answered after that.

Thin shell around pure parts: the accumulator gathers, `plan_flush` decides, `Flight` carries, `Uploader` stores,
`CommitQueue` commits. Owns: bytes accepted and not yet settled are counted and bounded (`full`); a background task that
dies fails every waiting request and turns the agent not ready, it never leaves one hanging.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from broker.ingest.accumulator import Accumulator
from broker.ingest.commit_queue import CommitQueue, Entry
from broker.ingest.flight import Flight, fail_items
from broker.ingest.flush_policy import BufferState, FlushLimits, Reason, plan_flush
from broker.ingest.lost_sequences import LostSequences
from broker.ingest.upload import Tickets, Uploaded, Uploader
from broker.journal.journal import Journal
from broker.objects.port import ObjectStore, ObjectStoreError
from broker.services import Append, Clock
from catalog.commits import CommitStore, Committed
from catalog.database import DatabaseError
from schemas.settings import Settings

log = structlog.get_logger(__name__)

COMMIT_RETRY_S = 0.05
TIMER_MIN_S = 0.001
"""Loops round shorter timers down, which would make the policy ask itself in circles."""
BATCH_OVERHEAD_BYTES = 800
"""What a waiting batch costs besides its records, measured: without it a bound on bytes would let a stalled store gather
fifteen times as much memory in batches of one small record."""
ROOM_SHARE = 0.75
"""Connections read again when unflushed bytes have fallen to this share of their bound."""


class WriteObserver(Protocol):
    """What the agent's metrics want to know of the write path."""

    def flushed(self, reason: Reason, bytes_: int, batches: int) -> None:
        """A flush began."""
        ...

    def committed(self, objects: int, batches: int, seconds: float) -> None:
        """A flight was committed `seconds` after its first byte."""
        ...

    def failed(self, batches: int) -> None:
        """Batches were refused by the write path."""
        ...


class NoObserver:
    """Observes nothing."""

    def flushed(self, reason: Reason, bytes_: int, batches: int) -> None:
        """Nothing."""

    def committed(self, objects: int, batches: int, seconds: float) -> None:
        """Nothing."""

    def failed(self, batches: int) -> None:
        """Nothing."""


def flush_limits(settings: Settings, *, local: bool) -> FlushLimits:
    """The policy's bounds from settings; `local` stores flush as fast as they can, object stores every 250 ms."""
    minimum_ms = settings.flush_interval_min_ms
    if minimum_ms is None:
        minimum_ms = 0 if local else settings.flush_interval_ms
    eager = settings.flush_eager_max
    if eager is None:
        eager = 1 if local else settings.uploads_max
    return FlushLimits(
        settings.flush_interval_ms / 1000,
        minimum_ms / 1000,
        settings.flush_bytes,
        settings.flush_shards,
        settings.uploads_max,
        eager,
        settings.flush_gather_ms / 1000 if minimum_ms == 0 else 0.0,
    )


class IngestWriter:
    """services.Writer over a store and a database. Call `start` on the loop, `drain` before `stop`."""

    def __init__(
        self,
        store: ObjectStore,
        commits: CommitStore,
        tickets: Tickets,
        clock: Clock,
        rng: random.Random,
        settings: Settings,
        *,
        cluster_id: str,
        limits: FlushLimits,
        on_committed: Callable[[Flight, Uploaded, Committed], None],
        observer: WriteObserver | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._deadline_s = settings.commit_deadline_ms / 1000
        self._bytes_max = settings.unflushed_bytes_max
        self._observer = observer or NoObserver()
        self._accumulator = Accumulator()
        self._lost = LostSequences(settings.lost_sequences_max)
        self._announce = on_committed
        self._uploader = Uploader(
            store, tickets, clock, rng, cluster_id=cluster_id, uploads_max=settings.uploads_max, journal=journal
        )
        self._queue = CommitQueue(
            commits,
            self._uploader,
            tickets,
            clock,
            group_max=settings.commit_group_max,
            retry_s=COMMIT_RETRY_S,
            on_committed=self._committed,
            on_failed=self._refuse_waiting,
            on_left=self._left,
        )
        self._uploads: dict[asyncio.Task[None], None] = {}
        self._timers: dict[Flight, asyncio.TimerHandle] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._last_start_s = float("-inf")
        self._draining = False
        self._broken = False
        self._unflushed = 0
        self._requests_expected = 1
        self._ended_s = float("-inf")
        self._flight_s = 0.0
        self._waiting_for_room: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        self._idle.set()

    # services.Writer

    def append(self, items: Sequence[Append]) -> None:
        """Take over the batches of one request. They are flushed together with what else arrives in this turn of the loop."""
        if self._broken or not items:
            fail_items(items, None)
            return
        items, behind = self._lost.admit(items)
        if behind:
            fail_items(behind, None)
            self._observer.failed(len(behind))
        if not items:
            return
        self._unflushed += self._accumulator.add(items, self._clock.monotonic()) + BATCH_OVERHEAD_BYTES * len(items)
        self._idle.clear()
        self._ask_soon()

    @property
    def full(self) -> bool:
        """Unflushed bytes are at their bound."""
        return self._unflushed >= self._bytes_max

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once there is room; at once when there is."""
        if not self.full:
            asyncio.get_running_loop().call_soon(resume)
            return
        self._waiting_for_room.append(resume)

    # the agent's side

    @property
    def unflushed_bytes(self) -> int:
        """Bytes taken over and not settled, with BATCH_OVERHEAD_BYTES for each batch."""
        return self._unflushed

    @property
    def commit_transactions(self) -> int:
        """Metadata transactions tried so far."""
        return self._queue.transactions

    async def run(self) -> None:
        """The commit loop, for the agent's supervisor. However it ends, nobody is left waiting."""
        try:
            await self._queue.run()
        finally:
            self.fail_all()

    async def drain(self) -> None:
        """Flush what waits at once and return when everything is settled."""
        self._draining = True
        self._ask_soon()
        await self._idle.wait()

    async def close(self) -> None:
        """End uploads; whatever waits is answered REQUEST_TIMED_OUT."""
        self.fail_all()
        tasks = list(self._uploads)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def fail_all(self) -> None:
        """Refuse from now on, and answer everything that waits."""
        self._broken = True
        if self._timer is not None:
            self._timer.cancel()
        self._refuse_waiting(None)
        self._queue.fail_all()

    # flushing

    def _ask_soon(self) -> None:
        if not self._asked and self._accumulator.bytes:
            self._asked = True
            asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        """Ask the policy, flush as long as it says so, and set the alarm for its next answer."""
        self._asked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while not self._broken:
            now_s = self._clock.monotonic()
            plan = plan_flush(self._state(), now_s, self._limits)
            if plan.flush:
                self._flush(plan.reason, now_s)
                continue
            if plan.wait_s is not None:
                wait_s = max(plan.wait_s, TIMER_MIN_S)
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._ask)
            return

    def _state(self) -> BufferState:
        accumulator = self._accumulator
        return BufferState(
            accumulator.bytes,
            accumulator.shards,
            accumulator.first_s,
            self._last_start_s,
            len(self._uploads),
            len(self._queue),
            self._draining,
            accumulator.requests,
            self._requests_expected,
            self._ended_s,
            self._flight_s,
        )

    def _flush(self, reason: Reason, now_s: float) -> None:
        first_s = self._accumulator.first_s
        requests = self._accumulator.requests
        flight = Flight(self._accumulator.take(), first_s, first_s + self._deadline_s, requests, self._lost)
        self._last_start_s = now_s
        self._observer.flushed(reason, flight.bytes, len(flight.items))
        entry = self._queue.add(flight)
        loop = asyncio.get_running_loop()
        self._timers[flight] = loop.call_later(max(0.0, flight.deadline_s - now_s), self._queue.expire, entry)
        entry.uploaded = self._uploader.upload_now(flight)
        if entry.uploaded is not None:
            self._queue.poke()
            return
        task = loop.create_task(self._upload(entry))
        self._uploads[task] = None
        task.add_done_callback(self._uploaded)

    async def _upload(self, entry: Entry) -> None:
        try:
            entry.uploaded = await self._uploader.upload(entry.flight)
        except (ObjectStoreError, DatabaseError, TimeoutError) as error:
            entry.error = error
        except BaseException as error:  # a bug or a cancellation: the flight fails, then the error goes on its way
            entry.error = ObjectStoreError(f"the upload ended early: {error!r}")
            raise
        finally:
            self._queue.poke()

    def _uploaded(self, task: asyncio.Task[None]) -> None:
        self._uploads.pop(task, None)
        self._ask_soon()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("upload task failed", error=repr(error))

    # what the commit queue reports

    def _committed(self, flight: Flight, uploaded: Uploaded, committed: Committed) -> None:
        self._announce(flight, uploaded, committed)
        self._observer.committed(1, len(committed.outcomes), self._clock.monotonic() - flight.started_s)

    def _refuse_waiting(self, connections: dict[int, None] | None) -> None:
        """Fail what waits of these connections (None: of all)."""
        out = self._accumulator.remove(lambda item: connections is None or item.connection in connections)
        fail_items(out, self._lost)
        self._observer.failed(len(out))
        self._settle(sum(len(item.records) for item in out), len(out))

    def _left(self, flight: Flight) -> None:
        self._timers.pop(flight).cancel()
        self._ended_s = self._clock.monotonic()
        self._flight_s = self._ended_s - flight.started_s
        self._requests_expected = flight.requests + self._accumulator.requests
        self._settle(flight.bytes, len(flight.items))
        self._ask_soon()

    def _settle(self, bytes_: int, batches: int) -> None:
        self._unflushed -= bytes_ + BATCH_OVERHEAD_BYTES * batches
        if self._waiting_for_room and self._unflushed <= self._bytes_max * ROOM_SHARE:
            resumes, self._waiting_for_room = self._waiting_for_room, []
            for resume in resumes:
                resume()
        if self._unflushed == 0:
            self._idle.set()
