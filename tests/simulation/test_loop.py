"""The simulated loop: same seed same order, virtual time, paused and dead hosts, deadlock and livelock."""

from __future__ import annotations

import asyncio

import pytest

from neve.simulation.hosts import HOST, Host
from neve.simulation.loop import SimLoop, SimulationStuck


def run(seed: int, fifo_share: float = 0.0) -> tuple[str, list[str]]:
    loop = SimLoop(seed, fifo_share=fifo_share)
    seen: list[str] = []

    async def work(name: str) -> None:
        for _turn in range(5):
            await asyncio.sleep(0)
            seen.append(name)
        async with asyncio.timeout(10):
            await asyncio.sleep(3600 if name == "never" else 1)

    async def main() -> None:
        await asyncio.gather(*(work(f"w{i}") for i in range(4)))
        assert await asyncio.to_thread(lambda: 7) == 7

    loop.run_until_complete(main())
    digest = loop.digest()
    assert loop.time() < 2
    assert loop.errors == []
    loop.close()
    return digest, seen


def test_one_seed_gives_one_trace_and_another_seed_another() -> None:
    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]
    assert run(1)[1] != sorted(run(1)[1])


def test_fifo_share_of_one_keeps_the_order_of_asyncio() -> None:
    assert run(3, fifo_share=1.0)[1] == ["w0", "w1", "w2", "w3"] * 5


def test_hours_pass_in_no_time() -> None:
    loop = SimLoop(1, seconds_max=10_000)
    loop.run_until_complete(asyncio.sleep(7200))
    assert loop.time() == pytest.approx(7200)
    loop.close()


def test_deadlock_is_found() -> None:
    loop = SimLoop(1)
    with pytest.raises(SimulationStuck, match="DEADLOCK"):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_livelock_is_found() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    loop = SimLoop(1, steps_still_max=1000)
    with pytest.raises(SimulationStuck, match="LIVELOCK"):
        loop.run_until_complete(spin())
    loop.close()


def test_a_paused_host_stands_still_and_a_dead_one_never_wakes() -> None:
    loop = SimLoop(5)
    ticks: dict[str, list[float]] = {"a": [], "b": []}
    cleaned: list[str] = []

    async def tick(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                ticks[name].append(loop.time())
        finally:
            cleaned.append(name)

    async def main() -> None:
        hosts = {name: Host(name) for name in "ab"}
        for name, host in hosts.items():
            token = HOST.set(host)
            loop.create_task(tick(name))
            HOST.reset(token)
        await asyncio.sleep(2.5)
        loop.pause(hosts["a"])
        loop.kill(hosts["b"])
        await asyncio.sleep(10)
        assert cleaned == []
        loop.resume(hosts["a"])
        await asyncio.sleep(2)

    loop.run_until_complete(main())
    assert ticks["a"][:2] == [1, 2]
    assert ticks["a"][2] == 12.5
    assert ticks["b"] == [1, 2]
    loop.close()
    assert sorted(cleaned) == ["a", "b"]


def test_an_unhandled_error_is_kept() -> None:
    loop = SimLoop(1)
    loop.call_later(1, lambda: 1 // 0)
    loop.run_until_complete(asyncio.sleep(2))
    assert isinstance(loop.errors[0]["exception"], ZeroDivisionError)
    loop.close()
