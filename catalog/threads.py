"""A bounded pool of threads for blocking calls (files, SQLite), with one hop each way.

asyncio's executor chains two futures per call, which costs as much as writing a small file; here a thread takes the call
from a queue and sets the loop's future directly. The bound on waiting calls is the caller's (uploads_max and its like).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
CLOSE_S = 5.0
"""Longest wait for running calls at the end; a disk that hangs must not keep the process from ending."""
_Call = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """`threads` daemon threads, started at the first call. Calls run in the order they came, `threads` at a time."""

    def __init__(self, threads: int, name: str) -> None:
        assert threads > 0
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        self._started = False
        self._closed = False
        self._running = 0

    @property
    def idle(self) -> bool:
        """Nothing runs or waits: every call that was taken is over, and the loop has been told."""
        return self._running == 0

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """A future of `function(*args)`. When it is cancelled the call may still run: its outcome is then unknown."""
        if self._closed:
            raise RuntimeError("the threads are closed")
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._running += 1
        self._queue.put((loop, future, function, args))
        return future

    async def close(self) -> bool:
        """Finish the calls that were taken, then end the threads; those that hang for CLOSE_S are left behind (False)."""
        closed, self._closed = self._closed, True
        if self._started and not closed:
            for _ in self._threads:
                self._queue.put(None)
            await asyncio.to_thread(self._join)
        return not any(thread.is_alive() for thread in self._threads)

    def _join(self) -> None:
        until_s = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            loop, future, function, args = call
            # a loop that was closed meanwhile has nobody left to tell
            with contextlib.suppress(RuntimeError):
                try:
                    result = function(*args)
                except BaseException as error:
                    loop.call_soon_threadsafe(self._fail, future, error)
                else:
                    loop.call_soon_threadsafe(self._succeed, future, result)
            # the last call's buffers must not live until the next one comes
            del call, loop, future, function, args
            result = None

    def _succeed(self, future: asyncio.Future[Any], result: Any) -> None:
        self._running -= 1
        if not future.done():
            future.set_result(result)

    def _fail(self, future: asyncio.Future[Any], error: BaseException) -> None:
        self._running -= 1
        if not future.done():
            future.set_exception(error)
