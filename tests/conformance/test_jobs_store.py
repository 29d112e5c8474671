"""Rows of jobs on every database: one holder, due by the database's clock, fenced; progress that outlives its holder."""

from __future__ import annotations

import asyncio

import pytest

from catalog.jobs import ERROR_LENGTH_MAX, HeldJob, JobKey, JobStore
from catalog.leases import LeaseLost, LeaseStore, check
from tests.conformance.database_kinds import OpenDatabase

LONG_MS = 600_000
SHORT_MS = 40
KEY = JobKey("compaction", "7")


@pytest.fixture
def jobs(migrated: OpenDatabase) -> JobStore:
    return JobStore(migrated.db)


async def held(jobs: JobStore, holder: str = "me", lease_ms: int = LONG_MS, key: JobKey = KEY) -> HeldJob:
    taken = await jobs.acquire(key, holder, lease_ms)
    assert taken is not None
    return taken


def test_a_scope_makes_another_lease() -> None:
    assert [JobKey("deletion").lease, KEY.lease] == ["deletion", "compaction/7"]


async def test_one_of_many_holds_a_job(migrated: OpenDatabase) -> None:
    jobs, other = JobStore(migrated.db), JobStore(await migrated.another())
    taken = await asyncio.gather(*((jobs, other)[i % 2].acquire(KEY, f"h{i}", LONG_MS) for i in range(6)))
    [one] = [job for job in taken if job is not None]
    assert (one.lease.name, one.progress, one.failures) == ("compaction/7", "", 0)
    assert await other.acquire(JobKey("compaction", "8"), "other", LONG_MS) is not None
    assert await other.acquire(KEY, "other", LONG_MS) is None
    assert await LeaseStore(migrated.db).acquire(KEY.lease, "other", LONG_MS) is None, "it is an ordinary lease"
    await migrated.db.transact(lambda tx: check(tx, one.lease.name, one.lease.epoch))


async def test_a_job_is_due_again_after_its_interval(jobs: JobStore) -> None:
    first = await held(jobs)
    await jobs.finish(first, LONG_MS)
    assert await jobs.acquire(KEY, "me", LONG_MS) is None
    now_ms, [row] = await jobs.all()
    assert row.key == KEY
    assert (row.holder, row.epoch, row.lease_until_ms) == ("me", first.lease.epoch, 0)
    assert row.last_success_ms is not None
    assert row.last_success_ms <= now_ms
    assert row.next_due_ms == row.last_success_ms + LONG_MS
    await jobs.hurry([KEY, JobKey("never heard of")])
    second = await held(jobs, "other")
    assert second.lease.epoch > first.lease.epoch
    await jobs.finish(second, SHORT_MS)
    assert await jobs.acquire(KEY, "me", LONG_MS) is None
    await asyncio.sleep(2 * SHORT_MS / 1000)
    await held(jobs)


async def test_the_next_holder_goes_on_from_the_progress(jobs: JobStore) -> None:
    first = await held(jobs, lease_ms=SHORT_MS)
    first = await jobs.save(first, "half", SHORT_MS)
    assert first.progress == "half"
    await asyncio.sleep(2 * SHORT_MS / 1000)
    second = await held(jobs, "heir")
    assert second.progress == "half"
    for late in (
        jobs.save(first, "late", LONG_MS),
        jobs.finish(first, 0),
        jobs.fail(first, "late", 0),
        jobs.succeeded(first, LONG_MS),
    ):
        with pytest.raises(LeaseLost):
            await late
    assert await jobs.renew_all([first], LONG_MS) == {}
    assert set(await jobs.renew_all([second], LONG_MS)) == {KEY}
    _, [row] = await jobs.all()
    assert (row.holder, row.progress, row.last_success_ms, row.last_error) == ("heir", "half", None, "")
    await jobs.finish(second, 0)
    assert (await held(jobs)).progress == "half"


async def test_failures_are_counted_until_a_success(jobs: JobStore) -> None:
    for failures in range(3):
        job = await held(jobs)
        assert job.failures == failures
        await jobs.fail(job, "no room\0" * ERROR_LENGTH_MAX, 0)
    _, [row] = await jobs.all()
    assert (row.failures, row.lease_until_ms, len(row.last_error)) == (3, 0, ERROR_LENGTH_MAX)
    assert row.last_error.startswith("no roomno room")
    job = await jobs.succeeded(await held(jobs), LONG_MS)
    assert job.failures == 0
    now_ms, [row] = await jobs.all()
    assert (row.failures, row.last_error) == (0, "")
    assert row.lease_until_ms > now_ms, "it goes on"
    assert row.last_success_ms is not None
    await jobs.fail(job, "x", LONG_MS)
    assert await jobs.acquire(KEY, "me", LONG_MS) is None


async def test_a_known_dead_holder_is_followed_at_once(jobs: JobStore) -> None:
    dead = await held(jobs, "child")
    assert await jobs.acquire(KEY, "other", LONG_MS, resume=True) is None
    heir = await jobs.acquire(KEY, "child", LONG_MS, resume=True)
    assert heir is not None
    assert heir.lease.epoch == dead.lease.epoch + 1
    with pytest.raises(LeaseLost):
        await jobs.finish(dead, 0)


async def test_leases_are_found_by_the_beginning_of_their_names(migrated: OpenDatabase) -> None:
    leases = LeaseStore(migrated.db)
    await leases.acquire("role:export:b", "b", LONG_MS)
    await leases.acquire("role:export:a", "a", LONG_MS)
    await leases.acquire("role:exporter", "c", LONG_MS)
    await leases.acquire("role:export:gone", "d", 1)
    await asyncio.sleep(0.01)
    found = await leases.held_by_prefix("role:export:")
    assert [(lease.name, lease.holder) for lease in found] == [("role:export:a", "a"), ("role:export:b", "b")]
