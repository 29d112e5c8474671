"""What the tests of clients share: all drivers, started at once; a topic; waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.clients.drivers import CLIENTS, Driver, running
from tests.conftest import refuse
from tests.counterparts import CounterpartMissing

T = TypeVar("T")
HOUR_MS = 3_600_000


class Drivers:
    """The drivers by client; asking for one that is missing here skips the test, or fails it."""

    def __init__(self, found: dict[str, Driver | CounterpartMissing]) -> None:
        self._found = found

    def __getitem__(self, client: str) -> Driver:
        found = self._found[client]
        if isinstance(found, CounterpartMissing):
            refuse(found)
            raise found
        return found

    @property
    def here(self) -> list[Driver]:
        """Those that can be had, in order."""
        return [self[client] for client in CLIENTS if not isinstance(self._found[client], CounterpartMissing)]


@contextlib.contextmanager
def all_drivers(folder: Path) -> Iterator[Drivers]:
    """Every driver that can be had on this machine."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(CLIENTS)) as pool:
        started: dict[str, Driver | CounterpartMissing] = {}

        def start(client: str) -> Driver | CounterpartMissing:
            try:
                return stack.enter_context(running(client, folder / client))
            except CounterpartMissing as missing:
                return missing

        started.update(zip(CLIENTS, pool.map(start, CLIENTS), strict=True))
        yield Drivers(started)


def at_once(work: Callable[[Driver], T], drivers: list[Driver]) -> dict[str, T]:
    """Run something with every driver at the same time."""
    with ThreadPoolExecutor(len(drivers)) as pool:
        return dict(zip([each.client for each in drivers], pool.map(work, drivers), strict=True))


def an_hour_ago() -> int:
    """Where record sets begin in time: far enough back that no record is from the future."""
    return time.time_ns() // 1_000_000 - HOUR_MS


def wait_for(what: Callable[[], bool], message: Callable[[], str], seconds: float = 60) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, message()
        time.sleep(0.05)
