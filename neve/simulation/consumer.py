"""A simulated consumer: reads all partitions on and on with manual assignment, changes agents, asks for offsets in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from neve.simulation.batches import decode
from neve.simulation.history import History, Key, Listing, Poll
from neve.simulation.session import CONNECTION_FAILURES, Dialer, Session
from neve.simulation.wire import FETCH, LIST_OFFSETS, Fetched

LATEST, EARLIEST = -1, -2
OFFSET_OUT_OF_RANGE = 1


@dataclass(frozen=True)
class ConsumerPlan:
    """What one consumer does."""

    max_wait_ms: int
    max_bytes: int
    partition_max_bytes: int
    request_timeout_s: float
    move_share: float
    """Share of polls after which it moves to another agent."""
    listing_share: float
    """Share of polls after which it asks for offsets."""


class Consumer:
    """One consumer process. Positions go on across agents; `assign` begins anew from offset 0 as another process."""

    def __init__(
        self, name: str, plan: ConsumerPlan, dialer: Dialer, history: History, keys: list[Key], rng: random.Random
    ) -> None:
        self._client = name
        self._plan = plan
        self._dialer = dialer
        self._history = history
        self._keys = keys
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._assignments = 0
        self._session: Session | None = None
        self.stopping = False
        self.assign()

    def assign(self) -> None:
        """Every partition from the beginning."""
        self._assignments += 1
        self._process = f"{self._client}.{self._assignments}"
        self._positions = dict.fromkeys(self._keys, 0)
        self._out_of_range: dict[Key, None] = {}
        """To go on at the earliest offset, as clients do with auto.offset.reset=earliest."""

    def write_into(self, history: History) -> None:
        """What it reads from now on belongs to this history."""
        self._history = history
        self._dialer.write_into(history)

    def behind(self, ends: Mapping[Key, int]) -> dict[Key, int]:
        """Its positions where it hasn't read up to these offsets."""
        return {key: self._positions[key] for key, end in ends.items() if self._positions[key] < end}

    def close(self) -> None:
        """Drop the connection."""
        if self._session is not None:
            self._session.abort()

    async def run(self) -> None:
        """Poll until `stopping`."""
        while not self.stopping:
            await self._turn()

    async def read_to_end(self) -> None:
        """From the beginning until the offsets that ListOffsets answers now, in middling bites; for the end of a run."""
        self.assign()
        self._plan = replace(self._plan, max_bytes=6000, partition_max_bytes=1500, request_timeout_s=30.0)
        ends: dict[Key, int] | None = None
        while ends is None or any(self._positions[key] < end for key, end in ends.items()):
            if ends is None:
                ends = await self._guarded(self._ends)
            else:
                await self._guarded(self._reset if self._out_of_range else self._poll)
        if self._session is not None:
            self._session.close()

    async def _turn(self) -> None:
        await self._guarded(self._reset if self._out_of_range else self._poll)
        if self._rng.random() < self._plan.listing_share:
            await self._guarded(self._ends)
        if self._session is not None and self._rng.random() < self._plan.move_share:
            self._session.close()
            self._session = None
            self._dialer.leave_home()

    async def _guarded(self, step: object) -> dict[Key, int] | None:
        """One step on a live connection; None where the connection failed."""
        if self._session is None or not self._session.alive:
            self._session = await self._dialer.connect()
        try:
            return await step(self._session)  # type: ignore[operator, no-any-return]
        except CONNECTION_FAILURES:
            if self._session is not None:
                self._session.abort()
            self._session = None
            self._dialer.leave_home()
            await asyncio.sleep(self._rng.uniform(0.005, 0.1))
            return None

    async def _poll(self, session: Session) -> None:
        plan, codec = self._plan, session.codec
        asked = list(self._positions.items())
        self._rng.shuffle(asked)
        floors = {key: self._history.floor(key) for key in self._keys}
        starts = {key: self._history.agent_starts.get((session.agent, key), 0) for key in self._keys}
        body = codec.fetch(asked, plan.max_wait_ms, plan.max_bytes, plan.partition_max_bytes, session.topics)
        cursor = await session.call(FETCH, codec.generation.fetch, body, plan.request_timeout_s)
        error, parts = codec.fetched(cursor, session.topics)
        if error:
            self._history.told("fetch", error)
            raise ConnectionError(f"Fetch error {error}")
        failed = 0
        for key, part in parts.items():
            failed += not self._take(session, key, part, floors[key], starts[key])
        if failed:
            await asyncio.sleep(self._rng.uniform(0.02, 0.2))
            if self._rng.random() < 0.3:
                raise ConnectionError("try another agent")

    def _take(self, session: Session, key: Key, part: Fetched, floor: int, start_floor: int) -> bool:
        asked = self._positions[key]
        decoded = decode(part.records, asked)
        self._history.polled(
            Poll(
                self._loop.time(),
                self._process,
                session.name,
                key,
                asked,
                part.error,
                part.high_watermark,
                part.log_start,
                decoded.records,
                floor,
                decoded.batches,
                decoded.corrupt,
                start_floor,
            )
        )
        if part.error:
            self._history.told("fetch", part.error)
            if part.error == OFFSET_OUT_OF_RANGE:
                self._out_of_range[key] = None
        elif decoded.records:
            self._positions[key] = decoded.records[-1].offset + 1
        return part.error == 0

    async def _reset(self, session: Session) -> None:
        """Go on at the earliest offset where that was out of range."""
        earliest = await self._list(session, EARLIEST)
        for key in list(self._out_of_range):
            self._positions[key] = earliest[key]
        self._out_of_range.clear()

    async def _ends(self, session: Session) -> dict[Key, int]:
        """Latest offsets of all partitions; asks for the earliest too."""
        await self._list(session, EARLIEST)
        return await self._list(session, LATEST)

    async def _list(self, session: Session, which: int) -> dict[Key, int]:
        codec, history = session.codec, self._history
        floors = {
            key: history.floor(key) if which == LATEST else history.start_floors.get(key, 0) for key in self._keys
        }
        body = codec.list_offsets([(key, which) for key in self._keys], session.topics)
        cursor = await session.call(LIST_OFFSETS, codec.generation.list_offsets, body, self._plan.request_timeout_s)
        found: dict[Key, int] = {}
        for key, answer in codec.listed(cursor).items():
            history.listings.append(
                Listing(self._loop.time(), session.name, key, which, answer.error, answer.offset, floors[key])
            )
            if answer.error:
                history.told("list_offsets", answer.error)
                raise ConnectionError(f"ListOffsets error {answer.error}")
            found[key] = answer.offset
            if which == EARLIEST:
                history.start_told(key, answer.offset)
        return found
