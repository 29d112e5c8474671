"""Reads a topic once more from its log start and compares it with what the ledger remembers, range by range."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from neve.simulation.batches import decode
from neve.simulation.history import History, Key
from neve.simulation.session import CONNECTION_FAILURES, Dialer, Session
from neve.simulation.wire import FETCH, LIST_OFFSETS
from neve.workload.ledger import Ledger, Range, digest_of
from neve.workload.plan import Outcome

EARLIEST = -2
FETCH_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 30.0
CHANGED_LATER = "changed_later"


class Auditor:
    """One reader with a connection of its own. Remembers at most one range of records at a time."""

    def __init__(self, dialer: Dialer, outcome: Outcome, patience_s: float) -> None:
        self._dialer = dialer
        self._outcome = outcome
        self._patience_s = patience_s
        self._session: Session | None = None
        self._loop = asyncio.get_running_loop()

    async def audit(self, ledger: Ledger, history: History) -> None:
        """Compare every range that lies wholly at or above the log start. Findings go into the outcome."""
        for key in history.append_time:
            ranges = ledger.ranges.get(key)
            start = await self._start(key) if ranges else None
            if ranges and start is not None and not await self._one(key, ranges, start):
                break
        if self._session is not None:
            self._session.close()

    async def _one(self, key: Key, ranges: list[Range], start: int) -> bool:
        for each in ranges:
            if each.offset_first < start:
                continue
            found = await self._read(key, each)
            if found is None:
                return False
            count, digest = digest_of(sorted(found.items()))
            self._outcome.audited += count
            if digest != each.digest:
                self._outcome.found(
                    CHANGED_LATER,
                    f"{key} offsets {each.offset_first} to {each.offset_next}: {count} records, {each.records} were there "
                    "when they were judged, or their values are others now",
                )
        return True

    async def _start(self, key: Key) -> int | None:
        async def ask(session: Session) -> int:
            codec = session.codec
            body = codec.list_offsets([(key, EARLIEST)], session.topics)
            answer = codec.listed(await session.call(LIST_OFFSETS, codec.generation.list_offsets, body, TIMEOUT_S))[key]
            if answer.error:
                raise ConnectionError(f"ListOffsets error {answer.error}")
            return answer.offset

        return await self._patiently(f"log start of {key}", ask)

    async def _read(self, key: Key, wanted: Range) -> dict[int, bytes] | None:
        found: dict[int, bytes] = {}
        at = wanted.offset_first

        async def ask(session: Session) -> int:
            codec = session.codec
            body = codec.fetch([(key, at)], 500, FETCH_BYTES, FETCH_BYTES, session.topics)
            error, parts = codec.fetched(
                await session.call(FETCH, codec.generation.fetch, body, TIMEOUT_S), session.topics
            )
            if error or parts[key].error:
                raise ConnectionError(f"Fetch error {error or parts[key].error}")
            records = decode(parts[key].records, at).records
            if not records:
                raise ConnectionError("nothing came")
            found.update((record.offset, record.value) for record in records if record.offset < wanted.offset_next)
            return records[-1].offset + 1

        while at < wanted.offset_next:
            following = await self._patiently(f"{key} from offset {at}", ask)
            if following is None:
                return None
            at = following
        return found

    async def _patiently(self, what: str, ask: Callable[[Session], Awaitable[int]]) -> int | None:
        """Ask until there is an answer; None, with a finding, where there is none for too long."""
        until_s = self._loop.time() + self._patience_s
        while True:
            try:
                async with asyncio.timeout_at(until_s + TIMEOUT_S):
                    if self._session is None or not self._session.alive:
                        self._session = await self._dialer.connect()
                    return await ask(self._session)
            except CONNECTION_FAILURES as error:
                if self._session is not None:
                    self._session.abort()
                self._session = None
                self._dialer.leave_home()
                if self._loop.time() > until_s:
                    self._outcome.found("stuck", f"the audit can't read {what}: {error}")
                    return None
                await asyncio.sleep(0.1)
