"""The runner of jobs over a database in memory: turns go around, failures wait, leases are kept, lost and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from broker.jobs.port import Load, Turn
from broker.jobs.runner import JobRunner
from broker.objects.port import Unavailable
from catalog.inline import InlineDatabase
from catalog.jobs import JobKey, JobStore
from catalog.leases import LeaseLost
from catalog.migrate import migrate
from schemas.settings import Settings

NOW_MS = 1_800_000_000_000
SETTINGS: dict[str, Any] = {"job_lease_ms": 9_000, "job_poll_ms": 2_000, "job_turn_ms": 100, "job_slice_ms": 10}


@dataclass
class World:
    """A database whose clock, and a process whose clock, a test moves together."""

    now_ms: int = NOW_MS
    pauses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = InlineDatabase(self.wall_ms)
        self.store = JobStore(self.database)

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def runner(self, *jobs: Task, holder: str = "me", signal: Any = None, **settings: Any) -> JobRunner:
        clock = _Clock(self)
        made = Settings(**{**SETTINGS, **settings})
        return JobRunner(jobs, self.database.handle(), clock, made, holder=holder, signal=signal)

    async def row(self, key: JobKey) -> Any:
        _, rows = await self.store.all()
        return next(row for row in rows if row.key == key)


@dataclass
class _Clock:
    world: World

    def now_ms(self) -> int:
        return self.world.now_ms

    def monotonic(self) -> float:
        return self.world.now_ms / 1000


@dataclass
class Task:
    """A job that notes its turns and does what the test says."""

    name: str
    work: Callable[[Turn], Awaitable[bool]]
    interval_ms: int = 5_000
    seen: list[str] = field(default_factory=list)

    @property
    def key(self) -> JobKey:
        return JobKey(self.name)

    async def run_once(self, turn: Turn) -> bool:
        self.seen.append(turn.progress)
        return await self.work(turn)


@pytest.fixture
async def world() -> World:
    world = World()
    await migrate(world.database)
    return world


async def done(_: Turn) -> bool:
    return False


def works(world: World, ms: int, *, more: bool) -> Callable[[Turn], Awaitable[bool]]:
    async def work(_: Turn) -> bool:
        world.now_ms += ms
        return more

    return work


async def test_a_job_is_done_when_it_is_due_by_one_process(world: World) -> None:
    task = Task("tidy", done)
    one, other = world.runner(task), world.runner(task, holder="other")
    await one.step()
    assert len(task.seen) == 1
    assert await other.step() == pytest.approx(2.0), "polls: somebody may hurry it"
    assert await one.step() == pytest.approx(2.0)
    assert len(task.seen) == 1
    world.now_ms += 4_500
    assert await other.step() == pytest.approx(0.5)
    world.now_ms += 500
    await other.step()
    await one.step()
    assert len(task.seen) == 2
    assert (await world.row(task.key)).holder == "other"
    await world.store.hurry([task.key])
    await one.step()
    assert len(task.seen) == 3


async def test_jobs_with_endless_work_share_the_time(world: World) -> None:
    short, long = Task("a", works(world, 10, more=True)), Task("b", works(world, 100, more=True))
    late = Task("c", works(world, 10, more=True), interval_ms=1)
    runner = world.runner(short, long, late)
    for _ in range(120):
        await runner.step()
    worked = {key.name: counts.worked_s for key, counts in runner.counts.items()}
    assert max(worked.values()) - min(worked.values()) <= 0.2, worked
    assert len(short.seen) > 5 * len(long.seen)
    assert all(runner.holds(task.key) for task in (short, long, late)), "between its turns too"


async def test_a_job_with_endless_work_is_given_back_now_and_then(world: World) -> None:
    task = Task("a", works(world, 1_000, more=True))
    runner, other = world.runner(task, job_hold_ms=3_000), world.runner(task, holder="other")
    for _ in range(2):
        await runner.step()
        await other.step()
        assert runner.holds(task.key)
        assert not other.holds(task.key)
    await runner.step()
    assert not runner.holds(task.key)
    await other.step()
    assert other.holds(task.key)
    row = await world.row(task.key)
    assert (row.holder, row.last_success_ms) == ("other", world.now_ms)


async def test_whoever_takes_a_job_goes_on_from_the_progress(world: World) -> None:
    async def half(turn: Turn) -> bool:
        await turn.save("half")
        raise Unavailable("the store is away")

    task = Task("a", half)
    first, second = world.runner(task), world.runner(task, holder="second")
    await first.step()
    row = await world.row(task.key)
    assert (row.progress, row.failures, row.last_error) == ("half", 1, "Unavailable: the store is away")
    assert (row.next_due_ms, row.lease_until_ms) == (NOW_MS + 1_000, 0)
    world.now_ms += 1_000
    await second.step()
    assert task.seen == ["", "half"]
    assert (await world.row(task.key)).next_due_ms == world.now_ms + 2_000, "twice as long"
    world.now_ms += 2_000
    task.work = done
    await first.step()
    row = await world.row(task.key)
    assert (row.failures, row.last_error, row.last_success_ms) == (0, "", world.now_ms)
    assert not first.unforeseen


async def test_a_fault_of_a_job_stops_no_other(world: World) -> None:
    async def wrong(_: Turn) -> bool:
        raise ZeroDivisionError("of a kind nobody thought of")

    bad, good = Task("a", wrong), Task("b", done)
    runner = world.runner(bad, good)
    for _ in range(4):
        await runner.step()
    assert (len(bad.seen), len(good.seen)) == (1, 1)
    assert runner.unforeseen == ["a: ZeroDivisionError('of a kind nobody thought of')"]
    assert runner.counts[bad.key].failures == 1


async def test_a_turn_that_hangs_has_failed(world: World) -> None:
    async def hang(_: Turn) -> bool:
        await asyncio.Event().wait()
        return False

    task = Task("a", hang)
    runner = world.runner(task, job_turn_timeout_ms=30)
    await runner.step()
    assert (await world.row(task.key)).last_error == "TimeoutError: no end within 30 ms"
    assert not runner.holds(task.key)


async def test_a_holder_that_slept_past_its_lease_stops_and_changes_nothing(world: World) -> None:
    heir = Task("a", works(world, 0, more=True))
    other = world.runner(heir, holder="heir")

    async def sleep(turn: Turn) -> bool:
        world.now_ms += 9_000
        await other.step()
        with pytest.raises(LeaseLost):
            await turn.save("late")
        await turn.breathe()
        raise AssertionError("it was told")

    task = Task("a", sleep)
    runner = world.runner(task)
    await runner.step()
    assert runner.counts[task.key].losses == 1
    assert not runner.holds(task.key)
    row = await world.row(task.key)
    assert (row.holder, row.progress, row.last_error) == ("heir", "", "")
    assert row.lease_until_ms > world.now_ms


async def test_another_epoch_fences_a_holder_whose_lease_seems_fine(world: World) -> None:
    async def go_on(turn: Turn) -> bool:
        assert await world.store.acquire(task.key, "me", 9_000, resume=True) is not None
        await runner.renew()
        await turn.breathe()
        raise AssertionError("it was told")

    task = Task("a", go_on)
    runner = world.runner(task)
    await runner.step()
    assert runner.counts[task.key].losses == 1


async def test_leases_are_prolonged_during_a_long_turn(world: World) -> None:
    async def work(turn: Turn) -> bool:
        for _ in range(5):
            world.now_ms += 6_000
            await runner.renew()
            await turn.breathe()
        return False

    task = Task("a", work)
    runner = world.runner(task)
    await runner.step()
    assert (await world.row(task.key)).last_success_ms == world.now_ms
    assert runner.counts[task.key].losses == 0


async def test_a_dead_process_is_followed_after_its_lease_and_by_its_own_heir_at_once(world: World) -> None:
    task = Task("a", works(world, 0, more=True))
    dead, other = world.runner(task), world.runner(task, holder="other")
    await dead.step()
    world.now_ms += 8_999
    await other.step()
    assert not other.holds(task.key)
    heir = world.runner(task)
    await heir.step()
    assert heir.holds(task.key)
    world.now_ms += 9_001
    await other.step()
    assert other.holds(task.key)


async def test_closing_gives_back_what_is_held_and_calls_it_no_success(world: World) -> None:
    async def stopped(_: Turn) -> bool:
        raise asyncio.CancelledError

    task = Task("a", stopped)
    runner, other = world.runner(task), world.runner(task, holder="other")
    with pytest.raises(asyncio.CancelledError):
        await runner.step()
    await runner.close()
    row = await world.row(task.key)
    assert (row.lease_until_ms, row.last_success_ms, row.failures) == (0, None, 0)
    task.work = done
    await other.step()
    assert len(task.seen) == 2


@dataclass
class Signal:
    """A load that the test sets."""

    busy: float

    def load(self) -> Load:
        return Load(self.busy)


@pytest.mark.parametrize(("busy", "share"), [(0.0, 1.0), (0.55, 0.6), (1.0, 0.2)])
async def test_a_job_gives_way_while_clients_are_busy(
    world: World, monkeypatch: pytest.MonkeyPatch, busy: float, share: float
) -> None:
    async def sleep(seconds: float) -> None:
        world.now_ms += round(seconds * 1000)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    began_ms = world.now_ms
    pieces = 0

    async def work(turn: Turn) -> bool:
        nonlocal pieces
        while not turn.over:
            world.now_ms += 10
            pieces += 1
            await turn.breathe()
        return False

    task = Task("a", work)
    runner = world.runner(task, signal=Signal(busy), job_share_min=0.2, job_turn_ms=95, job_slice_ms=9)
    await runner.step()
    assert pieces == 10, "a turn is as much work, however loaded the agent is"
    counts = runner.counts[task.key]
    assert counts.worked_s == pytest.approx(0.1)
    assert counts.worked_s / (counts.worked_s + counts.rested_s) == pytest.approx(share, abs=0.03)
    assert world.now_ms - began_ms == pytest.approx(100 / share, abs=5)


async def test_running_goes_on_after_the_database_was_away(world: World) -> None:
    task = Task("a", done, interval_ms=1)
    runner = world.runner(task, job_poll_ms=1)
    failing = True
    real = runner._store.all

    async def all_() -> Any:
        if failing:
            from catalog.database import Unreachable

            raise Unreachable("away")
        return await real()

    runner._store.all = all_  # type: ignore[method-assign]
    running = asyncio.get_running_loop().create_task(runner.run())
    await asyncio.sleep(0.03)
    assert not task.seen
    failing = False
    for _ in range(200):
        await asyncio.sleep(0.005)
        if task.seen:
            break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert task.seen
