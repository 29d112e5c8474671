"""The local store's promises to the disk: what is flushed, in which order, and what a failure is called."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.clock import SystemClock
from broker.objects import local_files
from broker.objects.keys import InvalidKey
from broker.objects.local import LocalStore, UnsafeFsync, open_quietly
from broker.objects.local_layout import key_of, path_of
from broker.objects.port import AlreadyExists, Corrupt, OutcomeUnknown, Refused, Unavailable
from broker.objects.retrying import RetryingStore, RetryLimits

KEY = "c/segments/1/0000000001-0123456789abcdef"


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in order: paths for folders, "bytes" for a file without a name, "name" for a link."""
    events: list[str] = []
    fsync, link, replace = os.fsync, os.link, os.replace

    def record_fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        events.append(path if os.path.isdir(path) else "bytes")
        fsync(fd)

    def record(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def recorded(*args: Any, **options: Any) -> None:
            events.append(name)
            call(*args, **options)

        return recorded

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record("name", link))
    monkeypatch.setattr(os, "replace", record("name", replace))
    return events


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads the paths of open files from /proc")
@pytest.mark.parametrize(("if_absent", "anonymous"), [(True, True), (True, False), (False, True)])
async def test_bytes_then_name_then_folders_reach_the_disk(
    tmp_path: Path, flushed: list[str], if_absent: bool, anonymous: bool
) -> None:
    root = tmp_path / "objects"
    store = LocalStore(root)
    if not anonymous:
        store._files._anonymous = 0
    assert flushed[0] == str(tmp_path)
    assert str(tmp_path.parent) in flushed, "whoever made the folder of the store may not have flushed its name"
    assert flushed[-1] == str(root)
    flushed.clear()
    await store.put(KEY, [b"abc"], if_absent=if_absent)
    parents = [str(root), f"{root}/c", f"{root}/c/segments", f"{root}/c/segments/1"]
    folder = f"{root}/c/segments/1/~0000000"
    assert flushed == [*parents, "bytes", "name", folder]
    flushed.clear()
    await store.put(KEY.replace("01-", "02-"), [b"abc"], if_absent=if_absent)
    assert flushed == ["bytes", "name", folder]
    await store.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads the paths of open files from /proc")
async def test_folders_that_somebody_else_made_are_flushed_too(tmp_path: Path, flushed: list[str]) -> None:
    (tmp_path / "objects/c/tables").mkdir(parents=True)
    store = LocalStore(tmp_path / "objects")
    flushed.clear()
    await store.put("c/tables/x", [b"abc"])
    assert flushed[:2] == [f"{tmp_path}/objects", f"{tmp_path}/objects/c"]
    flushed.clear()
    with pytest.raises(AlreadyExists):
        await store.put("c/tables/x", [b"abc"])
    assert flushed[-1] == f"{tmp_path}/objects/c/tables", "a name that is taken may be taken for stored"
    await store.close()


async def test_never_flushes_only_when_told_and_warns(tmp_path: Path, flushed: list[str]) -> None:
    with pytest.warns(UnsafeFsync, match="can be lost"):
        store = LocalStore(tmp_path / "objects", "never")
    await store.put(KEY, [b"abc"])
    assert flushed == ["name"]
    await store.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await LocalStore(tmp_path / "objects").close()


@pytest.mark.filterwarnings("ignore::broker.objects.local.UnsafeFsync")
@pytest.mark.parametrize(("fsync", "size", "inline"), [("never", 9, True), ("never", 11, False), ("always", 9, False)])
async def test_only_small_objects_without_flushing_are_written_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Literal["always", "never"], size: int, inline: bool
) -> None:
    put, writers = local_files.LocalFiles.put, []

    def seen(*args: Any) -> None:
        writers.append(threading.current_thread())
        put(*args)

    monkeypatch.setattr(local_files.LocalFiles, "put", seen)
    store = LocalStore(tmp_path / "objects", fsync, inline_bytes=10)
    parts = [b"a" * (size - 1), b"b"]
    if not store.put_now(KEY, parts):
        await store.put(KEY, parts)
    assert await store.get(KEY) == b"a" * (size - 1) + b"b"
    assert [writer is threading.current_thread() for writer in writers] == [inline]
    with pytest.raises(AlreadyExists):
        await store.put(KEY, [b"a" * size])
    await store.close()


def _fail(code: int) -> Callable[..., Any]:
    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return failing


@pytest.mark.parametrize("anonymous", [True, False])
@pytest.mark.parametrize(("call", "code"), [("writev", errno.ENOSPC), ("fsync", errno.EIO), ("link", errno.EIO)])
async def test_a_failure_before_the_name_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, anonymous: bool
) -> None:
    store = LocalStore(tmp_path)
    if not anonymous:
        store._files._anonymous = 0
    await store.put("c/before", [b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _fail(code))
        with pytest.raises(Unavailable, match=os.strerror(code)):
            await store.put("c/failed", [b"abc"])
    assert [info.key async for page in store.list("") for info in page] == ["c/before"]
    assert os.listdir(tmp_path / ".tmp") == []
    await store.put("c/failed", [b"abc"])
    await store.close()


async def test_a_failure_after_the_name_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    await store.put("c/before", [b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(local_files, "_fsync_folder", _fail(errno.EIO))
        with pytest.raises(OutcomeUnknown):
            await store.put("c/failed", [b"abc"])
    assert await store.get("c/failed") == b"abc"
    await store.close()


def retrying(store: LocalStore, **limits: int) -> RetryingStore:
    bounds = RetryLimits(**({"attempts": 3, "backoff_ms": 1, "backoff_max_ms": 2} | limits))
    return RetryingStore(store, SystemClock(), random.Random(1), bounds)


async def test_a_name_that_is_not_flushed_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes can be read and compared, but they would be gone after a power cut: looking at them proves nothing."""
    store = LocalStore(tmp_path)
    await store.put("c/before", [b"x"])
    flush, failures = local_files._fsync_folder, [2]

    def failing(folder: str) -> None:
        failures[0] -= 1
        if failures[0] >= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(folder)

    monkeypatch.setattr(local_files, "_fsync_folder", failing)
    await retrying(store).put("c/twice", [b"abc"])
    assert failures == [-1], "tried until the name was flushed"
    failures[0] = 1_000_000
    with pytest.raises(OutcomeUnknown):
        await retrying(store).put("c/never", [b"abc"])
    await store.close()


async def test_a_name_whose_flush_hangs_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    await store.put("c/before", [b"x"])
    flush, healed = local_files._fsync_folder, threading.Event()

    def slow(folder: str) -> None:
        healed.wait()
        flush(folder)

    monkeypatch.setattr(local_files, "_fsync_folder", slow)
    try:
        with pytest.raises(OutcomeUnknown):
            await retrying(store, attempt_timeout_ms=50).put("c/slow", [b"abc"])
    finally:
        healed.set()
    assert (await store.get("c/slow")) == b"abc"
    await retrying(store).put("c/slow", [b"abc"])
    await store.close()


async def test_short_writes_go_on_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writev = os.writev

    def short(fd: int, parts: Any) -> int:
        first = next(part for part in parts if len(part))
        return writev(fd, [memoryview(first)[:3]])

    monkeypatch.setattr(os, "writev", short)
    store = open_quietly(tmp_path)
    await store.put("c/x", [b"0123456789", b"", b"ab", memoryview(b"cdefg")])
    assert await store.get("c/x") == b"0123456789abcdefg"
    await store.close()


@given(st.lists(st.integers(0, 3), max_size=40), st.data())
def test_write_groups_hold_every_byte_once_and_stay_within_bounds(sizes: list[int], data: st.DataObject) -> None:
    unit = local_files.WRITE_BYTES // 2
    parts = [
        bytes([n % 251]) * (size * unit - data.draw(st.integers(0, 1)) if size else 0) for n, size in enumerate(sizes)
    ]
    groups = list(local_files._write_groups(parts))
    assert b"".join(bytes(part) for group in groups for part in group) == b"".join(parts)
    assert all(sum(len(part) for part in group) <= local_files.WRITE_BYTES for group in groups)
    many = list(local_files._write_groups([b"x"] * 3000))
    assert [len(group) for group in many] == [1024, 1024, 952]


MIB = 1 << 20


async def test_large_reads_use_buffers_again_and_never_under_a_view(tmp_path: Path) -> None:
    store = open_quietly(tmp_path, pool_bytes_max=64 * MIB)
    pool = store._files._reads.pool
    assert pool is not None
    bodies = {f"c/{n}": bytes([n]) * (2 * MIB + n * 10_000) for n in range(6)}
    for key, body in bodies.items():
        await store.put(key, [body])
    held = [memoryview(await store.get(key))[MIB:] for key in bodies]  # a view of a view holds the buffer too
    assert (pool.made, pool.recycled) == (6, 0)
    for body, part in zip(bodies.values(), held, strict=True):
        assert part == body[MIB:]
    kept = held[-1]
    held.clear()
    del part
    for key in [*bodies, *bodies]:
        read = await store.get(key)
        assert isinstance(read, memoryview)
        assert not read.readonly
        assert read == bodies[key]
        read[:3] = b"\xff\xff\xff"  # the bytes are the caller's: neither file nor other readers see it
        del read
    assert kept == bodies["c/5"][MIB:]
    assert pool.recycled == 12
    await store.close()


async def test_pooled_reads_run_side_by_side_over_short_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: preadv(fd, [parts[0][: 300_000 + at % 7]], at))
    store = open_quietly(tmp_path, pool_bytes_max=8 * MIB)
    bodies = {f"c/{n}": random.Random(n).randbytes(MIB + n * 70_000) for n in range(8)}
    for key, body in bodies.items():
        await store.put(key, [body])
    for _ in range(3):
        read = await asyncio.gather(*(store.get(key) for key in bodies))
        assert all(found == body for found, body in zip(read, bodies.values(), strict=True))
        ranges = await asyncio.gather(*(store.get(key, 5, MIB) for key in bodies))
        assert all(found == body[5 : 5 + MIB] for found, body in zip(ranges, bodies.values(), strict=True))
    assert store._files._reads.pool is not None
    assert 0 < store._files._reads.pool.retired_bytes <= 8 * MIB
    await store.close()


@pytest.mark.parametrize("pool_bytes_max", [0, 8 * MIB])
async def test_a_file_that_is_cut_while_it_is_read_is_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool_bytes_max: int
) -> None:
    store = open_quietly(tmp_path, pool_bytes_max=pool_bytes_max)
    await store.put("c/x", [bytes(2 * MIB)])
    preadv, pread = os.preadv, os.pread
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: preadv(fd, [parts[0][: max(0, MIB - at)]], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, max(0, min(length, MIB - at)), at))
    with pytest.raises(Corrupt, match=f"ended at {MIB} while it was read, {2 * MIB} was expected"):
        await store.get("c/x")
    await store.close()


async def test_a_folder_that_went_away_is_made_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.put("c/d/x", [b"1"])
    (tmp_path / "c/d/x").unlink()
    (tmp_path / "c/d").rmdir()
    (tmp_path / "c").rmdir()
    await store.put("c/d/x", [b"2"])
    assert await store.get("c/d/x") == b"2"
    await store.close()


async def test_temporary_files_of_dead_processes_are_removed_and_nobody_else_s(tmp_path: Path) -> None:
    (tmp_path / ".tmp").mkdir()
    dead = 2**22 + 1  # above the largest pid of Linux
    for name in (f"aa-{dead}-0", f"aa-{os.getpid()}-0", "something else"):
        (tmp_path / ".tmp" / name).write_bytes(b"half")
    store = LocalStore(tmp_path)
    assert sorted(os.listdir(tmp_path / ".tmp")) == sorted([f"aa-{os.getpid()}-0", "something else"])
    assert [page async for page in store.list("")] == []
    with pytest.raises(InvalidKey):
        await store.get(".tmp/something else")
    await store.close()


async def test_tables_lie_where_other_programs_look(tmp_path: Path) -> None:
    store = open_quietly(tmp_path)
    (tmp_path / "c/tables/t/metadata").mkdir(parents=True)
    (tmp_path / "c/tables/t/metadata/1.json").write_bytes(b"{}")
    assert await store.get("c/tables/t/metadata/1.json") == b"{}"
    await store.put("c/tables/t/data/2.parquet", [b"x"])
    assert (tmp_path / "c/tables/t/data/2.parquet").read_bytes() == b"x"
    await store.close()


async def test_a_place_that_cannot_be_used_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused, match="make it writable or name another"):
        LocalStore(tmp_path / "file" / "objects")


async def test_calls_after_close_fail(tmp_path: Path) -> None:
    store = open_quietly(tmp_path)
    await store.put("c/x", [b"1"])
    await store.close()
    await store.close()
    with pytest.raises(RuntimeError, match="closed"):
        await store.get("c/x")


segment_names = st.from_regex(r"[0-9a-f]{1,12}-[0-9a-f]{16}", fullmatch=True)


@given(st.integers(0, 10**10), st.one_of(segment_names, st.text("ab~-01/", min_size=1, max_size=12)))
def test_the_layout_can_be_undone(epoch: int, name: str) -> None:
    key = f"cluster/segments/{epoch}/{name}"
    try:
        path = path_of(key)
    except InvalidKey:
        assert "/~" in key
        return
    assert key_of(path) == key


def test_a_large_epoch_is_spread_over_folders_of_neighbours() -> None:
    paths = [path_of(f"c/segments/7/{n:010}-{n:016x}") for n in range(0, 100_000)]
    folders: dict[str, int] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        folders[folder] = folders.get(folder, 0) + 1
    assert set(folders.values()) == {1000}
    assert len(set(paths)) == len(paths)
