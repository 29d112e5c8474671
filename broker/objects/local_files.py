"""The blocking file calls of the local store; they run in its threads. What they promise stands in `local`.

Foreign exceptions (OSError) become the port's here: before a name exists a failure is Unavailable, after it, OutcomeUnknown.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from broker.objects.local_apart import set_apart
from broker.objects.local_layout import TEMPORARY, key_of, path_of
from broker.objects.local_reads import LocalReads
from broker.objects.port import AlreadyExists, Buffer, NotFound, ObjectInfo, OutcomeUnknown, Unavailable

PARTS_PER_WRITE = 1024
"""IOV_MAX of Linux and macOS."""
WRITE_BYTES = 64 << 10
"""Most bytes of one write call. Larger ones ask for larger pieces of page cache, which a virtual machine more often has to
get from its host first: interleaved runs of 8 MiB took 2 ms (64 KiB) against 2 to 22 ms (256 KiB and more). It makes that
rarer, it doesn't end it: on memory never touched before, every size takes about 20 ms."""
FLUSHED_FOLDERS_MAX = 10_000
"""Folders remembered as flushed; beyond it the memory starts anew, which costs flushes only."""
_ANONYMOUS = getattr(os, "O_TMPFILE", 0)
_FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_LINK_TRIES = 3


class LocalFiles:
    """Files below `root`, safe for use from several threads and processes."""

    def __init__(self, root: Path, *, flush: bool, pool_bytes_max: int = 0) -> None:
        self._reads = LocalReads(pool_bytes_max)
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        set_apart(str(self.root))
        self._base = f"{self.root}/"
        self._flush = flush
        self._anonymous = _ANONYMOUS
        self._flushed: dict[str, None] = {}
        self._unflushed: dict[str, None] = {}
        """Paths this process has named, or is about to, and whose name isn't known to be on disk: `head` doesn't vouch
        for them, because a writer that lost its answer asks it whether the object is stored."""
        self._temporary = f"{self._base}{TEMPORARY}/"
        # names only have to differ between processes that share the folder, whatever their pids
        self._owner = f"{secrets.token_hex(8)}-{os.getpid()}"
        self._counter = itertools.count()  # its next() is atomic between threads
        os.makedirs(self._temporary, exist_ok=True)
        self._remove_stale()
        if flush:
            _flush_way_to(self.root)
            _fsync_folder(str(self.root))

    def put(self, key: str, parts: Sequence[Buffer], if_absent: bool) -> None:
        """Write, flush, name, flush the name."""
        path = self._base + path_of(key)
        folder = path.rpartition("/")[0]
        first = path not in self._unflushed  # else an earlier attempt may have named it, or may yet
        if self._flush:
            self._unflushed[path] = None
        try:
            named = self._place(key, path, folder, parts, if_absent)
        except OSError as error:
            if first:
                self._unflushed.pop(path, None)
            raise Unavailable(f"cannot write {path}: {error.strerror}") from error
        try:
            if self._flush:
                _fsync_folder(folder)
                self._unflushed.pop(path, None)
        except OSError as error:
            raise OutcomeUnknown(f"cannot flush the folder of {path}: {error.strerror}") from error
        if not named:
            raise AlreadyExists(key)

    def _place(self, key: str, path: str, folder: str, parts: Sequence[Buffer], if_absent: bool) -> bool:
        """True when the name is ours, False when it was taken. OSError means that nothing was named."""
        for again in range(_LINK_TRIES):
            try:
                if again or self._flush:
                    self._make_folder(folder)
                if if_absent and self._anonymous:
                    return self._link_anonymous(path, folder, parts)
                return self._link_named(path, parts, if_absent)
            except FileNotFoundError:
                # the folder isn't there (yet, or any more): make it and write again
                self._flushed.clear()
        raise Unavailable(f"the folder of {key} goes away while it is written to")

    def _link_anonymous(self, path: str, folder: str, parts: Sequence[Buffer]) -> bool:
        try:
            fd = os.open(folder, os.O_WRONLY | self._anonymous | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            self._anonymous = 0  # this file system can't; named files from now on
            return self._link_named(path, parts, True)
        try:
            self._write(fd, parts)
            # a directory descriptor makes Python call linkat with AT_SYMLINK_FOLLOW; it is not used, the path is absolute
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
        except FileExistsError:
            return False
        finally:
            os.close(fd)
        return True

    def _link_named(self, path: str, parts: Sequence[Buffer], if_absent: bool) -> bool:
        temporary = f"{self._temporary}{self._owner}-{next(self._counter)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        placed = False
        try:
            try:
                self._write(fd, parts)
            finally:
                os.close(fd)
            if if_absent:
                os.link(temporary, path)
            else:
                os.replace(temporary, path)
                placed = True
        except FileExistsError:
            return False
        finally:
            if not placed:
                os.unlink(temporary)
        return True

    def _write(self, fd: int, parts: Sequence[Buffer]) -> None:
        for group in _write_groups(parts):
            _write_all(fd, group)
        if self._flush:
            _fsync(fd)

    def _make_folder(self, folder: str) -> None:
        """Make the folder and its parents, and flush each name on the way once per process."""
        if folder in self._flushed or len(folder) < len(self._base):
            return
        parent = folder.rpartition("/")[0]
        self._make_folder(parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            pass
        if self._flush:
            _fsync_folder(parent)
        if len(self._flushed) >= FLUSHED_FOLDERS_MAX:
            self._flushed.clear()
        self._flushed[folder] = None

    def get(self, key: str, start: int, length: int | None) -> memoryview:
        """The bytes of a range, cut at the end."""
        path = self._base + path_of(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                if stat.S_ISDIR(found.st_mode):
                    raise NotFound(key)
                rest = max(0, found.st_size - start)
                wanted = rest if length is None else min(length, rest)
                return self._reads.read(fd, start, wanted, path)
            finally:
                os.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(key) from None
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error

    def head(self, key: str) -> ObjectInfo:
        """Size and time. Unavailable while the name isn't known to be on disk: putting again settles that."""
        path = self._base + path_of(key)
        if path in self._unflushed:
            raise Unavailable(f"{path} was written, but its folder could not be flushed yet")
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(key) from None
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        if not os.path.isfile(path):
            raise NotFound(key)
        return ObjectInfo(key, found.st_size, found.st_mtime_ns // 1_000_000)

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Unlink. Folders stay: taking one away under a writer in another process would cost it a flush it counted on."""
        gone: dict[str, str] = {}
        folders: dict[str, None] = {}
        for key in keys:
            path = self._base + path_of(key)
            try:
                os.unlink(path)
                self._unflushed.pop(path, None)
                folders[path.rpartition("/")[0]] = None
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError:
                continue  # not confirmed; the caller sees it missing in the answer
            gone[key] = path.rpartition("/")[0]
        unflushed: dict[str, None] = {}
        if self._flush:
            for folder in folders:
                try:
                    _fsync_folder(folder)
                except OSError:
                    unflushed[folder] = None
        return [key for key in keys if key in gone and gone[key] not in unflushed]

    def walk(self, folder: str) -> Iterator[ObjectInfo]:
        """Objects below `folder` ("" or with a trailing slash), sorted by key, read as they are asked for."""
        try:
            yield from self._walk(self._base + folder)
        except OSError as error:
            raise Unavailable(f"cannot list {self._base}{folder}: {error.strerror}") from error

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(folder) as found:
                entries = [(e.name + "/" if e.is_dir() else e.name, e) for e in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        entries.sort(key=lambda entry: entry[0])
        if any(key_of(f"{folder}{name}x") != f"{folder}{name}x" for name, _ in entries if name.endswith("/")):
            # fanned out: its folders' contents interleave, so this one folder (an epoch's objects) is sorted as a whole
            yield from sorted(self._each(folder, entries), key=lambda info: info.key)
        else:
            yield from self._each(folder, entries)

    def _each(self, folder: str, entries: Sequence[tuple[str, os.DirEntry[str]]]) -> Iterator[ObjectInfo]:
        for name, entry in entries:
            path = folder + name
            if path == self._temporary:
                continue
            if name.endswith("/"):
                yield from self._walk(path)
                continue
            try:
                found = entry.stat()
            except FileNotFoundError:
                continue  # deleted while we walked
            yield ObjectInfo(key_of(path[len(self._base) :]), found.st_size, found.st_mtime_ns // 1_000_000)

    def _remove_stale(self) -> None:
        """Temporary files of processes that ended in the middle; those of live ones stay."""
        with os.scandir(self._temporary) as found:
            for entry in found:
                pid = entry.name.split("-")[1] if entry.name.count("-") == 2 else ""
                if pid.isdigit() and not _alive(int(pid)):
                    try:
                        os.unlink(entry.path)
                    except FileNotFoundError:
                        pass


def _write_groups(parts: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    """The parts in groups for one call each, large ones cut into views; nothing is copied."""
    if len(parts) <= PARTS_PER_WRITE and sum(len(part) for part in parts) <= WRITE_BYTES:
        yield parts
        return
    group: list[Buffer] = []
    room = WRITE_BYTES
    for part in parts:
        rest = memoryview(part)
        while rest:
            taken = rest[:room]
            group.append(taken)
            rest, room = rest[len(taken) :], room - len(taken)
            if room == 0 or len(group) == PARTS_PER_WRITE:
                yield group
                group, room = [], WRITE_BYTES
    if group:
        yield group


def _write_all(fd: int, parts: Sequence[Buffer]) -> None:
    total = sum(len(part) for part in parts)
    written = os.writev(fd, parts)
    while written < total:  # a full disk or a signal cut it short: go on where it stopped
        skip, rest = written, []
        for part in parts:
            if skip < len(part):
                rest.append(memoryview(part)[skip:])
            skip = max(0, skip - len(part))
        parts, total = rest, total - written
        written = os.writev(fd, parts)


def _fsync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(fd)
    finally:
        os.close(fd)


def _flush_way_to(root: Path) -> None:
    """Flush every folder above `root` up to the mount point: whoever made them may have flushed nothing."""
    for folder in root.parents:
        try:
            _fsync_folder(str(folder))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL):
                raise
            break  # a folder we may not open, or that can't change, is not one we made
        if os.path.ismount(folder):
            break


def _fsync(fd: int) -> None:
    if _FULL_FSYNC is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, _FULL_FSYNC)  # macOS: fsync alone stops at the drive's cache


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
