"""A seeded event loop in virtual time: one seed, one order of callbacks, one trace.

`SimLoop` runs unmodified asyncio code (tasks, futures, timeouts, queues, task groups) on one thread. It owns I10: the same
seed gives the same trace digest in every process, whatever the hash seed and the allocator. Rules that keep it so:

- ready callbacks are picked by the loop's own `random.Random`, never by address or hash;
- order-bearing data sits in a queue, the event only says "pump" (equal times would otherwise reorder it);
- tasks get names from a counter of this loop; a set of tasks is never iterated.

Every callback belongs to a `Host` (a context variable that tasks inherit). A paused host's callbacks are held back until
it is resumed, as SIGSTOP does; a dead host's are dropped for ever, as SIGKILL does, without running any clean-up.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import heapq
import random
from asyncio import events, futures, tasks
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from neve.simulation.hosts import HOST, Host

if TYPE_CHECKING:
    from neve.simulation.network import SimNetwork

T = TypeVar("T")
TRACE_CHUNK_LINES = 512

_Loop: Any = asyncio.AbstractEventLoop
"""Untyped here: what a single-threaded loop in virtual time can't do (signals, pipes, sockets) stays NotImplementedError."""


class SimulationStuck(AssertionError):
    """The simulated system can't go on: nothing left to run (deadlock), or it runs without end (livelock)."""


def callback_name(callback: Any) -> str:
    """A name of `callback` that is the same in every process: the task's, or the function's qualified name."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    inner = getattr(callback, "func", None)
    if inner is not None:
        return callback_name(inner)
    return getattr(callback, "__qualname__", None) or type(callback).__name__


def _is_step(handle: asyncio.Handle) -> bool:
    return isinstance(getattr(handle._callback, "__self__", None), asyncio.Task)  # type: ignore[attr-defined]


class SimLoop(_Loop):  # type: ignore[misc]
    """The loop. `fifo_share` is the share of picks that take the oldest ready callback instead of a random one.

    `steps_max` bounds callbacks in all (livelock), `steps_still_max` those at one virtual instant, and `seconds_max` the
    virtual time; beyond any of them `SimulationStuck` is raised with the names of what was running.
    """

    def __init__(
        self,
        seed: int,
        *,
        fifo_share: float = 0.0,
        steps_max: int = 5_000_000,
        steps_still_max: int = 100_000,
        seconds_max: float = 3600.0,
        keep_trace: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.errors: list[dict[str, Any]] = []
        self.steps = 0
        self.network: SimNetwork | None = None
        self.world = contextvars.Context()
        self.trace: list[str] | None = [] if keep_trace else None
        self.at_step: dict[int, Callable[[], None]] = {}
        """What to do right before a certain step: crashes between any two callbacks."""
        self._fifo_share = fifo_share
        self._steps_max = steps_max
        self._steps_still_max = steps_still_max
        self._seconds_max = seconds_max
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._task_count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopped: list[Host] = []
        self._stopping = False
        self._running = False
        self._closed = False
        self._hash = hashlib.sha256()
        self._lines: list[str] = []
        self._stamp = "0.000000000"

    # Time and scheduling

    def time(self) -> float:
        """Virtual seconds since the run began."""
        return self._now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Queue a callback at the present instant."""
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same as call_soon: there are no threads here."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Queue a callback `delay` virtual seconds from now."""
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Queue a callback at a virtual time."""
        handle = events.TimerHandle(when, callback, args, self, context)
        handle._scheduled = True  # type: ignore[attr-defined]
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio calls this; cancelled timers are dropped when they come up."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return futures.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **_options: object,
    ) -> asyncio.Task[T]:
        """A task named by this loop's own counter (the process-wide one of asyncio would differ between runs)."""
        self._task_count += 1
        label = f"t{self._task_count}" if name is None else f"{name}#{self._task_count}"
        task: asyncio.Task[T] = tasks.Task(coro, loop=self, name=label, context=context)
        self._tasks.append(task)
        if len(self._tasks) > 4096:
            self._tasks = [each for each in self._tasks if not each.done()]
        return task

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run `func` on this thread after a seeded delay; there is no pool."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # the pool hands any exception to the waiter
                future.set_exception(error)

        self.call_later(self.rng.uniform(0.0001, 0.005), work)
        return future

    # Running

    def run_forever(self) -> None:
        """Run until stopped. Raises SimulationStuck on deadlock and livelock."""
        if self._running:
            raise RuntimeError("the loop is already running")
        events._set_running_loop(self)
        self._stopping, self._running = False, True
        try:
            self._run()
        finally:
            self._running = False
            events._set_running_loop(None)

    def _run(self) -> None:
        ready, rng, still = self._ready, self.rng, 0
        while not self._stopping:
            if not ready:
                self._advance()
                still = 0
                continue
            if len(ready) == 1:
                handle = ready.pop()
            elif self._fifo_share and rng.random() < self._fifo_share:
                handle = ready.pop(0)
            else:
                at = rng.randrange(len(ready))
                handle = ready[at]
                ready[at] = ready[-1]
                ready.pop()
            if handle.cancelled():
                continue
            host = handle._context.get(HOST)  # type: ignore[attr-defined]
            if host is not None and (host.paused or not host.alive):
                host.held.append(handle)
                continue
            still += 1
            self._count(handle, still)
            if self.at_step and self.steps in self.at_step:
                self.at_step.pop(self.steps)()
            handle._run()

    def _count(self, handle: asyncio.Handle, still: int) -> None:
        self.steps += 1
        name = callback_name(handle._callback)  # type: ignore[attr-defined]
        line = f"{self._stamp} {name}\n"
        self._lines.append(line)
        if self.trace is not None:
            self.trace.append(line)
        if len(self._lines) >= TRACE_CHUNK_LINES:
            self._digest_lines()
        if self.steps > self._steps_max or still > self._steps_still_max:
            self._digest_lines()
            raise SimulationStuck(f"LIVELOCK at {self._now:.3f} s after {self.steps} steps, last {name}")

    def _advance(self) -> None:
        """Move virtual time to the next timer and make everything due ready."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise SimulationStuck(f"DEADLOCK at {self._now:.3f} s: nothing is left to run; waiting: {self.waiting()}")
        self._now = max(self._now, timers[0][0])
        self._stamp = f"{self._now:.9f}"
        if self._now > self._seconds_max:
            raise SimulationStuck(f"LIVELOCK: {self._now:.0f} virtual seconds passed; waiting: {self.waiting()}")
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            handle._scheduled = False  # type: ignore[attr-defined]
            if not handle.cancelled():
                self._ready.append(handle)

    def waiting(self, count_max: int = 12) -> str:
        """Names of the first tasks that aren't done, for messages."""
        names = [task.get_name() for task in self._tasks if not task.done()]
        return ", ".join(names[:count_max]) + (" ..." if len(names) > count_max else "")

    def run_until_complete(self, future: Any) -> Any:
        """Run until `future` is done and return its result."""
        task = tasks.ensure_future(future, loop=self)
        task.add_done_callback(lambda _done: self.stop())
        self.run_forever()
        return task.result()

    def stop(self) -> None:
        """Stop after the callback that runs now."""
        self._stopping = True

    def is_running(self) -> bool:
        """True inside run_forever."""
        return self._running

    def is_closed(self) -> bool:
        """True after close."""
        return self._closed

    # Hosts

    def pause(self, host: Host) -> None:
        """Hold back every callback of `host` until it is resumed."""
        host.paused = True
        self._stopped.append(host)

    def resume(self, host: Host) -> None:
        """Let a paused host run on; what was held back becomes ready in its old order."""
        host.paused = False
        if host.alive:
            self._ready.extend(host.held)
            host.held = []

    def kill(self, host: Host) -> None:
        """Drop a host for ever. Its tasks stay where they are: no clean-up runs, as after SIGKILL."""
        host.alive = False
        self._stopped.append(host)

    # End

    def digest(self) -> str:
        """SHA-256 over (virtual time, name) of every callback that ran so far."""
        self._digest_lines()
        return self._hash.copy().hexdigest()

    def _digest_lines(self) -> None:
        self._hash.update("".join(self._lines).encode())
        self._lines.clear()

    def close(self) -> None:
        """Cancel what is left, let it unwind (untraced, hosts revived, bounded), and close."""
        if self._closed:
            return
        if self.network is not None:
            self.network.shut()
        self._unwind()
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()
        self._closed = True

    def _unwind(self) -> None:
        events._set_running_loop(self)
        try:
            for _round in range(20):
                left = [task for task in self._tasks if not task.done()]
                if not left:
                    break
                for task in left:
                    task.cancel()
                for host in self._stopped:
                    self._ready += [handle for handle in host.held if _is_step(handle)]
                    host.held = []
                self._run_ready(20_000)
        finally:
            events._set_running_loop(None)
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if task.done() and not task.cancelled():
                task.exception()

    def _run_ready(self, steps_max: int) -> None:
        for _step in range(steps_max):
            if not self._ready:
                return
            handle = self._ready.pop(0)
            if not handle.cancelled():
                handle._run()

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators are closed with their tasks."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to do: there is no executor."""

    # Network

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Listen in the simulated network, on the host that calls."""
        assert self.network is not None, "this loop has no network"
        return await self.network.create_server(protocol_factory, host, port, **options)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connect through the simulated network, from the host that calls."""
        assert self.network is not None, "this loop has no network"
        return await self.network.create_connection(protocol_factory, host, port, **options)

    # Errors and debugging

    def get_debug(self) -> bool:
        """Always off: debug mode reads the real clock."""
        return False

    def set_debug(self, enabled: bool) -> None:
        """Ignored."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the error: a run with any fails."""
        self.errors.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep the error: a run with any fails."""
        self.errors.append(context)
