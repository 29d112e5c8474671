"""When a flush is due: a decision over values, so that the simulation and the tests ask the same question as the agent.

A flush is due `interval_s` after its first byte, at `bytes_max` or at `shards_max` distinct shards. It is brought
forward when fewer than `eager_flushes` flushes are on their way (uploading or committing) and `interval_min_s` has
passed since the last one began: a fixed timer would starve a producer that has at most five requests in flight, while
flushing on every request would make many tiny objects. While a flush is on its way the next one gathers; when it has
ended, the next waits a moment (`gather_s`) until as many requests are there as were outstanding, because producers that
were just answered are about to send again. A producer with one request in flight never waits for company.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Reason = Literal["bytes", "shards", "interval", "eager", "drain", "wait"]


class FlushLimits(NamedTuple):
    """The bounds of the policy; seconds on the monotonic clock."""

    interval_s: float
    interval_min_s: float
    bytes_max: int
    shards_max: int
    uploads_max: int
    eager_flushes: int
    gather_s: float = 0.0
    """Longest wait of an eager flush for the producers that were just answered to send again."""


class BufferState(NamedTuple):
    """What the accumulator and the writer know at one moment."""

    bytes: int
    shards: int
    first_s: float
    """When the first byte of this flush arrived."""
    last_start_s: float
    """When the last flush began; -inf before the first."""
    uploads: int
    """Uploads running."""
    flushes: int
    """Flushes on their way: uploading, uploaded or committing."""
    draining: bool = False
    requests: int = 1
    """Produce requests waiting in the buffer."""
    requests_expected: int = 1
    """Requests that were outstanding when the last flight ended: those it answered and those that waited then."""
    ended_s: float = float("-inf")
    """When the last flight ended."""
    flight_s: float = 0.0
    """How long the last flight took from its first byte: waiting longer than that for company can't pay."""


class FlushPlan(NamedTuple):
    """Whether to flush now, why, and else after how many seconds to ask again (None: only when something changes)."""

    flush: bool
    reason: Reason
    wait_s: float | None


def plan_flush(state: BufferState, now_s: float, limits: FlushLimits) -> FlushPlan:
    """Decide. A buffer that is full never waits for a free upload: it becomes a segment and queues as one."""
    if state.bytes == 0:
        return FlushPlan(False, "wait", None)
    if state.bytes >= limits.bytes_max:
        return FlushPlan(True, "bytes", None)
    if state.shards >= limits.shards_max:
        return FlushPlan(True, "shards", None)
    if state.uploads >= limits.uploads_max:
        return FlushPlan(False, "wait", None)
    if state.draining:
        return FlushPlan(True, "drain", None)
    due_s = state.first_s + limits.interval_s
    if now_s >= due_s:
        return FlushPlan(True, "interval", None)
    if state.flushes < limits.eager_flushes:
        eager_s = state.last_start_s + limits.interval_min_s
        if state.requests < state.requests_expected:
            eager_s = max(eager_s, state.ended_s + min(limits.gather_s, state.flight_s))
        due_s = min(due_s, eager_s)
        if now_s >= due_s:
            return FlushPlan(True, "eager", None)
    return FlushPlan(False, "wait", due_s - now_s)
